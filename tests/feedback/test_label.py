"""The label stage: ratings and text together, into the store and into rows for people."""

import orjson
import pytest

from drift.errors import DataError
from drift.feedback.label import judged_rows, label, label_store
from drift.records import Rating
from drift.store import Store


def test_ratings_and_text_both_speak(labeller, chat):
    thumb = chat("a", "b", "Now in French, please", name="1", ratings=(Rating(1, "thumb", -1.0),))
    told = list(label([thumb, chat("a", "b", "That's wrong", name="2")], labeller))
    found = sorted((one.conversation_id, one.labeller, one.label) for one in told)
    assert found == [("1", "embedded", "NEUTRAL"), ("1", "rating", "DSAT"), ("2", "embedded", "DSAT")]


def test_rows_name_the_places_of_the_log(labeller, chat):
    conversation = chat("a", "b", "That's wrong!", "c", ratings=(Rating(3, "thumb", 1.0),))
    rows = list(judged_rows(conversation, label([conversation], labeller)))
    assert len(rows) == 1  # the thumb on the last reply belongs to no user turn
    assert (rows[0].source_id, rows[0].message_index, rows[0].label) == ("log-c", 12, "DSAT")
    assert (rows[0].evidence, rows[0].labeller) == ("That's wrong!", "embedded")


def test_the_store_is_labelled_once_and_the_rating_wins(tmp_path, chat):
    store = Store(tmp_path / "store")
    rated = chat("a", "b", "Thanks, perfect!", name="1", ratings=(Rating(1, "thumb", -1.0),))
    store.add([rated, chat("a", "b", "That's wrong", "c", "thanks", name="2")])
    first = label_store(store, tmp_path / "new" / "labels.jsonl")
    assert (first.conversations, first.added, first.rows) == (2, 4, 3)
    assert first.labels == {"DSAT": 2, "SAT": 1}
    rows = [orjson.loads(line) for line in (tmp_path / "new" / "labels.jsonl").read_bytes().splitlines()]
    assert [(row["source_id"], row["message_index"], row["labeller"]) for row in rows] == [
        ("log-1", 12, "rating"),
        ("log-2", 12, "embedded"),
        ("log-2", 14, "embedded"),
    ]
    assert label_store(store).added == 0


def test_an_output_that_is_a_folder_is_refused_before_the_work(tmp_path, chat):
    store = Store(tmp_path / "store")
    store.add([chat("a", "b", "c")])
    with pytest.raises(DataError, match="cannot be written"):
        label_store(store, tmp_path)
    assert list(store.labels()) == []
