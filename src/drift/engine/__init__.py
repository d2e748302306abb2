"""Where pieces of work run. Other rooms use what is listed here; `on_ray.py` alone imports ray."""

from drift.engine.engine import Engine, Local, current_engine, in_pieces, using_engine
from drift.engine.kept import kept, let_go
from drift.engine.memory import rare_collections
from drift.engine.open import open_engine
from drift.engine.processes import Processes, end_on_interrupt, end_with_parent, interrupts_wait, spawn_context
from drift.engine.together import MachineLost, Together

__all__ = [
    "Engine",
    "Local",
    "MachineLost",
    "Processes",
    "Together",
    "current_engine",
    "end_on_interrupt",
    "end_with_parent",
    "in_pieces",
    "interrupts_wait",
    "kept",
    "let_go",
    "open_engine",
    "rare_collections",
    "spawn_context",
    "using_engine",
]
