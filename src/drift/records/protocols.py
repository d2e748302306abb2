"""What the stages are written against: labellers, samplers, scorers, and the truth of a simulated world."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from drift.records.jsonl import stable_hash
from drift.records.logs import Conversation, FeedbackLabel
from drift.records.messages import ChatMessage
from drift.records.names import Finish
from drift.records.pairs import Completion, PromptItem


class Labeller(Protocol):
    """Conversations in, one label per user turn that follows a reply out (about THAT reply)."""

    version: str

    def label(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]: ...


class Sampler(Protocol):
    """Prompts in, completions out, in the order of the prompts."""

    def sample(self, prompts: Sequence[PromptItem], iteration: int) -> list[Completion]: ...


class Scorer(Protocol):
    """How good is this completion of this prompt? It may decide which pairs there are; it never enters the loss.

    `finish`: `length` if the completion was cut at the token limit, which a truth may count as wrong.
    """

    def score(self, prompt: Sequence[ChatMessage], completion: str, finish: Finish = "stop") -> float: ...


@dataclass(frozen=True, slots=True)
class ReplyToScore:
    """`text`: what a reader sees, calls included. `finish`: a truncated reply has no end token to score. `against`: the
    disliked reply; `complaint`: what the user said about it. `reply`: the message, for scorers that read it in the form
    of a chat template; None: the text alone."""

    prompt: tuple[ChatMessage, ...]
    text: str
    finish: Finish = "stop"
    against: str | None = None
    tools: str | None = None
    complaint: str | None = None
    reply: ChatMessage | None = None

    @property
    def message(self) -> ChatMessage:
        return self.reply or ChatMessage("assistant", self.text)


class BatchScorer(Protocol):
    """Scores replies in their order, higher is better; None for a reply that it cannot score."""

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]: ...


@dataclass(frozen=True, slots=True)
class Truth:
    """Held-out prompts and the world's verdict on any reply to them. Only evaluation and the oracle scorers see it.

    `parts`: what the verdict on a prompt, a completion and its finish is made of, by name; each in [0, 1].
    `contradict`: what a user says who takes a right reply to a prompt for wrong, where the world has wrong answers.
    """

    prompts: tuple[tuple[ChatMessage, ...], ...]
    scorer: Scorer
    world: str
    parts: Callable[[Sequence[ChatMessage], str, Finish], Mapping[str, float]] | None = None
    contradict: Callable[[Sequence[ChatMessage], str], str] | None = None

    def fingerprint(self) -> str:
        return stable_hash(self.world, self.prompts)
