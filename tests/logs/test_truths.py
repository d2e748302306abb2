"""True and false as CSV, SQLite and PostgreSQL have them: the same chats as from JSON."""

import csv
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.config import IngestionSettings
from drift.logs.ingest import ingest
from drift.logs.values import truth_of
from drift.records import Conversation
from drift.store import Store

CHAT = [(True, Q), (False, A), (True, WRONG), (False, B)]
WORDS = [("True", "False"), ("true", "false"), ("t", "f"), ("1", "0"), (1, 0), (1.0, 0.0)]


def librechat(yes: Any, no: Any) -> list[dict[str, Any]]:
    """The second reply failed."""
    return [
        {"messageId": str(place), "conversationId": "c", "isCreatedByUser": yes if is_user else no, "text": text,
         "error": yes if text == B else no, "createdAt": f"2024-05-01T10:00:0{place}Z"}
        for place, (is_user, text) in enumerate(CHAT)
    ]  # fmt: skip


def wildchat(yes: Any, no: Any) -> list[dict[str, Any]]:
    turns = json.dumps([{**user(Q), "toxic": yes}, {**bot(A), "toxic": no}])
    return [{"conversation_hash": "c", "conversation": turns, "toxic": yes, "redacted": no}]


def lmsys(yes: Any, no: Any) -> list[dict[str, Any]]:
    turns = json.dumps([user(Q), bot(A)])
    return [
        {"conversation_id": name, "conversation": turns, "redacted": value} for name, value in (("c", yes), ("d", no))
    ]


def oasst(yes: Any, no: Any) -> list[dict[str, Any]]:
    return [
        {"message_id": str(place), "parent_id": str(place - 1) if place else None, "message_tree_id": "c",
         "role": "prompter" if is_user else "assistant", "text": text, "deleted": yes if place > 1 else no}
        for place, (is_user, text) in enumerate(CHAT)
    ]  # fmt: skip


def ai_sdk(yes: Any, no: Any) -> list[dict[str, Any]]:
    messages = [
        {"id": str(place), "chatId": "c", "role": "user" if is_user else "assistant",
         "parts": json.dumps([{"type": "text", "text": text}]), "createdAt": f"2024-05-01T10:00:0{place}Z"}
        for place, (is_user, text) in enumerate(CHAT)
    ]  # fmt: skip
    votes = [{"chatId": "c", "messageId": name, "isUpvoted": value} for name, value in (("1", no), ("3", yes))]
    return [*messages, *votes]


def preference(yes: Any, no: Any) -> list[dict[str, Any]]:
    return [{"prompt": Q, "completion": text, "label": value} for text, value in ((A, no), (B, yes))]


def lmarena(yes: Any, no: Any) -> list[dict[str, Any]]:
    sides = {"response_a": A, "response_b": B, "model_a": "a", "model_b": "b"}
    return [{"id": 1, "prompt": Q, **sides, "winner_model_a": no, "winner_model_b": yes, "winner_tie": no}]


def read(folder: Path, rows: list[dict[str, Any]], is_csv: bool) -> list[Conversation]:
    folder.mkdir()
    kinds = {tuple(row): [other for other in rows if tuple(other) == tuple(row)] for row in rows}
    for number, (names, of_kind) in enumerate(kinds.items()):
        if is_csv:
            with (folder / f"{number}.csv").open("w", newline="") as file:
                table = csv.DictWriter(file, names)
                table.writeheader()
                table.writerows(of_kind)
        else:
            (folder / f"{number}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in of_kind))
    store = Store(folder / "store")
    summary = ingest([str(folder / "*.*")], store, settings=IngestionSettings(redact=False))
    assert summary.quarantined == {}
    return list(store.conversations())


@pytest.mark.parametrize("rows", [librechat, wildchat, lmsys, oasst, ai_sdk, preference, lmarena])
def test_a_log_says_the_same_in_every_container(tmp_path, rows):
    from_json = read(tmp_path / "json", rows(True, False), is_csv=False)
    assert from_json
    for number, (yes, no) in enumerate(WORDS):
        told = read(tmp_path / str(number), rows(yes, no), is_csv=isinstance(yes, str))
        assert [(c.messages, c.ratings, c.tags) for c in told] == [(c.messages, c.ratings, c.tags) for c in from_json]


def test_what_is_neither_true_nor_false():
    assert [truth_of(value) for value in (None, "", "maybe", 2, -1, [], {}, "TRUE ")] == [*[None] * 7, True]
