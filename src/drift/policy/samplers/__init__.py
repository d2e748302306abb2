"""Who answers: the model in this process, vLLM in one of its own, or any server. `BACKENDS` names them."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from drift.policy.samplers.backend import Backend, Job, local_backend
from drift.policy.samplers.endpoint import endpoint_backend
from drift.policy.samplers.vllm import vllm_backend

BACKENDS: dict[str, Callable[[Job], AbstractContextManager[Backend]]] = {
    "transformers": local_backend,
    "vllm": vllm_backend,
    "endpoint": endpoint_backend,
}

__all__ = ["BACKENDS", "Backend", "Job"]
