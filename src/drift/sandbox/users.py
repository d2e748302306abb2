"""Simulated users: what they say when they dislike a reply, like it, or simply go on.

Their sentences come from a phrase book of their own (`phrases.yaml`); a test checks that none of it is in the one that
the embedded labeller learned from. A complaint is about the mistake that was made: it may give the answer away, hint at
it, repeat the request, or only grumble, and users type carelessly.
"""

import random
from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def phrases() -> dict[str, Any]:
    return yaml.safe_load(phrases_text())


def phrases_text() -> str:
    return resources.files("drift.sandbox").joinpath("phrases.yaml").read_text(encoding="utf-8")


def complain(rng: random.Random, skill: str, request: str, reply: str, answer: str, evasive: bool) -> str:
    """One dissatisfied message about `reply`, in half of the cases particular to the skill (or to the evasion)."""
    book = phrases()["complaints"]
    particular = book["evasive"] if evasive else book[skill]
    phrase = rng.choice(particular if rng.random() < 0.5 else book["general"])
    if "{reply}" in phrase and len(reply) > 60:
        phrase = rng.choice(particular)
    said = phrase.format(
        request=request,
        reply=_inline(reply) or "nothing",
        answer=_inline(answer),
        first=answer.split()[0],
        last=answer.split()[-1],
    )
    return _carelessly(rng, said)


def praise(rng: random.Random, relieved: bool) -> str:
    """`relieved`: the reply mends what the user complained about before."""
    book = phrases()
    return _carelessly(rng, rng.choice(book["relieved"] if relieved and rng.random() < 0.7 else book["praise"]))


def bridge(rng: random.Random) -> str:
    """A few words of no judgement before the next request; in half of the cases none at all."""
    return _carelessly(rng, rng.choice(phrases()["bridges"])) if rng.random() < 0.5 else ""


def joined(said: str, request: str) -> str:
    """A reaction and the next request in one message."""
    if not said:
        return request
    return f"{said} {request}" if said[-1] in ".!?:" else f"{said}. {request}"


def _inline(text: str) -> str:
    return " ".join(text.replace("\n", ", ").split()).rstrip(".")


def _carelessly(rng: random.Random, text: str) -> str:
    if rng.random() < 0.25:
        text = rng.choice(phrases()["openers"]) + text[:1].lower() + text[1:]
    if rng.random() < 0.4:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.4:
        text = text.rstrip(".!")
    if rng.random() < 0.1:
        text = _mistyped(rng, text)
    return text


def _mistyped(rng: random.Random, text: str) -> str:
    """Two neighbouring letters of one longer word change places."""
    words = text.split(" ")
    longer = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if longer:
        i = rng.choice(longer)
        k = rng.randrange(1, len(words[i]) - 2)
        words[i] = words[i][:k] + words[i][k + 1] + words[i][k] + words[i][k + 2 :]
    return " ".join(words)
