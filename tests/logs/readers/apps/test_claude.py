"""Claude's export: blocks of a message, attachments, trees, and what is no chat."""

import pytest


def entry(uuid, sender, text="", content=None, **more) -> dict:
    content = [{"type": "text", "text": text, "citations": []}] if content is None else content
    return {
        "uuid": uuid,
        "text": text,
        "content": content,
        "sender": sender,
        "created_at": "2025-06-01T10:00:00Z",
        **more,
    }


def chat(*messages, **more) -> dict:
    row = {"uuid": "c1", "name": "Roses", "created_at": "2025-06-01T09:59:00Z", "account": {"uuid": "acc-1"}}
    return {**row, "chat_messages": list(messages), **more}


def test_a_chat_with_its_user_times_and_pasted_text(read):
    pasted = {"file_name": "paste.txt", "file_size": 9, "file_type": "txt", "extracted_content": "Rosa canina"}
    told = read(
        chat(
            entry("1", "human", "Which plant is this?", attachments=[pasted], files=[]),
            entry("2", "assistant", "A dog rose."),
            entry("3", "human", "Thanks", attachments=[], files=[]),
        )
    )
    assert told.formats == ["claude"]
    assert told.texts() == [
        ("user", "Which plant is this?\nRosa canina"),
        ("assistant", "A dog rose."),
        ("user", "Thanks"),
    ]
    assert (told.only.source_id, told.only.user_key, told.only.started_at) == ("c1", "acc-1", "2025-06-01T09:59:00Z")
    assert told.only.messages[1].timestamp == "2025-06-01T10:00:00Z"
    assert [message.source_index for message in told.only.messages] == [0, 1, 2]


def test_an_old_export_has_only_the_text(read):
    told = read(chat({"sender": "human", "text": "Hi"}, {"sender": "assistant", "text": "Hello."}))
    assert told.texts() == [("user", "Hi"), ("assistant", "Hello.")]


def test_parents_make_a_tree_and_another_reply_dislikes_the_first(read):
    root = "00000000-0000-4000-8000-000000000000"
    told = read(
        chat(
            entry("1", "human", "2+2?", parent_message_uuid=root),
            entry("2", "assistant", "5", parent_message_uuid="1"),
            entry("3", "assistant", "4", parent_message_uuid="1"),
        )
    )
    by_id = {one.source_id: one for one in told.conversations}
    assert {name: [message.content for message in one.messages] for name, one in by_id.items()} == {
        "c1": ["2+2?", "5"],
        "c1/3": ["2+2?", "4"],
    }
    assert [rating.kind for rating in by_id["c1"].ratings] == ["regeneration"]
    assert by_id["c1/3"].ratings == ()


def test_the_result_of_a_tool_ends_the_message_before_it(read):
    content = [
        {"type": "text", "text": "I look it up."},
        {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "roses"}},
        {
            "type": "tool_result",
            "tool_use_id": "t1",
            "name": "search",
            "content": [{"type": "text", "text": "In March."}],
        },
        {"type": "text", "text": "Cut them in March."},
    ]
    told = read(chat(entry("1", "human", "When?"), entry("2", "assistant", "x", content)))
    assert told.texts() == [
        ("user", "When?"),
        ("assistant", "I look it up."),
        ("tool", "In March."),
        ("assistant", "Cut them in March."),
    ]
    call, answer = told.only.messages[1:3]
    assert [(one.id, one.function.name, one.function.arguments) for one in call.tool_calls] == [
        ("t1", "search", '{"q":"roses"}')
    ]
    assert (answer.tool_call_id, answer.name) == ("t1", "search")


def test_thoughts_and_files(read):
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A rose."}]
    files = [{"file_name": "rose.PNG"}, {"file_name": "list.pdf"}]
    told = read(chat(entry("1", "human", "What is it?", files=files), entry("2", "assistant", "x", content)))
    assert told.texts() == [("user", "What is it?\n[image]\n[file]"), ("assistant", "A rose.")]
    assert told.only.messages[1].reasoning == "hm"
    assert told.only.has_media(0)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no_messages"),
        (None, "no_messages"),
        ("text", "no_messages"),
        ([5], "not_an_object"),
        ([None], "not_an_object"),
        ([{"sender": "human", "text": 5}], "bad_content"),
        ([{"sender": "robot", "text": "x"}], "unknown_role"),
        ([{"sender": "assistant", "text": "x"}], "no_user_turn"),
    ],
)
def test_what_is_no_chat_has_a_name(read, messages, reason):
    assert read({"uuid": "c", "chat_messages": messages}).reasons == [reason]


def test_a_long_chat_and_five_megabytes_are_read(read):
    told = read(
        chat(*(entry(str(n), ("human", "assistant")[n % 2], "x" * (5_000_000 if n == 0 else 1)) for n in range(1000)))
    )
    assert len(told.only.messages) == 1000
    assert len(told.only.messages[0].content) == 5_000_000
