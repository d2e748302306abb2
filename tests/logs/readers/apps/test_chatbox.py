"""Chatbox: sessions of new and old versions, threads, forks, and an export of everything."""

import pytest

from chats import WRONG, A, B, Q

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]


def message(name, role, text, **more):
    return {"id": name, "role": role, "contentParts": [{"type": "text", "text": text}], **more}


MESSAGES = [
    message("1", "user", Q, timestamp=1716212345000), message("2", "assistant", A, model="m"),
    message("3", "user", WRONG), message("4", "assistant", B, model="m"),
]  # fmt: skip


def session(*messages, **more):
    return {"id": "s", "name": "Sums", "type": "chat", "messages": list(messages), **more}


def test_a_session(read):
    told = read(session(*MESSAGES))
    assert (told.formats, told.texts()) == (["chatbox"], CHAT)
    assert (told.only.source_id, told.only.model) == ("s", "m")
    assert told.only.messages[0].timestamp == "2024-05-20T13:39:05+00:00"


def test_a_session_of_an_old_version_has_texts(read):
    old = [{"id": "1", "role": "user", "content": Q}, {"id": "2", "role": "assistant", "content": A}]
    told = read(session(*old, threadName="Sums"))
    assert (told.formats, told.texts()) == (["chatbox"], CHAT[:2])


def test_older_threads_are_conversations_of_the_same_family(read):
    old = {"id": "t1", "name": "old", "messages": [message("8", "user", "hi"), message("9", "assistant", "hello")]}
    told = read(session(*MESSAGES, threads=[old]))
    assert {one.source_id: len(one.messages) for one in told.conversations} == {"s": 4, "s/t1": 2}
    assert len({one.family for one in told.conversations}) == 1


def test_a_fork_is_another_path_and_its_first_reply_was_asked_for_again(read):
    forks = {"1": {"position": 1, "lists": [
        {"id": "f0", "messages": [message("0", "assistant", "6")]}, {"id": "f1", "messages": []},
    ]}}  # fmt: skip
    told = read(session(*MESSAGES[:2], messageForksHash=forks))
    found = {one.source_id: [m.content for m in one.messages] for one in told.conversations}
    assert found == {"s": [Q, "6"], "s/2": [Q, A]}
    assert {one.source_id: [r.kind for r in one.ratings] for one in told.conversations} == {
        "s": ["regeneration"], "s/2": [],
    }  # fmt: skip


def test_an_export_of_everything(read):
    row = {
        "settings": {"language": "en"}, "chat-sessions-list": [{"id": "1"}],
        "session:1": {**session(*MESSAGES), "id": "1"},
        "chat-sessions": [{**session({"id": "1", "role": "user", "content": "hi"}), "id": "2"}],
    }  # fmt: skip
    told = read(row)
    assert (told.formats, {one.source_id for one in told.conversations}) == (["chatbox"], {"1", "2"})


def test_thoughts_tools_and_images(read):
    parts = [
        {"type": "reasoning", "text": "I add."},
        {"type": "tool-call", "toolCallId": "t", "toolName": "add", "args": {"a": 2}, "result": "4"},
        {"type": "info", "text": "shown only"},
        {"type": "text", "text": B},
    ]
    asked = {
        "id": "1",
        "role": "user",
        "contentParts": [{"type": "text", "text": Q}, {"type": "image", "storageKey": "k"}],
    }
    told = read(session(asked, {"id": "2", "role": "assistant", "contentParts": parts}))
    question, called, answered, reply = told.only.messages
    assert (question.content, told.only.has_media(0)) == (f"{Q}\n[image]", True)
    assert [(c.id, c.function.name, c.function.arguments) for c in called.tool_calls] == [("t", "add", '{"a":2}')]
    assert (called.reasoning, answered.content, reply.content) == ("I add.", "4", B)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (session(), ["no_messages"]),
        ({"messages": None}, ["no_messages"]),
        (session(*MESSAGES[:1], 5), ["not_an_object"]),
        (session(MESSAGES[1]), ["no_user_turn"]),
        (session(message("1", "alien", Q)), ["unknown_role"]),
        (session({"id": "1", "role": "user", "contentParts": 5}), ["bad_content"]),
        (session({"id": "1", "role": "user", "contentParts": []}), ["no_messages"]),
    ],
)
def test_bad_rows_have_a_named_outcome(read, row, reasons):
    assert read(row, format_name="chatbox").reasons == reasons
