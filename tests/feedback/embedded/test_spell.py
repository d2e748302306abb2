"""Words out of bytes: the same as reading the text with a regular expression."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drift.feedback.embedded.spell import (
    BREAK,
    DIGIT,
    HEAD,
    KNOWN,
    LETTER,
    MARK,
    OTHER,
    STOP,
    TAIL,
    cut,
    spell,
)

PATTERNS = {LETTER: r"[a-z]+(?:'[a-z]+)*", DIGIT: r"\d+", STOP: r"[.,:;]+", MARK: r"[?!]+", BREAK: r"\n+"}
TOKEN = re.compile("|".join([*PATTERNS.values(), r"[^\x00-\x7f]+"]), re.ASCII)


def kind(word: str) -> int:
    return next((kind for kind, pattern in PATTERNS.items() if re.fullmatch(pattern, word, re.ASCII)), OTHER)


ascii_texts = st.lists(st.text(alphabet=st.characters(max_codepoint=255), max_size=80), max_size=6)


@given(ascii_texts)
def test_words_are_those_of_a_regular_expression(texts):
    words = spell(texts)
    lowered = ["".join(c.lower() if c < "\x80" else c for c in text) for text in texts]
    expected = [TOKEN.findall(text) for text in lowered]
    assert words.counts.tolist() == [len(found) for found in expected]
    assert words.kinds.tolist() == [kind(word) for found in expected for word in found]
    assert words.owners.tolist() == [i for i, found in enumerate(expected) for _ in found]


@given(ascii_texts)
def test_a_text_is_spelt_the_same_in_any_company(texts):
    together = spell(texts)
    for i, text in enumerate(texts):
        alone = spell([text])
        for name in ("hashes", "shapes", "stems", "kinds", "known"):
            assert np.array_equal(getattr(together, name)[together.owners == i], getattr(alone, name))


def test_the_same_word_has_the_same_hash_and_another_has_another():
    words = spell(["Sort the sorted list 12 34 12", "sort"])
    the_first, sorted_, twelve, thirty_four, last = (words.hashes[i] for i in (0, 2, 4, 5, 7))
    assert the_first == last != sorted_
    assert words.hashes[4] == words.hashes[6] == twelve != thirty_four
    assert words.shapes[4] == words.shapes[5]
    assert spell(["reading"]).stems == spell(["readily"]).stems != spell(["rea"]).stems


def test_the_books_words_are_known_and_their_sections_told():
    words = spell(["I didn't ask for that, thanks zzz"])
    assert [KNOWN.words[row - 1] if row else None for row in words.known] == [
        *("i", "didn't", None, "for", "that", None, "thanks", None)
    ]
    assert words.among("not").tolist() == [False, True, *[False] * 6]
    assert words.plays("thank").tolist() == [*[False] * 6, True, False]


def test_capitals_are_counted_by_text():
    table = np.zeros(256, dtype=np.uint8)
    table[ord("A")] = 1
    assert spell(["AAb", "", "xA"]).characters(table).tolist() == [2, 0, 1]


def test_long_texts_are_read_at_both_ends():
    text = "start " + "x" * 1000 + " end"
    assert cut(text).startswith("start")
    assert cut(text).endswith("end")
    assert len(cut(text)) <= HEAD + TAIL + 1
    assert cut("short") == "short"
    assert cut("don’t") == "don't"
