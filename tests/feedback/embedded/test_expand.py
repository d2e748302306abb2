"""The phrase book reads, expands and splits as the fit relies on."""

import re

import pytest

from drift.errors import DataError
from drift.feedback.embedded.book import read_sections
from drift.feedback.embedded.book.expand import Book, expand, read_book


@pytest.fixture(scope="module")
def book() -> Book:
    return read_book()


def test_the_same_seed_gives_the_same_examples(book):
    part = Book(book.patterns[::8], book.tasks[::8], book.fillings)
    assert expand(part, 3) == expand(part, 3) != expand(part, 4)


def test_no_choice_or_slot_of_the_patterns_is_left(book):
    slots = re.compile(
        r"<(?:word|noun|ask|constraint|flaw|request|other|new|newask|same|pasted|error|n|m|topic)>", re.I
    )
    texts = [example.turn.text for example in expand(Book(book.patterns[1::6], book.tasks[1::6], book.fillings), 0)]
    assert len(texts) > 500
    assert not [text for text in texts if slots.search(text) or "{|" in text]


def test_examples_name_their_pattern(book):
    part = Book(book.patterns[:5], book.tasks, book.fillings)
    assert {example.pattern for example in expand(part, 0)} == {0, 1, 2, 3, 4}
    assert all(example.verdict == part.patterns[example.pattern].verdict for example in expand(part, 0))


def test_all_phrases_of_a_pattern_are_listed(book):
    (pattern,) = [pattern for pattern in book.patterns if pattern.text.startswith("{Wrong|Incorrect|False|")]
    assert {"Wrong", "Not quite"} <= set(pattern.phrases())


def test_a_line_before_the_first_section_is_named(tmp_path, monkeypatch):
    (tmp_path / "page.txt").write_text("# remark\nlost line\n")
    monkeypatch.setattr("drift.feedback.embedded.book.files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"page.txt:2: 'lost line'"):
        read_sections("page.txt")
