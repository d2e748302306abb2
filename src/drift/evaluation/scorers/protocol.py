"""What a scorer is asked: one fresh reply to a prompt, beside the reply that the user disliked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drift.records import ChatMessage, Finish


@dataclass(frozen=True, slots=True)
class Reply:
    """`finish`: a reply that was cut has no end token to be likely or unlikely. `against`: the disliked reply."""

    prompt: tuple[ChatMessage, ...]
    text: str
    finish: Finish = "stop"
    against: str | None = None


class BatchScorer(Protocol):
    """Scores replies in the order given, higher is better; None where it cannot tell."""

    def score_all(self, replies: Sequence[Reply]) -> list[float | None]: ...
