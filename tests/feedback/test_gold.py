"""Gold rows: both names of the id are read, and a bad row or file is named."""

import json

import pytest

from drift.errors import DataError
from drift.feedback.gold import read_gold, truth_of
from drift.store import Review, Reviews, Store


def write(folder, *rows):
    path = folder / "gold.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def test_a_row_names_its_conversation_by_either_name(tmp_path):
    path = write(
        tmp_path,
        {"source_id": "a", "message_index": 3, "label": "DSAT", "annotator_1": "DSAT"},
        {"conversation_id": 7, "message_index": 1, "label": "DISPUTED"},
    )
    rows = [(place, *row.turn, row.label) for place, row in read_gold(path)]
    assert rows == [(f"{path}:1", "a", 3, "DSAT"), (f"{path}:2", "7", 1, "DISPUTED")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"gold.jsonl:2: invalid gold row: .*A row has source_id, message_index and label"),
        ("[]", r"gold.jsonl:2: invalid gold row: row: "),
        ({"source_id": "a", "message_index": 1, "label": "BAD"}, r"gold.jsonl:2: label 'BAD'; allowed: DSAT, SAT, NEU"),
        ({"source_id": "a", "message_index": 1, "label": None}, r"gold.jsonl:2: label None; allowed: DSAT"),
        ({"message_index": 1, "label": "SAT"}, "gold.jsonl:2: invalid gold row: no source_id"),
        ({"source_id": "a", "message_index": "x", "label": "SAT"}, "gold.jsonl:2: invalid gold row: message_index: "),
        ({"source_id": "a", "label": "SAT"}, "gold.jsonl:2: invalid gold row: message_index: Field required"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    path = write(tmp_path, {"source_id": "a", "message_index": 1, "label": "SAT"}, row)
    with pytest.raises(DataError, match=message):
        list(read_gold(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"--gold .*none.jsonl: cannot be read: No such file"):
        list(read_gold(tmp_path / "none.jsonl"))


def test_a_review_counts_above_a_gold_row(tmp_path, chat):
    store = Store(tmp_path / "store")
    store.add([chat("q", "a", "no", name="1"), chat("q", "a", "thanks", name="2")])
    gold = write(tmp_path, *({"source_id": f"log-{n}", "message_index": 12, "label": "SAT"} for n in (1, 2)))
    Reviews(store.path).add(Review("me", "1", 1, 2, "DSAT"))
    assert truth_of(store, gold) == {("1", 1): "DSAT", ("2", 1): "SAT"}
    assert truth_of(store, None) == {("1", 1): "DSAT"}
