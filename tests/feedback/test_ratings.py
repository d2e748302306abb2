"""What logs bring along becomes labels, named as such."""

import pytest

from drift.feedback.ratings import labels_from_ratings
from drift.records import Rating


@pytest.mark.parametrize(
    ("kind", "value", "label", "labeller"),
    [
        ("thumb", 1.0, "SAT", "rating"),
        ("thumb", -1.0, "DSAT", "rating"),
        ("correction", -1.0, "DSAT", "rating"),
        ("regeneration", -1.0, "DSAT", "rating"),
        ("score", 0.5, "SAT", "source"),
        ("score", -2.0, "DSAT", "source"),
        ("score", 0.0, "NEUTRAL", "source"),
    ],
)
def test_the_sign_says_the_verdict_and_the_kind_the_labeller(chat, kind, value, label, labeller):
    (told,) = labels_from_ratings(chat("a", "b", "c", ratings=(Rating(1, kind, value, "too long"),)))
    assert (told.label, told.labeller, told.labeller_version) == (label, labeller, "1")
    assert (told.evidence, told.subtype, told.p_dsat) == ("too long", None, None)


def test_the_answering_user_turn_is_named_where_there_is_one(chat):
    ratings = (Rating(1, "thumb", 1.0), Rating(3, "thumb", -1.0))
    told = list(labels_from_ratings(chat("a", "b", "c", "d", ratings=ratings)))
    assert [(label.reply_index, label.user_index) for label in told] == [(1, 2), (3, None)]
    assert told[0].evidence is None
