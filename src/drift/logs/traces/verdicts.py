"""Read the judgement in a feedback row, or beside a reply: a number, a word, stars, or a corrected reply."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.draft import Evidence, name_of, seconds_of, structured, text_of
from drift.logs.files.rows import Place, Reject, Unusable, encodable, short_form
from drift.logs.traces.texts import plain_messages
from drift.records import Rating, RatingKind, Reason

WORDS = {
    **dict.fromkeys(("up", "thumbs_up", "thumbs-up", "positive", "good", "like", "liked", "correct", "pass"), 1.0),
    **dict.fromkeys(("passed", "yes", "true", "helpful", "satisfied", "accepted"), 1.0),
    **dict.fromkeys(("down", "thumbs_down", "thumbs-down", "negative", "bad", "dislike", "disliked"), -1.0),
    **dict.fromkeys(("incorrect", "fail", "failed", "no", "false", "unhelpful", "not_helpful", "dissatisfied"), -1.0),
    **dict.fromkeys(("rejected", "wrong"), -1.0),
    **dict.fromkeys(("neutral", "skip", "unsure"), 0.0),
}
VERDICTS = ("user_feedback", "feedback", "user_rating", "rating", "thumb", "score")
"""Names under which people put a judgement beside a reply: a word, a number, or an object of these."""
JUDGED = frozenset(VERDICTS)
INSIDE = ("thumb", "value", "rating", "score")
"""Where such an object has the judgement, beside its `comment`."""
TIMES = (
    "updated_at", "updatedAt", "modified_at", "last_update_time", "last_update_time_ms", "timestamp", "created_at",
    "createdAt", "createdDate", "create_time", "create_time_ms",
)  # fmt: skip
"""Where a row of a judgement has its time: first that of the last change."""
MOST_STARS = 5.0
_THUMBS = {"👍": "up", "👎": "down"}
_SKIN = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")
_WRITTEN_STARS = re.compile(r"(\d(?:[.,]\d+)?)\s*(?:/\s*5|stars?|★|⭐)", re.IGNORECASE)
_FILLED, _EMPTY = "★⭐", "☆"
_HUGE = 1e300
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _words(text: str) -> frozenset[str]:
    """The words of a name like `user_rating`, `user rating` or `userRating`."""
    return frozenset(part.lower() for part in _WORD.findall(text))


_OF_USERS = _words(
    """user users human humans customer customers feedback thumb thumbs thumbsup thumbsdown like likes liked dislike
    dislikes disliked userfeedback humanfeedback userrating userscore"""
)
_DISLIKE = _words("dislike dislikes disliked thumbsdown")
_STARS = _words("star stars rating ratings userrating likert csat nps grade")
# Scores of something bad, or not of quality. Tools disagree about their direction: a hallucination score of 1 is the
# worst result of one judge and a pass of another.
_NO_PRAISE = _words(
    """
    abuse abusive aggression aggressive anger angry annoyance attack attacks bad badness bias biased biases bug
    bugs churn complaint complaints confused confusion contradiction contradictions controversiality cost costs
    count criminality danger dangerous deception deceptive delay disagreement disinformation dissatisfaction
    dissatisfied distance duration entropy error errors escalated escalation escalations exception exceptions
    fabricated fabrication fail failed fails failure failures fault faults flag flagged frustrated frustration
    hallucinated hallucinating hallucination hallucinations harm harmful harmfulness harms hate hateful
    hatefulness hostile hostility inaccuracy inaccurate incoherence incorrect incorrectness injection
    insensitivity insult insults irrelevance irrelevant issues jailbreak jailbreaks latency leak leakage leaks
    length loss malicious maliciousness misinformation misogyny mistake mistakes negative negativity nsfw
    offensive offensiveness perplexity pii plagiarism poor price problems profane profanity racism racist
    redundancy refund refunds refusal refusals refuse refused rejected rejection repetition repetitive retries
    retry risk risks seconds severity sexism sexist sexual spam stereotype stereotypes stereotyping sycophancy
    time timeout timeouts tokens toxic toxicity ttft uncertainty unfaithful ungrounded unhelpful unhelpfulness
    unsafe verbose verbosity violation violations violence violent wer wrong no non not never un without
    """
)
# These words answer the question in the score's name; others (`pass`, `wrong`) are a judgement by themselves.
_YES_NO = frozenset({"yes", "no", "true", "false", "positive", "negative"})


def judgement(
    at: Place, about: list[str | None], name: str, value: Any, word: Any, comment: Any, correction: Any = None
) -> Evidence:
    """The evidence in one feedback row; `name` is that of the score. Raises Unusable if it is neither good nor bad."""
    remark = encodable(comment) if isinstance(comment, str) and comment else None
    ids = tuple(name for name in about if name)
    if corrected := _text(correction):
        return Evidence(at, ids, "correction", -1.0, comment=remark, preferred=corrected)
    parts = _words(name)
    down = parts & _DISLIKE or (parts & {"thumb", "thumbs"} and "down" in parts)
    dislike = bool(down) and not parts & {"up", "like", "likes", "liked"}
    praise = not (dislike or parts & _NO_PRAISE)
    kind: RatingKind = "thumb" if parts & _OF_USERS else "score"
    for judged in (value, word):
        spoken = _spoken(judged)
        if spoken in WORDS and (praise or spoken not in _YES_NO):
            return Evidence(at, ids, kind, WORDS[spoken], comment=remark)
        number = _number(judged)
        if number is None and spoken not in WORDS:
            continue
        if dislike and (number in (1, -1) or spoken in ("yes", "true")):
            return Evidence(at, ids, kind, -1.0, comment=remark)
        if praise and isinstance(judged, bool):
            return Evidence(at, ids, kind, 1.0 if judged else -1.0, comment=remark)
        if praise and number is not None:
            return Evidence(at, ids, kind, number, scale=name, comment=remark, stars=bool(parts & _STARS))
    problem = "neither a number nor a word for good or bad" if praise else "unknown whether high or low is good"
    raise Unusable(Reason.NO_VERDICT, f"{name} is {short_form(word if value is None else value)}: {problem}")


def as_score(judged: Evidence) -> Evidence:
    """What an annotator or a model judged: a score even if its name sounds like a user's thumb."""
    return replace(judged, kind="score") if judged.kind == "thumb" else judged


def dated(evidence: Evidence, row: Mapping[str, Any]) -> Evidence:
    """The judgement with the time that its row has."""
    return replace(evidence, when=next(filter(None, (seconds_of(row.get(name)) for name in TIMES)), 0.0))


def judgement_beside(at: Place, about: list[str | None], name: str, value: Any) -> Evidence | None:
    """What stands beside a reply under one of VERDICTS, as evidence; None if nobody judged. Raises Unusable if it is
    neither good nor bad."""
    comment, value = None, structured(value)
    if isinstance(value, Mapping):
        given = value.get("comment")
        comment = (text_of(given, "the comment") or None) if isinstance(given, list) else name_of(given)
        value = next((value[key] for key in INSIDE if not is_unrated(value.get(key))), None)
    if is_unrated(value) and comment is None:
        return None
    word, number = (value, None) if isinstance(value, str) else (None, value)
    if (stars := stars_in(word)) is None:
        return judgement(at, about, name, number, word, comment)
    if not 1 < stars <= MOST_STARS:
        raise Unusable(Reason.NO_VERDICT, f"{name} is {short_form(word)}: one star of five, or a like?")
    return replace(judgement(at, about, name, stars, None, comment), value=value_of_stars(stars), scale=None)


def judgements_beside(at: Place, place: Mapping[str, Any], reply_index: int) -> Iterator[Rating | Reject]:
    """The judgements of a reply that an object holds: ratings, and those that say neither good nor bad."""
    for name in () if JUDGED.isdisjoint(place) else VERDICTS:
        try:
            rating = _rating_beside(at, name, place.get(name), reply_index)
        except Unusable as error:
            yield Reject(at, error.reason, error.detail)
        else:
            yield from () if rating is None else (rating,)


def _rating_beside(at: Place, name: str, value: Any, reply_index: int) -> Rating | None:
    """One of these. No other row shows the scale of a number: only a thumb (1, -1) says by itself what it means, and of
    what may be stars only -1."""
    judged = judgement_beside(at, [], name, value)
    if judged is None:
        return None
    is_thumb = judged.value in (1, -1) and judged.kind == "thumb" and not judged.stars
    if judged.scale is not None and not is_thumb and not (judged.value == -1 and judged.stars):
        detail = (
            f"{name} is {judged.value:g}: unknown whether high or low is good; allowed: a thumb, a word, stars (4/5)"
        )
        raise Unusable(Reason.NO_VERDICT, detail)
    return Rating(reply_index, judged.kind, judged.value, judged.comment)


def is_unrated(value: Any) -> bool:
    """Whether a place for a judgement is empty: null, NaN (an empty cell of pandas), an empty text or list, an object
    that holds nothing else."""
    if isinstance(value, Mapping):
        return all(inner in (None, "", [], {}) for inner in value.values())
    if isinstance(value, str):
        return not value.strip()
    return value is None or value == [] or value != value


def verdict_of(word: Any) -> float | None:
    """What a word, or a thumb as a sign, says: 1 for good, -1 for bad, 0 for neither. None for anything else."""
    return WORDS.get(_spoken(word))


def stars_in(text: Any) -> float | None:
    """The number in `4/5`, `4 stars`, `★★★★☆`; None if a value is not written so."""
    text = _SKIN.sub("", text).strip() if isinstance(text, str) else ""
    if text and set(text) <= {*_FILLED, _EMPTY}:
        return float(sum(text.count(sign) for sign in _FILLED))
    match = _WRITTEN_STARS.fullmatch(text)
    return float(match[1].replace(",", ".")) if match else None


def value_of_stars(stars: float) -> float:
    """1 to 5 stars between -1 and 1."""
    return (stars - 3) / 2


def _spoken(word: Any) -> str:
    """A word as WORDS has it: `Thumbs Up`, a sign of any colour."""
    text = _SKIN.sub("", word).strip().lower() if isinstance(word, str) else ""
    text = _THUMBS.get(text, text)
    return text if text in WORDS else re.sub(r"[\s-]+", "_", text)


def _number(value: Any) -> float | None:
    """A number, also one written as text; None for anything else, and for infinity and NaN."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or not -_HUGE < value < _HUGE:
        return None
    return float(value)


def _text(correction: Any) -> str | None:
    """The corrected reply, from a text, a message, or an object with one text in it; None if there is none."""
    messages = plain_messages(correction, "assistant")
    if not messages and isinstance(correction, dict) and len(correction) == 1:
        messages = plain_messages(next(iter(correction.values())), "assistant")
    content = messages[-1].get("content") if messages else None
    return encodable(content) if isinstance(content, str) and content.strip() else None
