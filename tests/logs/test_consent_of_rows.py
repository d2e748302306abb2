"""A consent that the rows of one conversation contradict is none; rows that say nothing do not contradict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.config import IngestionSettings
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Reason
from drift.store import Store

EXCHANGES = [(Q, A), (WRONG, B), ("Thanks!", "Good.")]
CHAT = [user(Q), bot(A), user(WRONG), bot(B)]
TABLE = {"conversation": "chat", "request": "q", "reply": "a"}


def at(place: int) -> str:
    return f"2024-05-01T10:00:0{place}Z"


ROWS: dict[str, list[dict[str, Any]]] = {
    "dify": [
        {"id": str(place), "conversation_id": "c", "query": request, "answer": reply, "created_at": 1714557600 + place}
        for place, (request, reply) in enumerate(EXCHANGES)
    ],
    "langchain_table": [
        {"id": place, "session_id": "c", "message": {"type": {"user": "human"}.get(m["role"], "ai"), **m, "role": None}}
        for place, m in enumerate(CHAT)
    ],
    "ai_sdk_table": [
        {"id": str(place), "chatId": "c", "role": message["role"], "createdAt": at(place),
         "parts": [{"type": "text", "text": message["content"]}]}
        for place, message in enumerate(CHAT)
    ],
    "langfuse": [
        {"id": str(place), "type": "GENERATION", "traceId": str(place), "sessionId": "c", "startTime": at(place),
         "input": [user(request)], "output": bot(reply)}
        for place, (request, reply) in enumerate(EXCHANGES)
    ],
    "table": [{"chat": "c", "q": request, "a": reply} for request, reply in EXCHANGES],
}  # fmt: skip


def outcome(folder: Path, name: str, consents: Sequence[str | None]) -> IngestSummary:
    """What becomes of a chat whose rows have these consents, the last of them up to its end."""
    folder.mkdir()
    given = [*consents, *[consents[-1]] * len(ROWS[name])]
    rows = [{**row, "metadata": {"consent": consent}} for row, consent in zip(ROWS[name], given, strict=False)]
    (folder / "log.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    settings = IngestionSettings(require_consent={"consent": "yes"}, map=TABLE if name == "table" else {})
    summary = ingest([folder / "log.jsonl"], Store(folder / "store"), settings=settings)
    assert summary.quarantined == {}
    return summary


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_contradict_each_other_give_no_consent(tmp_path, name):
    for number, consents in enumerate((["yes", "no"], ["no", "yes"], ["no"])):
        summary = outcome(tmp_path / f"refused-{number}", name, consents)
        assert (summary.accepted, summary.filtered_by) == (0, {Reason.NO_CONSENT: 1})
    for number, consents in enumerate((["yes"], [None, "yes"], ["yes", None])):
        assert outcome(tmp_path / f"given-{number}", name, consents).accepted == 1
