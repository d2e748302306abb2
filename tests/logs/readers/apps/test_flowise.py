"""Flowise: messages of its API and of its page's export, thumbs, tools and uploads."""

import pytest

from chats import WRONG, A, B, Q
from drift.records import Rating

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]


def message(name, role, content, chat="c", **more):
    return {"id": name, "role": role, "chatflowid": "f", "chatId": chat, "content": content, **more}


ROWS = [
    message("1", "userMessage", Q, leadEmail="ann"), message("2", "apiMessage", A),
    message("3", "userMessage", WRONG), message("4", "apiMessage", B),
]  # fmt: skip


def test_messages_without_times_keep_their_order(read):
    told = read(*ROWS)
    assert (told.formats, told.texts()) == (["flowise"], CHAT)
    assert (told.only.source_id, told.only.user_key) == ("c", "ann")


def test_messages_with_times_are_in_their_order_over_several_files(read):
    timed = [{**row, "createdDate": f"2025-01-01T00:00:0{place}Z"} for place, row in enumerate(ROWS)]
    told = read(b=timed[2:], a=timed[:2])
    assert (told.texts(), told.only.started_at) == (CHAT, "2025-01-01T00:00:00Z")


def test_chats_are_told_apart(read):
    told = read(ROWS[0], message("5", "userMessage", "hi", "other"), *ROWS[1:])
    assert sorted(len(one.messages) for one in told.conversations) == [1, 4]


def test_a_chat_as_the_page_exports_it(read):
    inner = [{"role": "user", "content": Q, "time": "2025-01-01"}, {"role": "bot", "content": A}]
    told = read({"id": "s", "source": "UI", "sessionId": "s", "memoryType": "m", "email": "ann", "messages": inner})
    assert (told.formats, told.texts(), told.only.user_key) == (["flowise"], CHAT[:2], "ann")


def test_thumbs_on_messages_and_in_rows_of_their_own(read):
    told = read(ROWS[0], {**ROWS[1], "feedback": {"rating": "THUMBS_DOWN", "content": "no"}})
    assert told.only.ratings == (Rating(1, "thumb", -1.0, "no"),)
    told = read(*ROWS, {"id": "f", "chatId": "c", "messageId": "4", "rating": "THUMBS_UP", "content": ""})
    assert (told.only.ratings, told.reasons) == ((Rating(3, "thumb", 1.0),), ["joined_as_evidence"])


def test_tools_and_uploads(read):
    used = [{"tool": "add", "toolInput": {"a": 2}, "toolOutput": "4"}]
    files = [{"type": "file", "mime": "image/png", "name": "x.png", "data": "AA"}]
    told = read({**ROWS[0], "fileUploads": files}, {**ROWS[1], "usedTools": used})
    asked, called, answered, reply = told.only.messages
    assert (asked.content, told.only.has_media(0)) == (f"{Q}\n[image]", True)
    assert [(c.function.name, c.function.arguments) for c in called.tool_calls] == [("add", '{"a":2}')]
    assert (answered.content, answered.tool_call_id, reply.content) == ("4", called.tool_calls[0].id, A)


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([{**ROWS[0], "chatId": None}], ["no_messages"]),
        ([ROWS[1]], ["no_user_turn"]),
        ([{**ROWS[0], "content": None}], ["bad_content"]),
        ([{**ROWS[0], "content": ["x"]}], ["bad_content"]),
        ([{**ROWS[0], "role": "alien"}], ["unknown_role"]),
        ([{"sessionId": "s", "memoryType": "m", "messages": []}], ["no_messages"]),
        ([{"sessionId": "s", "memoryType": "m", "messages": [None]}], ["not_an_object"]),
    ],
)
def test_bad_rows_have_a_named_outcome(read, rows, reasons):
    assert read(*rows, format_name="flowise").reasons == reasons


def test_an_image_is_of_its_message_alone(read):
    upload = message("5", "userMessage", "And this?", fileUploads=[{"mime": "image/png"}])
    only = read(*ROWS, upload, message("6", "apiMessage", "A cat.")).only
    assert [only.has_media(place) for place in range(6)] == [False, False, False, False, True, False]
