"""Read the judgement in a feedback row: a number, a word, or a corrected reply."""

import re
from typing import Any

from drift.logs.draft import Evidence
from drift.logs.files.rows import Place, Unusable, encodable, short_form
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
        spoken = judged.strip().lower() if isinstance(judged, str) else ""
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
