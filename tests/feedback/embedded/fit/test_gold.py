"""Gold labels: their turns out of the logs, and what is wrong with a file."""

import hashlib

import pytest

from drift.errors import DataError
from drift.feedback.embedded.fit.sources import gold_turns
from drift.records import Conversation, Message

ROW = '{"conversation_id": "chat", "message_index": %d, "label": "%s"}'


@pytest.fixture
def chats():
    entries = [("user", "Hi", 0), ("assistant", "Hello", 1), ("user", "That is wrong", 3)]
    messages = tuple(Message(role, text, source_index=index) for role, text, index in entries)
    return [Conversation("hash", "sharegpt", "chat", messages, "train")]


def gold(tmp_path, *rows: str):
    path = tmp_path / "gold.jsonl"
    path.write_text("\n".join(rows))
    return path


def test_a_label_finds_its_turn_by_the_logs_own_index(tmp_path, chats):
    rows = [ROW % (3, label) for label in ("DSAT", "DISPUTED")]
    (turn,) = gold_turns(gold(tmp_path, *rows), chats)
    assert (turn.conversation, turn.turn, turn.truth) == ("chat", ("That is wrong", "Hello", "Hi"), "DSAT")
    assert turn.fold == int(hashlib.sha256(b"chat").hexdigest(), 16) % 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "gold.jsonl:1: invalid gold row"),
        ('{"label": "DSAT"}', "gold.jsonl:1: invalid gold row"),
        (ROW % (3, "BAD"), "'BAD'; allowed: DSAT, SAT, NEUTRAL"),
        (ROW % (1, "SAT"), "gold.jsonl:1: conversation 'chat' has no user turn after a reply at message 1"),
        (ROW % (3, "DISPUTED"), "gold.jsonl: holds no undisputed label"),
    ],
)
def test_a_bad_file_is_named(tmp_path, chats, row, message):
    with pytest.raises(DataError, match=message):
        gold_turns(gold(tmp_path, row), chats)


def test_a_missing_file_is_named(tmp_path, chats):
    with pytest.raises(DataError, match="cannot be read"):
        gold_turns(tmp_path / "none.jsonl", chats)
