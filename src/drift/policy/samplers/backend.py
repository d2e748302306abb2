"""What a backend is: it cuts requests into batches that can be done again whole, and answers them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drift.config import PolicySettings, SamplingSettings
from drift.policy.decode import Generated
from drift.policy.model import Policy, PolicyFacts
from drift.records import ChatMessage


@dataclass(frozen=True, slots=True)
class Request:
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


Batch = tuple[int, Sequence[Request]]


class Backend(Protocol):
    """`facts`: of the policy that prompts are cut for. `policy_id`: of the one that answers.

    `name` stands in every Completion as its sampler.
    """

    name: str
    facts: PolicyFacts
    policy_id: str

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """Rows of `requests` to batches, each row in one of them."""
        ...

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        """Each batch's number with its completions in order, as the batches are done.

        A completion that the backend could not get has finish `error`.
        """
        ...
