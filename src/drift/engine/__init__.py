"""Where pieces of work run. Other rooms use what is listed here; `on_ray.py` alone imports ray."""

from drift.engine.engine import Engine, Local, current_engine, in_pieces, using_engine
from drift.engine.open import open_engine
from drift.engine.processes import Processes
from drift.engine.together import MachineLost, Together

__all__ = [
    "Engine",
    "Local",
    "MachineLost",
    "Processes",
    "Together",
    "current_engine",
    "in_pieces",
    "open_engine",
    "using_engine",
]
