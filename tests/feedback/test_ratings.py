"""What logs bring along becomes labels, named as such."""

import pytest

from drift.feedback.label import label_store, labels_from_ratings
from drift.logs.draft import ConversationDraft, finish
from drift.logs.files.rows import Place
from drift.records import FeedbackLabel, Message, Rating
from drift.store import Store


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


@pytest.mark.parametrize(
    ("kinds", "label"),
    [
        ((("thumb", 1.0), ("regeneration", -1.0)), "SAT"),
        ((("thumb", 1.0), ("score", -1.0)), "SAT"),
        ((("correction", -1.0), ("thumb", 1.0)), "DSAT"),
        ((("score", 1.0), ("regeneration", -1.0)), "DSAT"),
        ((("thumb", 0.0), ("score", -1.0)), "DSAT"),
        ((("score", 0.0),), "NEUTRAL"),
    ],
)
def test_of_several_judgements_of_one_reply_what_people_said_counts(tmp_path, kinds, label):
    """From a log to the label that wins: ingestion puts the ratings in the order of their weight."""
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    ratings = tuple(Rating(1, kind, value) for kind, value in kinds)
    messages = (Message("user", "q"), Message("assistant", "a"))
    store.add([finish(ConversationDraft(Place(1), messages, ratings=ratings), str(log), str)])
    store.add_labels(told for chat in store.conversations() for told in labels_from_ratings(chat))
    assert [told.label for told in store.labels()] == [label]


@pytest.mark.parametrize(("value", "label"), [(0.0, "DSAT"), (1.0, "SAT")])
@pytest.mark.parametrize("kind", ["thumb", "score"])
def test_what_a_user_wrote_counts_where_a_rating_says_neither_good_nor_bad(tmp_path, chat, kind, value, label):
    store = Store(tmp_path / "store")
    store.add([chat("2+2?", "5", "No, that is wrong.", "4", ratings=(Rating(1, kind, value),))])
    assert label_store(store).labels == {label: 1}


def test_a_rating_in_the_middle_counts_where_the_text_says_nothing(tmp_path, chat):
    store = Store(tmp_path / "store")
    store.add(
        [
            chat(
                "2+2?",
                "5",
                "Hm, das weiß ich nicht.",
                ratings=(Rating(1, "thumb", 0.0),),
            )
        ]
    )
    place = next(iter(store.conversations())).conversation_id
    store.add_labels([FeedbackLabel(place, 1, 2, "NEUTRAL", "rating", "1")])
    store.add_labels([FeedbackLabel(place, 1, 2, "ABSTAIN", "embedded", "1")])
    assert [label.label for label in store.labels()] == ["NEUTRAL"]
    store.add_labels([FeedbackLabel(place, 1, 2, "ABSTAIN", "judge", "1")])
    assert [label.label for label in store.labels()] == ["NEUTRAL"]
    store.add_labels([FeedbackLabel(place, 1, 2, "DSAT", "judge", "2")])
    assert [label.label for label in store.labels()] == ["DSAT"]
