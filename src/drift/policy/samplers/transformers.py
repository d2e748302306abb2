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
from drift.policy.decode import Generated, decode_batch, make_durably, plan_batches
from drift.policy.model import Policy
from drift.policy.samplers.backend import Job, NumberedBatch, SamplingRequest
from drift.policy.spread import AnyPolicy, each_on, policy_for_pieces


@contextmanager
def open_backend(job: Job) -> Iterator["LocalBackend"]:
    if isinstance(job.policy, Policy):
        yield LocalBackend(job.policy, job.sampling)
        return
    with policy_for_pieces(job.policy, job.settings) as policy:
        yield LocalBackend(policy, job.sampling)


class LocalBackend:
    """Answers batches of similar lengths, each within `sampling.batch_tokens`."""

    name = "transformers"

    def __init__(self, policy: AnyPolicy, sampling: SamplingSettings):
        self.policy = policy
        self.facts = policy.facts
        self.policy_id = self.facts.policy_id
        self.sampling = sampling

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        lengths = [len(request.ids) for request in requests]
        return plan_batches(lengths, [request.conversation_id for request in requests], self.sampling)

    def run(self, batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
        prompts = [(number, [(request.ids, request.key) for request in requests]) for number, requests in batches]
        return decode_batches(self.policy, prompts, self.sampling)


Prompts = Sequence[tuple[Sequence[int], str]]
"""The ids of prompts, each with the key of its random stream."""


def generate(
    policy: AnyPolicy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    sampling: SamplingSettings,
    work: Path | None = None,
) -> list[Generated]:
    """One completion per prompt, in order, as `decode_batch` makes them; `keys` name the random stream of each.

    `work`: a folder for the journal of finished batches, from which the next call with the same policy and settings
    resumes.
    """
    plan = plan_batches([len(prompt) for prompt in prompts], [""] * len(prompts), sampling)

    def run(missing: Sequence[int]) -> Iterator[tuple[int, list[Generated]]]:
        batches = [(number, [(prompts[row], keys[row]) for row in plan[number]]) for number in missing]
        return decode_batches(policy, batches, sampling)

    return make_durably(work, plan, keys, run)


def decode_batches(
    policy: AnyPolicy, batches: Sequence[tuple[int, Prompts]], sampling: SamplingSettings
) -> Iterator[tuple[int, list[Generated]]]:
    """Yield each batch's number and its completions, as batches are done."""
    pieces = [SamplePiece(f"batch {number} of the replies", prompts) for number, prompts in batches]
    for place, replies in each_on(policy, partial(_decode, sampling), pieces):
        yield batches[place][0], replies


@dataclass(frozen=True, slots=True)
class SamplePiece:
    """A batch."""

    name: str
    prompts: Prompts


def _decode(sampling: SamplingSettings, policy: Policy, piece: SamplePiece) -> list[Generated]:
    ids, keys = zip(*piece.prompts, strict=True)
    return decode_batch(policy, ids, keys, sampling)
