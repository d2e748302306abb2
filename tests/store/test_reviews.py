"""Reviews: on disk at once, taken back one by one, and above every other label."""

import sqlite3
from dataclasses import replace

import pytest

from drift.errors import DataError
from drift.records import Conversation, FeedbackLabel, FunctionCall, Message, ToolCall
from drift.store import Review, ReviewedPreference, Store, shown_turn


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
    (made,) = store.reviews.all(Review)
    store.reviews.remove(made)
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


def test_one_decision_is_taken_back(store):
    store.reviews.add(Review("ann", "c", 1, 2, "DSAT"))
    store.reviews.add(Review("bob", "c", 1, 2, "SAT"))
    for run, winner in (("r1", "chosen"), ("r2", "tie")):
        store.reviews.add(ReviewedPreference("ann", run, "p", winner))
    store.reviews.remove(ReviewedPreference("ann", "r1", "p", None))
    assert [p.run for p in store.reviews.all(ReviewedPreference)] == ["r2"]
    store.reviews.remove(Review("ann", "c", 1, 2, None))
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


TALK = ("hi", "yes", "no", "so", "ok")


def chat(*texts: str) -> Conversation:
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))
    return Conversation("c", "test", "c", messages, "train")


def decide(store: Store, reply: int, verdict) -> None:
    """As the page does, on the words that the store holds now."""
    conversation = store.conversation("c")
    assert conversation is not None
    store.reviews.add(Review("ann", "c", reply, reply + 1, verdict, shown=shown_turn(conversation, reply, reply + 1)))


def test_a_decision_does_not_outlive_the_words_that_it_judged(store):
    decide(store, 1, "DSAT")
    decide(store, 3, "SAT")
    before = store.label_hash(), store.fingerprint()
    store.add([chat(*TALK, "then", "thanks")])  # it has grown: what was judged is still there
    assert [label for label in verdicts(store) if label[1] == "review"] == [("DSAT", "review"), ("SAT", "review")]
    assert (store.label_hash(), store.outdated_reviews()) == (before[0], 0)

    store.add([chat("hi", "yes", "no", "so!", "ok", "then", "thanks", "bye")])  # another second reply
    store.add_labels([FeedbackLabel("c", i, i + 1, "NEUTRAL", "embedded", "1", p_dsat=0.2) for i in (1, 3)])
    assert verdicts(store) == [("DSAT", "review"), ("NEUTRAL", "embedded")]
    assert store.counts().labels == {"DSAT": 1, "NEUTRAL": 1}
    assert (store.outdated_reviews(), store.counts().outdated_reviews) == (1, 1)
    assert [review.reply_index for review in store.decisions()] == [1]
    assert len(list(store.reviews.all(Review))) == 2  # it is kept, and does not count

    decide(store, 3, "DSAT")  # on the present words, in place of the earlier one
    assert (verdicts(store)[1], store.outdated_reviews()) == (("DSAT", "review"), 0)


def test_what_the_user_wrote_next_is_judged_too(store):
    decide(store, 1, "DSAT")
    store.add([chat("hi", "yes", "no!", "so", "ok", "then")])
    assert (store.decisions(), store.outdated_reviews()) == ([], 1)


def test_calls_and_marks_that_exports_write_differently_are_the_same_words():
    def reply(text: str, call: str) -> Conversation:
        calls = (ToolCall(FunctionCall("search", "{}"), call),)
        answer = replace(chat("hi", text, "no").messages[1], tool_calls=calls)
        return replace(chat("hi", text, "no"), messages=(Message("user", "hi"), answer, Message("user", "no")))

    one, other = reply("It is five. \ue200cite\ue202turn0search0\ue201", "1"), reply("It is five.", "2")
    assert shown_turn(one, 1, 2) == shown_turn(other, 1, 2) != shown_turn(reply("It is six.", "1"), 1, 2)


@pytest.fixture
def earlier(store) -> Store:
    """A file as earlier versions wrote it."""
    with sqlite3.connect(store.reviews.path) as file:
        file.executescript(
            "CREATE TABLE reviews (number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT, conversation_id TEXT,"
            "reply_index INTEGER, user_index INTEGER, label TEXT, subtype TEXT, evidence TEXT, decided_at TEXT,"
            "UNIQUE (reviewer, conversation_id, reply_index) ON CONFLICT REPLACE);"
            "CREATE TABLE preferences (number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT, run TEXT, pair_id TEXT,"
            "winner TEXT, decided_at TEXT, UNIQUE (reviewer, run, pair_id) ON CONFLICT REPLACE);"
            "INSERT INTO reviews VALUES (1, 'ann', 'c', 1, 2, 'DSAT', NULL, 'no', '2025-01-01T00:00:00+00:00');"
            "INSERT INTO preferences VALUES (1, 'ann', 'r', 'p', 'chosen', '2025-01-01T00:00:00+00:00');"
            "INSERT INTO preferences VALUES (2, 'bob', 'r', 'p', 'tie', '2025-01-01T00:00:00+00:00');"
        )
    return store


def test_a_file_of_an_earlier_version_is_read_as_it_is(earlier):
    (review,) = earlier.reviews.all(Review)
    assert (review.label, review.evidence, review.shown) == ("DSAT", "no", "")
    assert [p.winner for p in earlier.reviews.all(ReviewedPreference, run="r")] == ["chosen", "tie"]
    earlier.add([chat("hi", "yes!", "no", "so", "ok", "then")])
    assert (verdicts(earlier), earlier.outdated_reviews()) == ([("DSAT", "review")], 0)  # nobody knows what they saw


def test_a_file_of_an_earlier_version_is_written(earlier):
    decide(earlier, 3, "SAT")
    assert [label for label, _ in verdicts(earlier)] == ["DSAT", "SAT"]
    earlier.reviews.add(ReviewedPreference("ann", "r", "p", "rejected", "texts 1"))  # in place of that on any texts
    earlier.reviews.add(ReviewedPreference("ann", "r", "p", "tie", "texts 2"))  # another run of this name: both stay
    earlier.reviews.add(ReviewedPreference("ann", "r", "p", "chosen", "texts 2"))
    made = [(p.reviewer, p.winner, p.shown) for p in earlier.reviews.all(ReviewedPreference)]
    assert made == [("bob", "tie", ""), ("ann", "rejected", "texts 1"), ("ann", "chosen", "texts 2")]
