"""Judgements as feedback rows write them: a number, a word, a corrected reply."""

from typing import Any

from drift.logs.draft import Evidence
from drift.logs.readers.texts import plain_messages
from drift.logs.rows import Place, Unusable, encodable
from drift.records import RatingKind, Reason

WORDS = {
    **dict.fromkeys(("up", "thumbs_up", "thumbs-up", "positive", "good", "like", "liked", "correct", "pass"), 1.0),
    **dict.fromkeys(("passed", "yes", "true", "helpful", "satisfied", "accepted"), 1.0),
    **dict.fromkeys(("down", "thumbs_down", "thumbs-down", "negative", "bad", "dislike", "disliked"), -1.0),
    **dict.fromkeys(("incorrect", "fail", "failed", "no", "false", "unhelpful", "not_helpful", "dissatisfied"), -1.0),
    **dict.fromkeys(("rejected", "wrong"), -1.0),
    **dict.fromkeys(("neutral", "skip", "unsure"), 0.0),
}
_HUGE = 1e300
_OF_USERS = ("thumb", "user", "feedback", "like", "human")


def judgement(
    at: Place, about: list[str | None], name: str, value: Any, word: Any, comment: Any, correction: Any = None
) -> Evidence:
    """Evidence of one feedback row; `name` is that of the score. Raises Unusable if it says neither good nor bad."""
    said = encodable(comment) if isinstance(comment, str) and comment else None
    ids = tuple(part for part in about if part)
    if corrected := _text(correction):
        return Evidence(at, ids, "correction", -1.0, comment=said, preferred=corrected)
    kind: RatingKind = "thumb" if any(part in name.lower() for part in _OF_USERS) else "score"
    for told in (value, word):
        if isinstance(told, bool):
            return Evidence(at, ids, kind, 1.0 if told else -1.0, comment=said)
        if isinstance(told, str) and told.strip().lower() in WORDS:
            return Evidence(at, ids, kind, WORDS[told.strip().lower()], comment=said)
        number = _number(told)
        if number is not None:
            return Evidence(at, ids, kind, number, scale=name, comment=said)
    shown = repr(word if value is None else value)[:100]
    raise Unusable(Reason.NO_VERDICT, f"{name} is {shown}: neither a number nor a word for good or bad")


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or not -_HUGE < value < _HUGE:
        return None
    return float(value)


def _text(correction: Any) -> str | None:
    """The corrected reply: as text, as a message, or as an object with one text in it."""
    found = plain_messages(correction, "assistant")
    if not found and isinstance(correction, dict) and len(correction) == 1:
        found = plain_messages(next(iter(correction.values())), "assistant")
    content = found[-1].get("content") if found else None
    return encodable(content) if isinstance(content, str) and content.strip() else None
