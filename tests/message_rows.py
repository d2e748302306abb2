"""Rows that each hold one message or one exchange, as applications log them, and what becomes of files of them."""

from pathlib import Path
from typing import Any

import orjson

from chats import WRONG, A, B, Q
from drift.config import IngestionSettings
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation
from drift.store import Store

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]
MAP = {"conversation": "chat", "role": "who", "content": "text"}
TIMED = {**MAP, "time": "at"}


def at(place: int) -> str:
    return f"2024-05-01T10:00:0{place}Z"


def librechat(place: int, role: str, text: str, **more: Any) -> dict[str, Any]:
    above = {"parentMessageId": str(place - 1) if place else "0"}
    chat = {"messageId": str(place), "conversationId": "c", "isCreatedByUser": role == "user"}
    return {**chat, **above, "text": text, "createdAt": at(place), **more}


def flowise(place: int, role: str, text: str) -> dict[str, Any]:
    word = {"user": "userMessage", "assistant": "apiMessage"}[role]
    return {"id": str(place), "chatId": "c", "role": word, "content": text, "createdDate": at(place)}


def langchain(place: int, role: str, text: str) -> dict[str, Any]:
    kind = {"user": "human", "assistant": "ai"}[role]
    return {"id": place, "session_id": "c", "message": {"type": kind, "content": text}}


def ai_sdk(place: int, role: str, text: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": text}]
    return {"id": str(place), "chatId": "c", "role": role, "parts": parts, "createdAt": at(place)}


def oasst(place: int, role: str, text: str) -> dict[str, Any]:
    word = {"user": "prompter", "assistant": "assistant"}[role]
    above = str(place - 1) if place else None
    return {"message_id": str(place), "parent_id": above, "message_tree_id": "c", "role": word, "text": text}


def dify(place: int, role: str, text: str) -> dict[str, Any]:
    request = {"user": text, "assistant": "And?"}[role]
    return {"id": str(place), "conversation_id": "c", "query": request, "answer": A, "created_at": 1714557600 + place}


def table(place: int, role: str, text: str) -> dict[str, Any]:
    return {"chat": "c", "who": role, "text": text, "at": at(place)}


def read(
    folder: Path, *files: list[dict[str, Any]], columns: dict[str, str] | None = None, name: str = "logs"
) -> tuple[list[Conversation], IngestSummary]:
    """The conversations of these files, read in one command, and what became of the rows."""
    return add(Store(folder / f"store-{name}"), folder / name, *files, columns=columns)


def add(
    store: Store, folder: Path, *files: list[dict[str, Any]], columns: dict[str, str] | None = None
) -> tuple[list[Conversation], IngestSummary]:
    """As `read`, into a store that may hold something already."""
    folder.mkdir()
    for number, rows in enumerate(files):
        (folder / f"{number}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest([folder], store, settings=IngestionSettings(map=columns or {}, redact=False))
    assert summary.adds_up
    return list(store.conversations()), summary
