"""Fair play: the embedded labeller must not have read what simulated users say."""

import re

from drift.feedback.embedded.book.expand import read_book
from drift.sandbox.users import phrases

SLOT = re.compile(r"[{<]\w+[}>]")


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", SLOT.sub(" slot ", text).lower()))


def test_no_sentence_of_simulated_users_is_in_the_labellers_phrase_book():
    book = phrases()
    said = [text for texts in book["complaints"].values() for text in texts]
    said += [*book["praise"], *book["relieved"], *book["bridges"]]
    learned = {plain(sentence) for pattern in read_book().patterns for sentence in pattern.phrases()}
    assert len(said) > 190
    assert len(learned) > 1000
    assert {text for text in said if plain(text) in learned} == set()
