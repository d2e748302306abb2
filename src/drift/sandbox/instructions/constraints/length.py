"""How long: words, sentences, paragraphs, and shorter or longer than the reply before."""

from drift.sandbox.instructions.constraints.text import paragraphs, sentences, words

SHORTER, LONGER = 0.8, 1.2
"""A reply is shorter (longer) if it has at most (at least) this multiple of the words of the reply before."""


def max_words(text: str, n: str) -> bool:
    return 0 < len(words(text)) <= int(n)


def min_words(text: str, n: str) -> bool:
    return len(words(text)) >= int(n)


def word_range(text: str, low: str, high: str) -> bool:
    return int(low) <= len(words(text)) <= int(high)


def exact_sentences(text: str, n: str) -> bool:
    return len(sentences(text)) == int(n)


def max_sentences(text: str, n: str) -> bool:
    return 1 <= len(sentences(text)) <= int(n)


def short_sentences(text: str, n: str) -> bool:
    """At least two sentences, none of them with more than n words."""
    found = sentences(text)
    return len(found) >= 2 and all(len(words(sentence)) <= int(n) for sentence in found)


def exact_paragraphs(text: str, n: str) -> bool:
    return len(paragraphs(text)) == int(n)


def shorter(text: str, before: str) -> bool:
    return 0 < len(words(text)) <= SHORTER * len(words(before))


def longer(text: str, before: str) -> bool:
    return len(words(text)) >= max(1.0, LONGER * len(words(before)))
