"""The policy in the workers of an engine: each loads it once, and computes as one process would.

A sum depends on the number of CPU threads, so workers use those of the process that started them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import torch

from drift.config import PolicySettings, SamplingSettings
from drift.engine import Engine, Local, current_engine
from drift.errors import PrerequisiteError
from drift.policy.chat import ChatFormat
from drift.policy.model import EVERY_GPU, Policy, PolicyFacts, cpu_threads, load_policy, read_facts

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def engine_for_models(settings: PolicySettings) -> AbstractContextManager[Engine]:
    """An engine whose workers each have room for a model, as the current engine allows; with one worker, it is this
    process. A policy in 4 bits stays here: the process that hands the pieces out loads it too, on the CPU."""
    if settings.lora and settings.lora.quantize:
        return nullcontext(Local())
    return current_engine().for_models(torch.get_num_threads(), torch.cuda.device_count())


def check_replicas(sampling: SamplingSettings) -> None:
    """Raises PrerequisiteError, before any work, if no machine of the engine has the GPUs of a replica."""
    chosen = sampling.vllm.gpus if sampling.backend == "vllm" else ()
    with engine_for_servers(()), engine_for_servers(chosen):
        pass


def engine_for_servers(only: Sequence[int]) -> AbstractContextManager[Engine]:
    """An engine whose workers each have the GPUs of a replica for a server of their own; without several replicas, it
    is this process. `only`: the numbers of this machine's GPUs that may be used; empty: all."""
    return current_engine().for_models(None, torch.cuda.device_count(), only)


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


@dataclass(frozen=True, slots=True)
class PolicyInWorkers:
    """A policy that the workers of `engine` have loaded, instead of this process. `facts`: what is known of it here."""

    engine: Engine
    spread: SpreadPolicy
    facts: PolicyFacts

    @property
    def chat(self) -> ChatFormat:
        return self.facts.chat


AnyPolicy = Policy | PolicyInWorkers


@contextmanager
def policy_for_pieces(source: Path | str, settings: PolicySettings) -> Iterator[AnyPolicy]:
    """The policy where `each_on` finds it: in the workers of the current engine, as far as they have room for models,
    else in this process. The workers end with the block."""
    with engine_for_models(settings) as engine:
        if engine.workers == 1:
            yield load_policy(source, settings)
        else:
            facts = read_facts(source, settings)
            yield PolicyInWorkers(engine, SpreadPolicy.of(source, settings, facts.policy_id), facts)


def each_on(
    policy: AnyPolicy, work: Callable[[Policy, Piece], Result], pieces: Sequence[Piece]
) -> Iterator[tuple[int, Result]]:
    """As `Engine.each`, where `work` is a function of a module that needs the policy too."""
    if isinstance(policy, Policy):
        return Local().each(partial(work, policy), pieces)
    return policy.engine.each(partial(_with_policy, policy.spread, work), pieces)


def _with_policy(spread: SpreadPolicy, work: Callable[[Policy, Piece], Result], piece: Piece) -> Result:
    """In a worker."""
    with spread.loaded() as policy:
        return work(policy, piece)


@lru_cache(maxsize=1)
def _load(spread: SpreadPolicy) -> Policy:
    _load.cache_clear()  # the policy before this one: a worker has room for one
    policy = load_policy(spread.source, PolicySettings.model_validate_json(spread.settings), EVERY_GPU)
    check_same_weights(spread.source, policy.policy_id, spread.policy_id)
    return policy


def check_same_weights(source: str, loaded: str, expected: str) -> None:
    """In a worker. Raises PrerequisiteError if the ids of the weights differ."""
    if loaded != expected:
        raise PrerequisiteError(
            f"{source}: a worker loaded other weights ({loaded}) than the run has ({expected}). Every node needs the "
            "same model under this name."
        )
