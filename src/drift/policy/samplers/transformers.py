"""The model in this process, with our own decoding loop: completions that depend on their random stream alone.

With an engine that has room for several models (`cluster.address`), each of its workers loads the policy once and
answers one batch after another. Batches and threads are those of one process, and so are the completions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from drift.config import PolicySettings, SamplingSettings
from drift.engine import Engine, current_engine
from drift.errors import PrerequisiteError
from drift.policy.decode import Generated, decode_batch, plan_batches
from drift.policy.model import Policy, cpu_threads, load_policy, read_facts
from drift.policy.samplers.backend import Batch, Job, SamplingRequest


@contextmanager
def open_backend(job: Job) -> Iterator["LocalBackend | SpreadBackend"]:
    if isinstance(job.policy, Policy):
        yield LocalBackend(job.policy, job.sampling)
        return
    with current_engine().for_models(torch.get_num_threads(), torch.cuda.device_count()) as engine:
        if engine.workers > 1:
            yield SpreadBackend(job, job.policy, engine)
        else:
            yield LocalBackend(load_policy(job.policy, job.settings), job.sampling)


class LocalBackend:
    """Answers batches of similar lengths, each within `sampling.batch_tokens`, one after the other."""

    name = "transformers"

    def __init__(self, policy: Policy, sampling: SamplingSettings):
        self.policy = policy
        self.facts = policy.facts
        self.policy_id = policy.policy_id
        self.sampling = sampling

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        return _plan(requests, self.sampling)

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        for number, requests in batches:
            prompts = [request.ids for request in requests]
            yield number, decode_batch(self.policy, prompts, [request.key for request in requests], self.sampling)


class SpreadBackend:
    """The same batches, each a piece of work for a worker of `engine`, which loads the policy."""

    name = "transformers"

    def __init__(self, job: Job, source: Path | str, engine: Engine):
        self.facts = read_facts(source, job.settings)
        self.policy_id = self.facts.policy_id
        self.sampling = job.sampling
        self.engine = engine
        model = PieceModel(str(source), job.settings.model_dump_json(), self.policy_id, torch.get_num_threads())
        self.work = partial(_answer, model, job.sampling)

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        return _plan(requests, self.sampling)

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        pieces = [
            SamplePiece(f"batch {number} of the replies", [(request.ids, request.key) for request in requests])
            for number, requests in batches
        ]
        for place, replies in self.engine.each(self.work, pieces):
            yield batches[place][0], replies


@dataclass(frozen=True, slots=True)
class PieceModel:
    """The policy that a worker loads: its source, settings (JSON), id, and the CPU threads of one process's run."""

    source: str
    settings: str
    policy_id: str
    threads: int


@dataclass(frozen=True, slots=True)
class SamplePiece:
    """A batch: the ids and the key of each prompt."""

    name: str
    prompts: Sequence[tuple[tuple[int, ...], str]]


def _answer(model: PieceModel, sampling: SamplingSettings, piece: SamplePiece) -> list[Generated]:
    """In a worker: one batch."""
    with cpu_threads(model.threads):  # another number would sum in another order
        ids, keys = zip(*piece.prompts, strict=True)
        return decode_batch(_loaded(model), ids, keys, sampling)


@lru_cache(maxsize=1)
def _loaded(model: PieceModel) -> Policy:
    """The policy, loaded with the first piece. Raises PrerequisiteError if it is another one than the driver's."""
    policy = load_policy(model.source, PolicySettings.model_validate_json(model.settings))
    if policy.policy_id != model.policy_id:
        raise PrerequisiteError(
            f"{model.source}: a worker loaded other weights ({policy.policy_id}) than the run has "
            f"({model.policy_id}). Every node needs the same model under this name."
        )
    return policy


def _plan(requests: Sequence[SamplingRequest], sampling: SamplingSettings) -> list[list[int]]:
    lengths = [len(request.ids) for request in requests]
    return plan_batches(lengths, [request.conversation_id for request in requests], sampling)
