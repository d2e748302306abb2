"""Gold labels: their turns out of the logs, and what is wrong with a file."""

import hashlib

import pytest

from drift.errors import DataError
from drift.feedback.embedded.fit.gold import read_gold
from drift.records import Conversation, Message


@pytest.fixture
def chats():
    said = [("user", "Hi", 0), ("assistant", "Hello", 1), ("user", "That is wrong", 3)]
    messages = tuple(Message(role, text, source_index=index) for role, text, index in said)
    return [Conversation("hash", "sharegpt", "chat", messages, "train")]


def gold(tmp_path, *rows: str):
    path = tmp_path / "gold.jsonl"
    path.write_text("\n".join(rows))
    return path


def test_a_label_finds_its_turn_by_the_logs_own_index(tmp_path, chats):
    rows = [f'{{"conversation_id": "chat", "message_index": 3, "label": "{said}"}}' for said in ("DSAT", "DISPUTED")]
    (told,) = read_gold(gold(tmp_path, *rows), chats)
    assert (told.turn, told.truth) == (("That is wrong", "Hello", "Hi"), "DSAT")
    assert told.fold == int(hashlib.sha256(b"chat").hexdigest(), 16) % 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "gold.jsonl:1: no gold label"),
        ('{"label": "DSAT"}', "gold.jsonl:1: no gold label"),
        ('{"conversation_id": "chat", "message_index": 3, "label": "BAD"}', "'BAD'; allowed: DSAT, SAT, NEUTRAL"),
        ('{"conversation_id": "chat", "message_index": 1, "label": "SAT"}', "no user turn after a reply at message 1"),
        ('{"conversation_id": "chat", "message_index": 3, "label": "DISPUTED"}', "no undisputed label"),
    ],
)
def test_a_bad_file_is_named(tmp_path, chats, row, message):
    with pytest.raises(DataError, match=message):
        read_gold(gold(tmp_path, row), chats)


def test_a_missing_file_is_named(tmp_path, chats):
    with pytest.raises(DataError, match="cannot be read"):
        read_gold(tmp_path / "none.jsonl", chats)
