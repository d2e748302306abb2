"""Who answers the prompts: the model in this process, vLLM in a process of its own, or any server.

Each backend is a module of this folder with a function `open_backend`; its name stands in `records.BackendName`, from
which the config takes what `sampling.backend` allows.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import get_args

from drift.policy.samplers.backend import Backend, Job
from drift.records import BackendName

BACKENDS: dict[str, Callable[[Job], AbstractContextManager[Backend]]] = {
    name: import_module(f"{__name__}.{name}").open_backend for name in get_args(BackendName)
}

__all__ = ["BACKENDS", "Backend", "Job"]
