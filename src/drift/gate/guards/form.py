"""The form of ordinary answers: do they end, repeat themselves, change language, show thoughts, ask back, use lists?

Both models answer the same plain requests. No answer is right or wrong here; what counts is what became different.
"""

import math
import random
import re
from functools import partial

import py3langid

from drift.gate.guards.refusal import phrases
from drift.gate.items import DrawnItem, asked
from drift.records import Completion
from drift.sandbox.instructions.book import asks, topics_of
from drift.sandbox.instructions.constraints.text import bullets, numbered, sentences, words
from drift.sandbox.instructions.truth import loops
from drift.turns import LANGUAGE_CHARACTERS

_THOUGHT = re.compile(r"</?(?:think|thinking|thought|reasoning|reflection)\b|<\|channel\|>|◁think▷", re.IGNORECASE)


def draw_form(rng: random.Random, number: int) -> DrawnItem:
    """Three English requests about a topic, then one in another language, in turns."""
    if number % 4 == 3:
        languages = [name for name in phrases() if name.startswith("asks_")]
        language = languages[number // 4 % len(languages)].removeprefix("asks_")
        topic = rng.choice(phrases()[f"topics_{language}"])
        return asked(
            rng.choice(phrases()[f"asks_{language}"]).format(topic=topic), partial(form_problems, language=language)
        )
    topic = rng.choice(topics_of("test"))
    return asked(rng.choice(asks("test")).format(topic=topic), partial(form_problems, language="en"))


def form_problems(answer: Completion, language: str) -> tuple[str, ...]:
    """`language`: of the request (ISO 639-1)."""
    text = answer.text
    problems = {
        "empty": not words(text),
        "cut at the limit": answer.finish == "length",
        "repeats itself": loops(text),
        "another language": len(text) >= LANGUAGE_CHARACTERS and py3langid.classify(text)[0] != language,
        "shows thoughts": bool(_THOUGHT.search(text)),
        "asks back": asks_back(text),
    }
    return tuple(name for name, is_so in problems.items() if is_so)


def asks_back(text: str) -> bool:
    """Does it only ask, where it was asked to do something? All of its sentences but one at most are questions."""
    parts = sentences(text)
    questions = sum(sentence.rstrip("\"'”’)*_ ").endswith(("?", "？")) for sentence in parts)
    return questions > 0 and len(parts) - questions <= 1 and len(words(text)) < 60


def has_list(text: str) -> bool:
    """At least two items of a list."""
    return len(bullets(text)) >= 2 or len(numbered(text)) >= 2


def log_length(text: str) -> float:
    """The natural logarithm of the characters plus one: a difference of two is the logarithm of a factor."""
    return math.log(len(text.strip()) + 1)
