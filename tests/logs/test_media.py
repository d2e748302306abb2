"""An image counts for its own message only, whatever the format keeps in rows of their own."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.config import IngestionSettings
from drift.logs.ingest import ingest
from drift.store import Store

SEEN = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:"}}]
MESSAGES = {"conversation": "id", "role": "who", "content": "said"}
EXCHANGES = {"request": "q", "reply": "a", "conversation": "id", "system": "s"}


def said(who: str, what: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c", "who": who, "said": what, **more}


def flow(who: str, what: str, **more: Any) -> dict[str, Any]:
    return {"role": who, "content": what, "chatId": "c", **more}


PICTURE = [{"type": "stored-file", "mime": "image/png"}]
LOGS = {
    "a message per row": (MESSAGES, [said("user", "q"), said("bot", "a"), said("user", SEEN), said("bot", "b")]),
    "parts as JSON text": (
        MESSAGES,
        [said("user", "q"), said("bot", "a"), said("user", orjson.dumps(SEEN).decode()), said("bot", "b")],
    ),
    "an exchange per row": (
        EXCHANGES,
        [{"id": "c", "s": "S", "q": "q", "a": "a"}, {"id": "c", "s": "S", "q": SEEN, "a": "b"}],
    ),
    "an exchange as JSON text": (
        EXCHANGES,
        [{"id": "c", "s": "S", "q": "q", "a": "a"}, {"id": "c", "s": "S", "q": orjson.dumps(SEEN).decode(), "a": "b"}],
    ),
    "Flowise": (
        {},
        [
            flow("userMessage", "q"),
            flow("apiMessage", "a"),
            flow("userMessage", "look", fileUploads=orjson.dumps(PICTURE).decode()),
            flow("apiMessage", "b"),
        ],
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_the_image_of_one_message_is_that_of_no_other(tmp_path: Path, name: str):
    columns, rows = LOGS[name]
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    store = Store(tmp_path / "store")
    assert ingest([log], store, settings=IngestionSettings(map=columns, redact=False)).media == 1
    (conversation,) = store.conversations()
    turns = [(m.content, conversation.has_media(i)) for i, m in enumerate(conversation.messages) if m.role != "system"]
    assert turns == [("q", False), ("a", False), ("look\n[image]", True), ("b", False)]
