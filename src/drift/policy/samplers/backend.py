"""What a sampler backend is: it splits requests into batches and answers them, batch by batch.

A batch is the unit of resuming: one that was not finished is done again as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drift.config import PolicySettings, SamplingSettings
from drift.policy.chat import EncodedPrompt
from drift.policy.decode import Generated
from drift.policy.model import Policy, PolicyFacts
from drift.records import ChatMessage


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """One completion to sample. `messages` and `ids` are the same prompt; `ids` may go on with the reply's opening.

    `key` names its random stream: seed, prompt, iteration and sample number. `tools`: schemas, as a JSON list.
    """

    prompt_id: str
    conversation_id: str
    sample: int
    guided: bool
    messages: tuple[ChatMessage, ...]
    ids: tuple[int, ...]
    key: str
    prompt: EncodedPrompt
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What a backend needs to know before it sees requests."""

    policy: Policy | Path | str
    settings: PolicySettings
    sampling: SamplingSettings
    iteration: int
    seed: int


NumberedBatch = tuple[int, Sequence[SamplingRequest]]
"""A batch's number in the plan, and its requests."""


class Backend(Protocol):
    """`facts`: of the policy whose context prompts must fit. `policy_id`: of the policy that answers.

    `name` becomes `Completion.sampler`.
    """

    name: str
    facts: PolicyFacts
    policy_id: str

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        """Indices of `requests`, in batches; each index is in one batch."""
        ...

    def run(self, batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
        """Yield each batch's number and its completions, in the order of its requests, as batches are done.

        A request that failed has a completion with finish `error`.
        """
        ...
