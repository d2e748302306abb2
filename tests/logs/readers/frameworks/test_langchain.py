"""LangChain's messages in all their spellings, LangGraph's states, and tables with one message per row."""

import pytest

Q, A, NO, B = "Name a red fruit.", "Banana.", "That is not red.", "Cherry."
TEXTS = [("user", Q), ("assistant", A), ("user", NO), ("assistant", B)]
CALL = {"name": "search", "args": {"q": "fruit"}, "id": "c1", "type": "tool_call"}


def entry(kind, content, **more) -> dict:
    return {"type": kind, "content": content, "additional_kwargs": {}, "response_metadata": {}, "id": None, **more}


def serialised(name, content) -> dict:
    return {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", name],
        "kwargs": {"content": content},
    }


PLAIN = [entry("human", Q), entry("ai", A, response_metadata={"model_name": "m-1"}), entry("human", NO), entry("ai", B)]
MESSAGES = {
    "plain": PLAIN,
    "data": [{"type": one["type"], "data": one} for one in PLAIN],
    "serialised": [
        serialised("HumanMessage" if one["type"] == "human" else "AIMessage", one["content"]) for one in PLAIN
    ],
    "chunks": [{**one, "type": "AIMessageChunk" if one["type"] == "ai" else "HumanMessage"} for one in PLAIN],
    "chat messages": [entry("chat", t, role=r) if r == "user" else entry("ai", t) for r, t in TEXTS],
}


@pytest.mark.parametrize("spelling", MESSAGES)
def test_messages_in_every_spelling(read, spelling):
    told = read({"thread_id": "t1", "messages": MESSAGES[spelling]})
    assert told.formats == ["langchain"]
    assert told.texts() == TEXTS
    assert told.only.source_id == "t1"


def test_calls_answers_and_thoughts(read):
    old = {"id": "c2", "type": "function", "function": {"name": "count", "arguments": "{}"}}
    content = [
        {"type": "text", "text": "I look it up."},
        {"type": "tool_use", "id": "c1", "name": "search", "input": {}},
    ]
    told = read(
        {
            "messages": [
                entry("human", Q),
                entry("ai", content, tool_calls=[CALL]),
                entry("tool", "cherries", tool_call_id="c1", name="search"),
                entry("ai", "", additional_kwargs={"tool_calls": [old], "reasoning_content": "hm"}),
                {"type": "remove", "content": "", "id": "x"},
            ]
        }
    )
    _, call, answer, other = told.only.messages
    assert (call.content, [(one.id, one.function.arguments) for one in call.tool_calls]) == (
        "I look it up.", [("c1", '{"q":"fruit"}')],
    )  # fmt: skip
    assert (answer.role, answer.content, answer.tool_call_id, answer.name) == ("tool", "cherries", "c1", "search")
    assert ([(one.id, one.function.name) for one in other.tool_calls], other.reasoning) == ([("c2", "count")], "hm")


STATES = {
    "a state": {"values": {"messages": PLAIN}, "config": {"configurable": {"thread_id": "t1"}}},
    "a checkpoint": {
        "checkpoint": {"ts": "2025-06-01T10:00:00Z", "channel_values": {"messages": PLAIN}},
        "thread_id": "t1",
    },
    "channel values": {"channel_values": {"messages": PLAIN}, "metadata": {"thread_id": "t1"}},
    "chat history": {"chat_history": PLAIN, "session_id": "t1"},
}


@pytest.mark.parametrize("shape", STATES)
def test_states_of_threads(read, shape):
    told = read({**STATES[shape], "user_id": "ann"})
    assert told.texts() == TEXTS
    assert (told.only.source_id, told.only.user_key, told.only.model) == ("t1", "ann", "m-1")
    assert told.only.started_at == ("2025-06-01T10:00:00Z" if shape == "a checkpoint" else None)


def row(session, kind, content, **more) -> dict:
    return {"session_id": session, "message": {"type": kind, "data": entry(kind, content)}, **more}


def test_a_table_is_joined_by_session_in_the_order_of_its_rows(read):
    told = read(
        row("s1", "human", Q),
        row("s2", "human", "2+2?"),
        row("s1", "ai", A),
        row("s2", "ai", "4"),
        row("s1", "human", NO),
    )
    assert told.formats == ["langchain_table"]
    assert [told.texts(place) for place in (0, 1)] == [TEXTS[:3], [("user", "2+2?"), ("assistant", "4")]]
    assert [one.source_id for one in told.conversations] == ["s1", "s2"]
    assert [message.source_index for message in told.conversations[0].messages] == [0, 1, 2]


@pytest.mark.parametrize("order", ["id", "created_at"])
def test_numbers_or_times_give_the_order_where_all_rows_have_them(read, order):
    keys = {"id": [1, 2, 3], "created_at": [f"2025-06-01T10:00:0{second}+00:00" for second in (1, 2, 3)]}[order]
    rows = [
        row("s1", kind, text, **{order: key})
        for key, kind, text in zip(keys, ("human", "ai", "human"), (Q, A, NO), strict=True)
    ]
    assert read(*reversed(rows)).texts() == TEXTS[:3]


@pytest.mark.parametrize("number", [int, str], ids=["numbers", "numbers of a CSV file"])
def test_numbers_give_the_order_where_only_replies_have_times(read, number):
    """A time is seconds since 1970, so the number of a row without one came before every reply."""
    turns = [("human", Q), ("ai", A), ("human", NO), ("ai", "Cherry.")]
    rows = [row("s1", kind, text, id=number(place + 9)) for place, (kind, text) in enumerate(turns)]
    for reply in rows[1::2]:
        reply["message"]["data"]["created_at"] = "2024-05-01T10:00:00Z"
    assert read(*reversed(rows)).texts() == [*TEXTS[:3], ("assistant", "Cherry.")]


def test_rows_of_mongodb_and_of_a_message_as_text(read):
    told = read(
        {"SessionId": "s1", "History": '{"type": "human", "data": {"content": "Hi", "type": "human"}}'},
        {"SessionId": "s1", "History": '{"type": "ai", "data": {"content": "Hello.", "type": "ai"}}'},
    )
    assert told.texts() == [("user", "Hi"), ("assistant", "Hello.")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"messages": []}, "no_messages"),
        ({"messages": None}, "no_messages"),
        ({"messages": 5}, "no_messages"),
        ({"messages": [5]}, "not_an_object"),
        ({"messages": [entry("human", 5)]}, "bad_content"),
        ({"messages": [entry("robot", "x")]}, "unknown_role"),
        ({"messages": [entry("ai", "x")]}, "no_user_turn"),
        ({"values": {"values": {"values": {"values": {"values": {"values": {}}}}}}}, "no_messages"),
    ],
)
def test_what_is_no_chat_has_a_name(read, value, reason):
    assert read(value, format_name="langchain").reasons == [reason]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"message": entry("human", "x")}, "no_messages"),
        ({"session_id": "s", "message": None}, "no_messages"),
        ({"session_id": "s", "message": 5}, "no_messages"),
        ({"session_id": "s", "message": {"type": "remove", "content": ""}}, "not_a_chat"),
        ({"session_id": "s", "message": entry("ai", "x")}, "no_user_turn"),
    ],
)
def test_a_row_of_no_conversation_has_a_name(read, value, reason):
    assert read(value, format_name="langchain_table").reasons == [reason]


def test_a_session_that_is_too_large_is_refused_whole(read):
    big = "x" * 20_000_000
    told = read(row("s1", "human", big), row("s1", "ai", big), row("s2", "human", Q))
    assert told.reasons == ["too_large"]
    assert told.texts() == [("user", Q)]
