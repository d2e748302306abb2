"""Judgements as feedback rows write them: a number, a word, a corrected reply."""

import re
from typing import Any

from drift.logs.draft import Evidence
from drift.logs.files.rows import Place, Unusable, encodable
from drift.logs.traces.texts import plain_messages
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
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _words(text: str) -> frozenset[str]:
    """Of a name like `user_rating`, `user rating` or `userRating`."""
    return frozenset(part.lower() for part in _WORD.findall(text))


_OF_USERS = _words(
    """user users human humans customer customers feedback thumb thumbs thumbsup thumbsdown like likes liked dislike
    dislikes disliked userfeedback humanfeedback userrating userscore"""
)
_DISLIKE = _words("dislike dislikes disliked thumbsdown")
_STARS = _words("star stars rating ratings userrating likert csat nps grade")
# Measures of something bad, or of no quality at all. Tools disagree on what such a number says: a hallucination score
# of 1 is the worst of one judge and a pass of another.
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
# These answer the question that a name asks, where others (`pass`, `wrong`) say by themselves what was thought.
_YES_NO = frozenset({"yes", "no", "true", "false", "positive", "negative"})


def judgement(
    at: Place, about: list[str | None], name: str, value: Any, word: Any, comment: Any, correction: Any = None
) -> Evidence:
    """Evidence of one feedback row; `name` is that of the score. Raises Unusable if it says neither good nor bad."""
    said = encodable(comment) if isinstance(comment, str) and comment else None
    ids = tuple(part for part in about if part)
    if corrected := _text(correction):
        return Evidence(at, ids, "correction", -1.0, comment=said, preferred=corrected)
    parts = _words(name)
    down = parts & _DISLIKE or (parts & {"thumb", "thumbs"} and "down" in parts)
    dislike = bool(down) and not parts & {"up", "like", "likes", "liked"}
    praise = not (dislike or parts & _NO_PRAISE)
    kind: RatingKind = "thumb" if parts & _OF_USERS else "score"
    told_of = f"{name} is {repr(word if value is None else value)[:100]}"
    for told in (value, word):
        spoken = told.strip().lower() if isinstance(told, str) else ""
        if spoken in WORDS and (praise or spoken not in _YES_NO):
            return Evidence(at, ids, kind, WORDS[spoken], comment=said)
        number = _number(told)
        if number is None and spoken not in WORDS:
            continue
        if dislike and (number in (1, -1) or spoken in ("yes", "true")):
            return Evidence(at, ids, kind, -1.0, comment=said)
        if praise and isinstance(told, bool):
            return Evidence(at, ids, kind, 1.0 if told else -1.0, comment=said)
        if praise and number is not None:
            return Evidence(at, ids, kind, number, scale=name, comment=said, stars=bool(parts & _STARS))
    unclear = "neither a number nor a word for good or bad" if praise else "which way is good is not known"
    raise Unusable(Reason.NO_VERDICT, f"{told_of}: {unclear}")


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
