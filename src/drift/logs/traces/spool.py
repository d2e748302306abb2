"""Drafts and judgements on disk, while they wait for others that they belong to."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from drift.logs.draft import Call, ConversationDraft, Evidence
from drift.logs.files.rows import Place, encodable
from drift.records import Message, Rating, tool_calls_of


class Texts(Protocol):
    """Where drafts and judgements wait, each under a number: its place. Later ones have higher places."""

    def load(self, place: int) -> tuple[dict[str, Any], str]:
        """The fields of the item at a place, and its log."""
        ...

    def draft(self, place: int) -> tuple[ConversationDraft, str]:
        """The draft at a place, and its log."""
        ...

    def close(self) -> None: ...


class Spool:
    """An unnamed file of drafts and judgements, each with the log that it is from."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: by default the system's folder for temporary files."""
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # type: ignore[assignment]  # noqa: SIM115
        self._size = 0

    def close(self) -> None:
        self._file.close()

    def write(self, item: ConversationDraft | Evidence, file: str) -> int:
        """Append an item; returns its place."""
        place = self._size
        self._size += self._file.write(line_of(item, file))
        return place

    def load(self, place: int) -> tuple[dict[str, Any], str]:
        """The fields of the item at a place, and its log."""
        self._file.seek(place)
        file, item = orjson.loads(self._file.readline())
        return item, file

    def draft(self, place: int) -> tuple[ConversationDraft, str]:
        """The draft at a place, and its log."""
        fields, file = self.load(place)
        return draft_of(fields), file


def line_of(item: ConversationDraft | Evidence, file: str) -> bytes:
    """An item and its log as one line of JSON."""
    return orjson.dumps((encodable(file), item), default=list, option=orjson.OPT_APPEND_NEWLINE)


def draft_of(fields: Mapping[str, Any]) -> ConversationDraft:
    """The draft that was written as these fields; takes their messages apart."""
    call = fields["call"] or {}
    return ConversationDraft(**{
        **fields,
        "at": Place(*fields["at"]),
        "messages": tuple([_message(message) for message in fields["messages"]]),
        "ratings": tuple(Rating(**rating) for rating in fields["ratings"]),
        "call": Call(**{**call, "ids": tuple(call.get("ids", ()))}),
    })  # fmt: skip


def _message(fields: dict[str, Any]) -> Message:
    calls = fields["tool_calls"]  # most messages have none
    fields["tool_calls"] = tool_calls_of(calls) if calls else ()
    return Message(**fields)


def evidence_of(fields: Mapping[str, Any]) -> Evidence:
    """The judgement that was written as these fields."""
    return Evidence(**{**fields, "at": Place(*fields["at"]), "about": tuple(fields["about"])})
