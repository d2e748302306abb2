"""The policy in the workers of an engine: each loads it once, and computes as one process would.

A sum depends on the number of CPU threads, so workers use those of the process that started them.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from drift.config import PolicySettings
from drift.engine import Engine, Local, current_engine
from drift.errors import PrerequisiteError
from drift.policy.model import Policy, cpu_threads, load_policy


def engine_for_models(settings: PolicySettings) -> AbstractContextManager[Engine]:
    """An engine whose workers each have room for a model, as the current engine allows; with one worker, it is this
    process. A policy in 4 bits stays here: the process that hands the pieces out loads it too, on the CPU."""
    if settings.lora and settings.lora.quantize:
        return nullcontext(Local())
    return current_engine().for_models(torch.get_num_threads(), torch.cuda.device_count())


@dataclass(frozen=True, slots=True)
class SpreadPolicy:
    """What a worker needs to load the policy: source, settings as JSON, the id of the weights, CPU threads."""

    source: str
    settings: str
    policy_id: str
    threads: int

    @classmethod
    def of(cls, source: Path | str, settings: PolicySettings, policy_id: str) -> "SpreadPolicy":
        return cls(str(source), settings.model_dump_json(), policy_id, torch.get_num_threads())

    @contextmanager
    def loaded(self) -> Iterator[Policy]:
        """In a worker. Raises PrerequisiteError if its weights under this name are other ones."""
        with cpu_threads(self.threads):
            yield _load(self)


@lru_cache(maxsize=1)
def _load(spread: SpreadPolicy) -> Policy:
    policy = load_policy(spread.source, PolicySettings.model_validate_json(spread.settings))
    if policy.policy_id != spread.policy_id:
        raise PrerequisiteError(
            f"{spread.source}: a worker loaded other weights ({policy.policy_id}) than the run has "
            f"({spread.policy_id}). Every node needs the same model under this name."
        )
    return policy
