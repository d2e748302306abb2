"""UltraFeedback: replies with scores of 1 to 10 and no users. A low score stands in for dissatisfaction.

Either `{instruction, completions: [{response, overall_score}]}` or the binarised `{prompt, chosen, rejected,
score_chosen, score_rejected}` with message lists. A row becomes one conversation: the request, its worst reply,
disliked if it scored LOW or less, and its best, liked from HIGH on. Nobody complains, so sampling is unguided.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import each
from drift.logs.draft import ConversationDraft, name_of, text_of
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.records import Message, Rating, Reason

LOW, HIGH = 5.0, 8.0


def recognises(row: Mapping[str, Any]) -> bool:
    return ("instruction" in row and "completions" in row) or ("score_rejected" in row and "prompt" in row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return each(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    """Raises Unusable for a row without two scored replies."""
    scored = sorted(_scored(row.value), key=lambda reply: reply[1])
    if len(scored) < 2:
        raise Unusable(Reason.NO_MESSAGES, "fewer than two scored replies")
    (worst, low), (best, high) = scored[0], scored[-1]
    messages = [Message("user", _request(row.value)), Message("assistant", worst)]
    ratings = [Rating(1, "score", -1.0)] if low <= LOW else []
    if high >= HIGH:
        messages.append(Message("assistant", best))
        ratings.append(Rating(2, "score", 1.0))
    source_id = name_of(row.value.get("id") or row.value.get("prompt_id"))
    return ConversationDraft(
        at=row.at, messages=tuple(messages), source_id=source_id, ratings=tuple(ratings), identity_until=1
    )


def _request(row: Mapping[str, Any]) -> str:
    return text_of(row.get("instruction", row.get("prompt")), "the request")


def _scored(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Replies with their scores; those without one are left out."""
    if "completions" in row:
        completions = row["completions"]
        if not isinstance(completions, list) or not all(isinstance(each, Mapping) for each in completions):
            raise Unusable(Reason.BAD_CONTENT, "completions is no list of objects")
        pairs = [(entry.get("response"), entry.get("overall_score")) for entry in completions]
    else:
        pairs = [(_last(row.get(side)), row.get(f"score_{side}")) for side in ("rejected", "chosen")]
    for reply, score in pairs:
        if isinstance(score, int | float) and not isinstance(score, bool):
            yield text_of(reply, "a reply"), float(score)


def _last(messages: Any) -> Any:
    """The reply that a message list ends with."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last.get("content") if isinstance(last, Mapping) else messages
