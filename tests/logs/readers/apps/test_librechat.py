"""LibreChat: exports with branches, recursive ones, messages of the database, thumbs, thoughts and tools."""

import pytest

from chats import WRONG, A, B, Q
from drift.records import Rating

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]
ROOT = "00000000-0000-0000-0000-000000000000"


def message(name, parent, is_user, text, **more):
    sender = "User" if is_user else "gpt-4o"
    return {
        "messageId": name, "parentMessageId": parent, "conversationId": "c", "sender": sender, "text": text,
        "isCreatedByUser": is_user, "createdAt": "2025-06-01T10:00:00Z", **more,
    }  # fmt: skip


FLAT = [
    message("1", ROOT, True, Q), message("2", "1", False, A), message("3", "2", True, WRONG),
    message("4", "3", False, B),
]  # fmt: skip


def export(*messages, **more):
    return {
        "conversationId": "c",
        "endpoint": "openAI",
        "options": {"model": "gpt-4o"},
        "messages": [*messages],
        **more,
    }


def test_an_export_with_its_time_and_model(read):
    told = read(export(*FLAT))
    assert (told.formats, told.texts()) == (["librechat"], CHAT)
    only = told.only
    assert (only.source_id, only.model, only.started_at) == ("c", "gpt-4o", "2025-06-01T10:00:00Z")


def test_branches_are_paths_of_one_tree_and_the_first_reply_was_asked_for_again(read):
    told = read(export(*FLAT[:2], message("5", "1", False, B)))
    found = {one.source_id: [m.content for m in one.messages] for one in told.conversations}
    assert found == {"c": [Q, A], "c/5": [Q, B]}
    assert {one.source_id: [r.kind for r in one.ratings] for one in told.conversations} == {
        "c": ["regeneration"], "c/5": [],
    }  # fmt: skip
    assert len({one.family for one in told.conversations}) == 1


def test_a_recursive_export(read):
    nested = [
        message("1", ROOT, True, Q, children=[message("2", "1", False, A, children=[]), message("3", "1", False, B)])
    ]
    without_parents = [{k: v for k, v in nested[0].items() if k != "parentMessageId"}]
    for messages in (nested, without_parents):
        told = read(export(*messages, recursive=True))
        assert sorted([m.content for m in one.messages] for one in told.conversations) == [[Q, B], [Q, A]]


def test_messages_of_the_database_are_put_together(read):
    rows = [{**row, "user": "ann", "createdAt": {"$date": f"2025-06-01T10:00:0{n}Z"}} for n, row in enumerate(FLAT)]
    told = read(b=rows[:1:-1], a=rows[:2])
    assert (told.formats, told.texts()) == (["librechat", "librechat"], CHAT)
    assert (told.only.user_key, told.only.started_at) == ("ann", "2025-06-01T10:00:00Z")


@pytest.mark.parametrize(
    ("feedback", "ratings"),
    [
        ({"rating": "thumbsDown", "tag": "inaccurate"}, [Rating(1, "thumb", -1.0, "inaccurate")]),
        ({"rating": "thumbsUp"}, [Rating(1, "thumb", 1.0)]),
        ({"rating": "thumbsDown", "tag": {"key": "other"}, "text": "no"}, [Rating(1, "thumb", -1.0, "other: no")]),
        (None, []),
        ({"rating": 5}, []),
    ],
)
def test_thumbs(read, feedback, ratings):
    assert list(read(export(FLAT[0], {**FLAT[1], "feedback": feedback})).only.ratings) == ratings


def test_the_instructions_of_a_chat_come_first(read):
    row = export(FLAT[0], {**FLAT[1], "feedback": {"rating": "thumbsDown"}}, options={"promptPrefix": "Be brief."})
    told = read(row)
    assert told.texts() == [("system", "Be brief."), *CHAT[:2]]
    assert told.only.ratings == (Rating(2, "thumb", -1.0),)


def test_parts_thoughts_tools_and_files(read):
    content = [
        {"type": "think", "think": "I add."},
        {"type": "tool_call", "tool_call": {"id": "t", "name": "add", "args": '{"a":2}', "output": "4"}},
        {"type": "text", "text": {"value": B}},
    ]
    told = read(export(message("1", ROOT, True, Q, files=[{"type": "image/png"}]),
                       message("2", "1", False, "", content=content)))  # fmt: skip
    asked, called, answered, reply = told.only.messages
    assert (asked.content, told.only.has_media(0)) == (f"{Q}\n[image]", True)
    assert [(c.id, c.function.name, c.function.arguments) for c in called.tool_calls] == [("t", "add", '{"a":2}')]
    assert (called.reasoning, answered.content, reply.content) == ("I add.", "4", B)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (export(), ["no_messages"]),
        ({"messages": None}, ["no_messages"]),
        ({"messages": 7}, ["no_messages"]),
        (export(FLAT[0], 5), ["not_an_object"]),
        (export(FLAT[0], {**FLAT[1], "text": 5}), ["bad_content"]),
        (export(FLAT[1]), ["no_user_turn"]),
        (export({**FLAT[0], "text": ""}), ["no_messages"]),
        (export(message("1", "2", True, Q), message("2", "1", False, A)), ["cyclic_tree"]),
    ],
)
def test_bad_rows_have_a_named_outcome(read, row, reasons):
    assert read(row, format_name="librechat").reasons == reasons


def test_a_reply_that_failed_is_left_out(read):
    assert read(export(FLAT[0], {**FLAT[1], "error": True})).texts() == CHAT[:1]


def test_a_chat_a_thousand_messages_deep(read):
    deep = [message(str(n), str(n - 1), n % 2 == 1, f"text {n}") for n in range(1, 1001)]
    assert len(read(export(*deep)).only.messages) == 1000


def of_agent(text: str, agent: str, group: int | None = 1):
    return {"type": "text", "text": text, "agentId": agent, **({} if group is None else {"groupId": group})}


@pytest.mark.parametrize("agents", [("a", "b____1"), ("b____1", "a____0"), ("b____10", "a____9")])
def test_of_agents_that_answer_at_once_the_first_is_the_reply(read, agents):
    parts = [of_agent(A if name.startswith("a") else B, name) for name in agents]
    told = read(export(message("1", ROOT, True, Q), message("2", "1", False, "", content=parts)))
    assert told.texts() == [("user", Q), ("assistant", A)]
    again = [*parts, *(of_agent(part["text"], part["agentId"], 2) for part in parts)]
    told = read(export(message("1", ROOT, True, Q), message("2", "1", False, "", content=again)))
    assert told.texts() == [("user", Q), ("assistant", f"{A}\n{A}")]


def test_agents_that_hand_over_to_each_other_write_one_reply(read):
    parts = [of_agent(A, "a", None), of_agent(B, "b____1", None)]
    told = read(export(message("1", ROOT, True, Q), message("2", "1", False, "", content=parts)))
    assert told.texts() == [("user", Q), ("assistant", f"{A}\n{B}")]
