"""What a backend is: it cuts requests into batches that can be done again whole, and answers them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drift.config import PolicySettings, SamplingSettings
from drift.policy.decode import Generated, decode_batch, plan_batches
from drift.policy.model import Policy, PolicyFacts, load_policy
from drift.records import ChatMessage


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """One completion to make. `messages` and `ids` are the same prompt, with whole turns left out if it was too long.

    `key` names its random stream: seed, prompt, iteration and sample number.
    """

    prompt_id: str
    conversation_id: str
    sample: int
    guided: bool
    messages: tuple[ChatMessage, ...]
    ids: tuple[int, ...]
    dropped_turns: int
    key: str


@dataclass(frozen=True, slots=True)
class Job:
    """What a backend is made from."""

    policy: Policy | Path | str
    settings: PolicySettings
    sampling: SamplingSettings
    iteration: int
    seed: int


Batch = tuple[int, Sequence[SamplingRequest]]


class Backend(Protocol):
    """`facts`: of the policy that prompts are cut for. `policy_id`: of the one that answers.

    `name` stands in every Completion as its sampler.
    """

    name: str
    facts: PolicyFacts
    policy_id: str

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        """Rows of `requests` to batches, each row in one of them."""
        ...

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        """Each batch's number with its completions in order, as the batches are done.

        A completion that the backend could not get has finish `error`.
        """
        ...


@contextmanager
def local_backend(job: Job) -> Iterator["LocalBackend"]:
    policy = job.policy if isinstance(job.policy, Policy) else load_policy(job.policy, job.settings)
    yield LocalBackend(policy, job.sampling)


class LocalBackend:
    """Batches of like lengths within a budget of tokens, one after the other."""

    name = "transformers"

    def __init__(self, policy: Policy, sampling: SamplingSettings):
        self.policy = policy
        self.facts = policy.facts
        self.policy_id = policy.policy_id
        self.sampling = sampling

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        lengths = [len(request.ids) for request in requests]
        return plan_batches(lengths, [request.conversation_id for request in requests], self.sampling)

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        for number, requests in batches:
            prompts = [request.ids for request in requests]
            yield number, decode_batch(self.policy, prompts, [request.key for request in requests], self.sampling)
