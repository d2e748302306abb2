"""Reviews: on disk at once, taken back one by one, and above every other label."""

import pytest

from drift.errors import DataError
from drift.records import Conversation, FeedbackLabel, Message
from drift.store import Review, ReviewedPreference, Store


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    texts = (("user", "hi"), ("assistant", "yes"), ("user", "no"), ("assistant", "so"), ("user", "ok"))
    store.add([Conversation("c", "test", "c", tuple(Message(role, text) for role, text in texts), "train")])
    store.add_labels([FeedbackLabel("c", i, i + 1, "NEUTRAL", "embedded", "1", p_dsat=0.2) for i in (1, 3)])
    return store


def verdicts(store: Store, **which) -> list[tuple[str, str]]:
    return [(label.label, label.labeller) for label in store.labels(**which)]


def test_a_review_wins_until_it_is_taken_back(store):
    before = store.label_hash()
    store.reviews.add(Review("ann", "c", 1, 2, "DSAT"))
    assert verdicts(store) == [("DSAT", "review"), ("NEUTRAL", "embedded")]
    assert verdicts(store, reviewed=False) == [("NEUTRAL", "embedded")] * 2
    assert store.counts().labels == {"DSAT": 1, "NEUTRAL": 1}
    assert store.label_hash() != before  # a run that was made from other labels is redone
    taken = store.reviews.undo(Review, "ann")
    assert taken is not None
    assert taken.label == "DSAT"
    assert store.label_hash() == before


def test_the_latest_decision_counts_and_passing_over_is_no_label(store):
    store.reviews.add(Review("ann", "c", 1, 2, "DSAT"))
    store.reviews.add(Review("bob", "c", 1, 2, "SAT"))
    assert verdicts(store)[0] == ("SAT", "review")
    store.reviews.add(Review("ann", "c", 1, 2, "NEUTRAL"))  # Ann again: her first word is replaced
    assert verdicts(store)[0] == ("NEUTRAL", "review")
    assert [review.label for review in store.reviews.all(Review)] == ["SAT", "NEUTRAL"]
    store.reviews.add(Review("ann", "c", 3, 4, None))
    assert verdicts(store)[1] == ("NEUTRAL", "embedded")


def test_undo_takes_back_ones_own_decisions_only(store):
    store.reviews.add(Review("ann", "c", 1, 2, "DSAT"))
    store.reviews.add(Review("bob", "c", 1, 2, "SAT"))
    for run, winner in (("r1", "chosen"), ("r2", "tie")):
        store.reviews.add(ReviewedPreference("ann", run, "p", winner))
    assert store.reviews.undo(ReviewedPreference, "ann", "r1") is not None
    assert [p.run for p in store.reviews.all(ReviewedPreference)] == ["r2"]
    assert store.reviews.undo(Review, "ann") is not None
    assert store.reviews.undo(Review, "ann") is None
    assert [review.reviewer for review in store.reviews.all(Review)] == ["bob"]


def test_reviews_of_a_forgotten_conversation_go(store):
    store.reviews.add(Review("ann", "c", 1, 2, "DSAT"))
    assert store.reviews.forget({"other"}) == 0
    assert store.reviews.forget({"c"}) == 1
    assert list(store.reviews.all(Review)) == []


def test_a_file_that_is_no_database_is_named(store):
    store.reviews.path.write_bytes(b"no database, but long enough to be looked at" * 50)
    with pytest.raises(DataError, match=r"reviews\.sqlite: cannot read or write the reviews"):
        list(store.labels())
