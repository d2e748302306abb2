"""Which words: to use, to avoid, in which order, in another language, of a persona, to address the user."""

from functools import cache
from importlib import resources

import yaml

from drift.sandbox.instructions.constraints.text import parts_of_words, uses, without_accents, words

_BEFORE_A_NAME = frozenset({"as", "call", "name", "called", "you", "named"})
"""Words before a name that is talked about ("I will address you as Captain") instead of called."""


def include_word(text: str, word: str) -> bool:
    return bool(uses(text, word))


def include_two(text: str, first: str, second: str) -> bool:
    return include_word(text, first) and include_word(text, second)


def avoid_word(text: str, word: str) -> bool:
    """Not even a mention of it counts as avoiding it."""
    return bool(words(text)) and word.lower() not in parts_of_words(text)


def word_times(text: str, word: str, n: str) -> bool:
    """At least n uses; a word that is repeated on the spot ("river river river") is one use."""
    places = uses(text, word)
    return sum(place - 1 not in places for place in places) >= int(n)


def before(text: str, first: str, second: str) -> bool:
    """Both words are used, and the first use of one comes before the first use of the other."""
    ones, others = uses(text, first), uses(text, second)
    return bool(ones and others) and ones[0] < others[0]


def foreign_word(text: str, language: str, english: str) -> bool:
    """One of the language's words for it is used, with or without its accents."""
    return any(uses(without_accents(text), without_accents(form)) for form in translations()[language][english])


def persona(text: str, who: str) -> bool:
    """At least two different words or turns of phrase that show this persona."""
    spoken = f" {' '.join(words(text)).lower()} "
    return sum(f" {marker} " in spoken for marker in personas()[who]) >= 2


def address(text: str, name: str) -> bool:
    """The user is called by this name at least once."""
    return bool(uses(text, name, _BEFORE_A_NAME))


@cache
def _lexicon() -> dict[str, dict[str, dict[str, list[str]]]]:
    file = resources.files("drift.sandbox.instructions") / "phrases" / "lexicon.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def translations() -> dict[str, dict[str, list[str]]]:
    """Language -> English word -> its forms in that language."""
    return _lexicon()["translations"]


def personas() -> dict[str, list[str]]:
    """Persona -> what shows it, in lower case."""
    return _lexicon()["personas"]  # pyright: ignore[reportReturnType]
