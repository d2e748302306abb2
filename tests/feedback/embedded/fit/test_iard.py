"""IARD: which turns count, and which dialogues are never trained on."""

import hashlib

import pytest

from drift.errors import DataError
from drift.feedback.embedded.fit.sources import read_iard

ROW = (
    '{"dialogue": "7", "turns": [{"role": "user", "text": "Hi", "sub_intents": ["OTH"]},'
    ' {"role": "assistant", "text": "See @12 <Alien (1979)>", "sub_intents": ["REC-S"]},'
    ' {"role": "user", "text": "No...not that", "sub_intents": ["REJ", "CRI-F"]},'
    ' {"role": "assistant", "text": "Heat?", "sub_intents": ["REC-S"]},'
    ' {"role": "user", "text": "Sure", "sub_intents": ["ACC"]}]}'
)


def test_turns_after_a_reply_count_with_their_intents(tmp_path):
    path = tmp_path / "iard.jsonl"
    path.write_text(ROW + "\n")
    first, second = read_iard(path)
    assert (first.turn.text, first.turn.reply, first.turn.request) == ("No. not that", "See Movie", "Hi")
    assert (first.dissatisfied, first.accepts, second.dissatisfied, second.accepts) == (True, False, False, True)
    assert first.is_test == (int(hashlib.sha256(b"7").hexdigest(), 16) % 5 == 0)


@pytest.mark.parametrize("row", ["{", '{"dialogue": "1"}', "[]"])
def test_a_row_of_another_shape_is_named(tmp_path, row):
    path = tmp_path / "iard.jsonl"
    path.write_text(ROW + "\n" + row + "\n")
    with pytest.raises(DataError, match=r"iard.jsonl:2: not an IARD dialogue"):
        read_iard(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_iard(tmp_path / "none.jsonl")
