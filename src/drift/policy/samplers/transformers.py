"""The model in this process, with our own decoding loop: completions that depend on their random stream alone.

With an engine that has room for several models (`cluster.address`), each of its workers loads the policy once and
answers one batch after another. Batches and threads are those of one process, and so are the completions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drift.config import SamplingSettings
from drift.engine import Engine
from drift.policy.decode import Generated, decode_batch, plan_batches
from drift.policy.model import Policy, load_policy, read_facts
from drift.policy.samplers.backend import Batch, Job, SamplingRequest
from drift.policy.spread import SpreadPolicy, engine_for_models


@contextmanager
def open_backend(job: Job) -> Iterator["LocalBackend | SpreadBackend"]:
    if isinstance(job.policy, Policy):
        yield LocalBackend(job.policy, job.sampling)
        return
    with engine_for_models(job.settings) as engine:
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
        self.work = partial(_answer, SpreadPolicy.of(source, job.settings, self.policy_id), job.sampling)

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
class SamplePiece:
    """A batch: the ids and the key of each prompt."""

    name: str
    prompts: Sequence[tuple[tuple[int, ...], str]]


def _answer(spread: SpreadPolicy, sampling: SamplingSettings, piece: SamplePiece) -> list[Generated]:
    """In a worker: one batch."""
    ids, keys = zip(*piece.prompts, strict=True)
    with spread.loaded() as policy:
        return decode_batch(policy, ids, keys, sampling)


def _plan(requests: Sequence[SamplingRequest], sampling: SamplingSettings) -> list[list[int]]:
    lengths = [len(request.ids) for request in requests]
    return plan_batches(lengths, [request.conversation_id for request in requests], sampling)
