"""Fair play: the embedded labeller must not have read what simulated users say."""

import re

import pytest

from drift.feedback.embedded.book.expand import read_book
from drift.sandbox.instructions.book import chapters, read
from drift.sandbox.users import phrases

SLOT = re.compile(r"[{<]\w+[}>]")


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", SLOT.sub(" slot ", text).lower()))


@pytest.fixture(scope="module")
def learned():
    sentences = {plain(sentence) for pattern in read_book().patterns for sentence in pattern.phrases()}
    assert len(sentences) > 1000
    return sentences


def test_no_sentence_of_simulated_users_is_in_the_labellers_phrase_book(learned):
    book = phrases()
    said = [text for texts in book["complaints"].values() for text in texts]
    said += [*book["praise"], *book["relieved"], *book["bridges"]]
    assert len(said) > 190
    assert {text for text in said if plain(text) in learned} == set()


def test_nor_is_any_sentence_of_the_users_of_the_instructions_world(learned):
    said = [text for texts in read("users").values() for text in (texts if isinstance(texts, list) else texts["logs"])]
    said += [text for chapter in chapters().values() for text in chapter.complaints]
    assert len(said) > 500
    assert {text for text in said if plain(text) in learned and text != "{instruction}"} == set()
