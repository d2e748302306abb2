"""Lists of messages with the newest first: their times tell, so the chat is read in the order in which it was held."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.config import IngestionSettings
from drift.logs.ingest import ingest
from drift.records import Conversation, Rating
from drift.store import Store

CHAT = [user(Q), bot(A), user(WRONG), bot(B)]
TEXTS = [Q, A, WRONG, B]


def timed(chat: list[dict[str, Any]], times: list[int | None]) -> list[dict[str, Any]]:
    whens = [None if time is None else f"2024-05-01T10:00:0{time}Z" for time in times]
    return [{**entry, "timestamp": when} for entry, when in zip(chat, whens, strict=True)]


def read(folder: Path, row: dict[str, Any]) -> Conversation:
    (folder / "log.jsonl").write_bytes(orjson.dumps(row))
    store = Store(folder / "store")
    ingest([folder / "log.jsonl"], store, settings=IngestionSettings(redact=False))
    (chat,) = store.conversations()
    return chat


def texts(chat: Conversation) -> list[str]:
    return [message.content for message in chat.messages]


def of_ai_sdk(chat: list[dict[str, Any]], times: list[int | None]) -> dict[str, Any]:
    entries = timed(chat, times)
    messages = [
        {"id": str(place), "role": entry["role"], "createdAt": entry["timestamp"],
         "parts": [{"type": "text", "text": entry["content"]}]}
        for place, entry in enumerate(entries)
    ]  # fmt: skip
    return {"id": "c", "messages": messages}


def native(chat: list[dict[str, Any]], times: list[int | None]) -> dict[str, Any]:
    return {"id": "c", "messages": timed(chat, times)}


def sharegpt(chat: list[dict[str, Any]], times: list[int | None]) -> dict[str, Any]:
    roles = {"user": "human", "assistant": "gpt"}
    entries = [
        {"from": roles[entry["role"]], "value": entry["content"], "timestamp": entry["timestamp"]}
        for entry in timed(chat, times)
    ]
    return {"id": "c", "conversations": entries}


@pytest.mark.parametrize("row", [native, of_ai_sdk, sharegpt])
@pytest.mark.parametrize("times", [[4, 3, 2, 1], [2, 2, 1, 1]])
def test_a_list_with_the_newest_first_is_read_from_its_end(tmp_path, row, times):
    chat = read(tmp_path, row(CHAT[::-1], times))
    assert texts(chat) == TEXTS
    assert [message.timestamp for message in chat.messages] == [f"2024-05-01T10:00:0{time}Z" for time in times[::-1]]


def test_a_request_that_waits_for_its_reply(tmp_path):
    assert texts(read(tmp_path, native(CHAT[2::-1], [3, 2, 1]))) == TEXTS[:3]


def test_judgements_stay_with_their_replies(tmp_path):
    newest_first = timed(
        [{**bot(B), "feedback": "up"}, user(WRONG), {**bot(A), "feedback": "down"}, user(Q)], [4, 3, 2, 1]
    )
    chat = read(tmp_path, {"messages": newest_first})
    assert chat.ratings == (Rating(1, "thumb", -1.0), Rating(3, "thumb", 1.0))


@pytest.mark.parametrize(
    "times",
    [
        [1, 2, 3, 4],
        [4, 4, 4, 4],
        [4, 3, 2, None],
        [2, 1, 4, 3],  # each reply has the time at which its request was sent, less what two clocks differ by
        [3, 3, 2, 2],  # of a request and its reply at one time, the reply must stand first
    ],
)
def test_other_lists_stay_as_they_are(tmp_path, times):
    assert texts(read(tmp_path, native(CHAT, times))) == TEXTS


@pytest.mark.parametrize("chat", [CHAT[:2], [bot("How can I help?"), user(Q)]])
def test_two_messages_whose_clocks_differ_stay_as_they_are(tmp_path, chat):
    """A greeting is no answer to the question that follows it."""
    assert texts(read(tmp_path, native(chat, [2, 1]))) == [message["content"] for message in chat]
