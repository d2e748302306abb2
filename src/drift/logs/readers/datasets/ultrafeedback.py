"""UltraFeedback: replies with scores from 1 to 10, without users. A low score replaces the user's dissatisfaction.

Either `{instruction, completions: [{response, overall_score}]}` or the binarised `{prompt, chosen, rejected,
score_chosen, score_rejected}` with message lists. A row becomes one conversation: the request, its worst reply
(disliked with a score of at most MAX_DISLIKED_SCORE), and its best reply if its score is at least MIN_LIKED_SCORE.
There are no complaints, so sampling is unguided.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, has, name_of, text_of
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.unread import MESSAGE, keys
from drift.records import Message, Rating, Reason

MAX_DISLIKED_SCORE, MIN_LIKED_SCORE = 5.0, 8.0

KEYS = keys(
    "id prompt_id instruction prompt score_rejected score_chosen",
    completions=keys("response overall_score"),
    chosen=MESSAGE,
    rejected=MESSAGE,
)


def recognises(row: Mapping[str, Any]) -> bool:
    return has(row, "instruction", "completions") or has(row, "score_rejected", "prompt")


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    """Raises Unusable for a row without two scored replies."""
    scored = sorted(_scored(row.value), key=lambda reply: reply[1])
    if len(scored) < 2:
        raise Unusable(Reason.NO_MESSAGES, "fewer than two scored replies")
    (worst, low), (best, high) = scored[0], scored[-1]
    messages = [Message("user", _request(row.value)), Message("assistant", worst)]
    ratings = [Rating(1, "score", -1.0)] if low <= MAX_DISLIKED_SCORE else []
    if high >= MIN_LIKED_SCORE:
        messages.append(Message("assistant", best))
        ratings.append(Rating(2, "score", 1.0))
    source_id = name_of(row.value.get("id") or row.value.get("prompt_id"))
    return ConversationDraft(
        at=row.at, messages=tuple(messages), source_id=source_id, ratings=tuple(ratings), identity_until=1
    )


def _request(row: Mapping[str, Any]) -> str:
    return text_of(row["instruction"] if has(row, "instruction") else row.get("prompt"), "the request")


def _scored(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the replies that have a score, with it."""
    if has(row, "completions"):
        completions = row["completions"]
        if not isinstance(completions, list) or not all(isinstance(entry, Mapping) for entry in completions):
            raise Unusable(Reason.BAD_CONTENT, "completions is not a list of objects")
        pairs = [(entry.get("response"), entry.get("overall_score")) for entry in completions]
    else:
        pairs = [(_last(row.get(side)), row.get(f"score_{side}")) for side in ("rejected", "chosen")]
    for reply, score in pairs:
        if isinstance(score, int | float) and not isinstance(score, bool):
            yield text_of(reply, "a reply"), float(score)


def _last(messages: Any) -> Any:
    """The content of the last message of a list; anything else as it is."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last.get("content") if isinstance(last, Mapping) else messages
