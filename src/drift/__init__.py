"""DRIFT: chat logs of a deployed assistant in, a better model out (arXiv 2510.02341).

Usage:
    store = drift.Store(Path("stores/mine"))
    drift.ingest([Path("chats.json")], store)
    drift.label_store(store)
    drift.run_config(drift.load_config(Path("mine.yaml")), out=None)
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Torch reads it at its first tensor: large ones get pages of 2 MiB where Linux lets a program ask for them ("madvise").
# On a CPU a training step spends less time on memory that is new to the process.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_HOMES = {
    "Config": "drift.config",
    "load_config": "drift.config",
    "DriftError": "drift.errors",
    "EmbeddedLabeller": "drift.feedback.embedded.labeller",
    "label_store": "drift.feedback.label",
    "ingest": "drift.logs.ingest",
    "load_run": "drift.rundir",
    "run_config": "drift.run",
    "Store": "drift.store",
    "write_report": "drift.report",
}
__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """The public names, each imported when it is first asked for: `drift --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'drift' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
