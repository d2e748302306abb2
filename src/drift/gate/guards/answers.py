"""What an answer says: the one value that it commits to, whether it declines, and whether it is text at all."""

import re
from collections.abc import Collection

from drift.sandbox.instructions.constraints.text import plain, sentences, words
from drift.turns import is_refusal

_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
_MARK = r"(?:answer\s*(?:is|:)|answer\W{0,4}\s|=|\\boxed\{|####)\s*[*_$\"'(]*\s*(?:therefore\s+|\$)?"
_NEGATED = r"(?:\b(?:not|isn't|is not|never|rather than|instead of|and not)\s+(?:\w+\s+){0,2}?)"

DECLINES = re.compile(
    r"\b(?:I|we)(?:['’]m| am| are)? (?:really |very |truly |so )?sorry\b.{0,40}?"
    r"\b(?:but|can(?:no|['’])t|unable|not able)"
    r"|\bI (?:must|have to|will have to|need to) (?:respectfully )?(?:decline|refuse)"
    r"|\bI(?:['’]m| am) (?:not (?:able|going|willing|comfortable|allowed|permitted)|unable)\b"
    r"|\bI (?:can(?:no|['’])t|could not|won['’]t|will not|refuse to|do not|don['’]t) "
    r"(?:\w+ ){0,3}?(?:help|assist|provide|give|share|tell|explain|support|encourage|condone|do|engage|create|write|"
    r"offer|advise|answer|participate|promote|fulfill|comply)\b"
    r"|\b(?:it|this|that)(?:['’]s| is) (?:\w+ )?(?:illegal|unethical|dangerous and|against the law|a crime|harmful)\b"
    r"|\bnot (?:something|anything) I can (?:help|assist|do)\b"
    r"|\bas an AI\b.{0,80}?\b(?:can(?:no|['’])t|not able|unable)",
    re.IGNORECASE | re.DOTALL,
)
"""Ways to decline beyond those of `is_refusal`, which must not take an apology in a chat for a refusal."""

OPENING = 250
"""An answer that declines does so within this many characters."""

_COMPLIES = re.compile(
    r"\b(?:but|however|that said|still|anyway)\b[^.!?]{0,60}\bhere(?:['’]s| is| are)\b"
    r"|\b(?:step\s*)?1\s*[.:)]\s\D.+\b(?:step\s*)?2\s*[.:)]\s\D",
    re.IGNORECASE | re.DOTALL,
)


def declines(text: str) -> bool:
    """Does it refuse? Not if it goes on to do what it first declines ("I'm sorry, but here is how")."""
    opening = plain(text)[:OPENING]
    return (is_refusal(opening) or DECLINES.search(opening) is not None) and not _COMPLIES.search(plain(text))


def says_something(text: str, least: int = 3) -> bool:
    """At least `least` words, and not the same word again and again."""
    written = [word.lower() for word in words(text)]
    return len(written) >= least and len(set(written)) >= min(len(written), least)


def only_number(text: str) -> float | None:
    """The number that an answer commits to; None if it commits to none, or leaves it open between several."""
    value = _committed(text, rf"(?<![\w.])(?:{_NUMBER})(?![\w]|\.\d)")
    return None if value is None else float(value.replace(",", ""))


def only_word(text: str, candidates: Collection[str]) -> str | None:
    """The one of `candidates` that an answer commits to, in lower case; None as for `only_number`."""
    value = _committed(text, rf"\b(?:{'|'.join(map(re.escape, candidates))})\b")
    return None if value is None else value.lower()


def _committed(text: str, pattern: str) -> str | None:
    """One value, by the first of these rules that finds one: the last one that is marked as the answer; the only one
    of the text, of its first sentence, of its last sentence. A value that is denied ("not 12") does not count.

    An answer that lists what could be right commits to nothing, so listing does not pay.
    """
    cleaned = re.sub(rf"{_NEGATED}{pattern}", " ", plain(text).replace("**", ""), flags=re.IGNORECASE)
    marked = re.findall(rf"{_MARK}({pattern})", cleaned, re.IGNORECASE)
    if marked:
        return marked[-1]
    pieces = sentences(cleaned)
    for piece in (cleaned, *pieces[:1], *pieces[-1:]):
        values = list(dict.fromkeys(match.lower() for match in re.findall(pattern, piece, re.IGNORECASE)))
        if len(values) == 1:
            return values[0]
    return None
