"""Calls beside the chat (titles, guardrails, tools, agents), and scales that do not say which way is good."""

from pathlib import Path

import orjson
import pytest

from chats import bot, user
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation, Rating, Reason
from drift.store import Store


def system(text):
    return {"role": "system", "content": text}


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": {"name": "w"}}]}
TOOL = {"role": "tool", "tool_call_id": "x", "content": "15C"}


def generation(name, trace, given, answer, at=0, session="s"):
    return {
        "id": name, "type": "GENERATION", "traceId": trace, "sessionId": session, "userId": "u",
        "startTime": f"2024-05-01T10:{at:02}:00.000Z", "input": given, "output": answer,
    }  # fmt: skip


def score(name, about, value):
    return {"name": name, "observationId": about, "value": value, "dataType": "NUMERIC", "source": "API"}


def read(tmp_path: Path, rows: list) -> tuple[IngestSummary, list[Conversation]]:
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest([log], store)
    assert summary.adds_up
    found = sorted(store.conversations(), key=lambda c: (-len(c.messages), c.messages[-1].content))
    again = ingest([log], store)
    assert (again.accepted, again.updated) == (0, 0)
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows[::-1]))
    assert ingest([log], Store(tmp_path / "other")).rows == summary.rows
    told = {(c.conversation_id, c.messages, c.ratings) for c in Store(tmp_path / "other").conversations()}
    assert told == {(c.conversation_id, c.messages, c.ratings) for c in found}
    return summary, found


def texts(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages]


@pytest.mark.parametrize("trace", ["t1", "t2"])
def test_a_title_of_a_chat_is_no_second_reply_to_its_request(tmp_path, trace):
    asked = user("capital of Australia?")
    rows = [
        generation("a", "t1", [system("You are kind. It is 10:01 on Monday."), asked], bot("Canberra."), 1),
        generation("b", trace, [system("Write a title"), asked], bot("Australian capital"), 2),
    ]
    assert [c.ratings for c in read(tmp_path, rows)[1]] == [(), ()]


@pytest.mark.parametrize(("trace", "given_up"), [("t1", 0), ("t2", 1)])
def test_samples_of_one_trace_were_not_asked_for_again(tmp_path, trace, given_up):
    rows = [generation("a", "t1", [user("2+2?")], bot("4"), 1), generation("b", trace, [user("2+2?")], bot("four"), 2)]
    _, found = read(tmp_path, rows)
    assert [texts(c) for c in found] == [["2+2?", "4"], ["2+2?", "four"]]
    assert sum(len(c.ratings) for c in found) == given_up


def test_a_trace_that_is_the_whole_session_tells_no_samples(tmp_path):
    rows = [generation(str(n), "s", [user("2+2?")], bot(reply), n) for n, reply in enumerate("54")]
    _, found = read(tmp_path, rows)
    assert {texts(c)[-1]: [r.kind for r in c.ratings] for c in found} == {"5": ["regeneration"], "4": []}


def test_a_system_message_that_tells_the_time_is_the_same_one(tmp_path):
    told = ["It is Monday, May 5, 11:59 pm.", "It is Tuesday, May 6, 0:02 am."]
    rows = [generation(str(n), f"t{n}", [system(told[n]), user("2+2?")], bot(reply), n) for n, reply in enumerate("54")]
    _, found = read(tmp_path, rows)
    assert {texts(c)[-1]: [r.kind for r in c.ratings] for c in found} == {"5": ["regeneration"], "4": []}


def without_history(*asked: str) -> list:
    return [generation(f"g{n}", f"t{n}", [user(text)], bot(f"re: {text}"), n) for n, text in enumerate(asked, 1)]


def test_a_title_does_not_keep_calls_without_history_apart(tmp_path):
    title = generation("x", "t1", [system("Name this chat"), user("I am Al")], bot("Intro"), 1)
    summary, found = read(tmp_path, [*without_history("I am Al", "2+2?", "no, wrong"), title])
    assert [texts(c) for c in found] == [
        ["I am Al", "re: I am Al", "2+2?", "re: 2+2?", "no, wrong", "re: no, wrong"],
        ["Name this chat", "I am Al", "Intro"],
    ]
    assert (summary.accepted, summary.duplicate) == (2, 2)


@pytest.mark.parametrize("asked", ["{}", "Is this allowed: {}"], ids=["the same request", "in the same trace"])
def test_a_guardrail_before_each_request_is_not_joined_to_a_chat(tmp_path, asked):
    chat = without_history("I am Al", "2+2?")
    guards = [
        generation(f"x{n}", f"t{n}", [system("Judge"), user(asked.format(text))], bot("safe"), n)
        for n, text in enumerate(("I am Al", "2+2?"), 1)
    ]
    assert [len(c.messages) for c in read(tmp_path, chat + guards)[1]] == [3, 3, 2, 2]


def test_steps_beside_a_chat_that_holds_its_history_stay_apart(tmp_path):
    chat, history = [], []
    for n, text in enumerate(("a", "b", "c")):
        history = [*history, user(text)]
        chat.append(generation(f"g{n}", f"t{n}", history, bot(f"re: {text}"), n))
        history = [*history, bot(f"re: {text}")]
    steps = [generation(f"x{n}", f"s{n}", [system("Title"), user(f"of {n}")], bot("x"), n + 5) for n in range(2)]
    assert [len(c.messages) for c in read(tmp_path, chat + steps)[1]] == [6, 3, 3]


def test_calls_of_a_tool_are_part_of_the_conversation_that_they_lead_to(tmp_path):
    asked, reply = user("weather in Rome?"), bot("It is 15C.")
    rows = [
        generation("a", "t1", [asked], CALL, 1),
        generation("b", "t1", [asked, CALL, TOOL], CALL, 2),
        generation("c", "t1", [asked, CALL, TOOL, CALL, TOOL], reply, 3),
        generation("d", "t2", [asked, CALL, TOOL, CALL, TOOL, reply, user("Wrong.")], bot("20C."), 4),
        score("user-feedback", "c", 0),
    ]
    summary, (only,) = read(tmp_path, rows)
    assert texts(only) == ["weather in Rome?", "", "15C", "", "15C", "It is 15C.", "Wrong.", "20C."]
    assert [len(m.tool_calls) for m in only.messages] == [0, 1, 0, 1, 0, 0, 0, 0]
    assert only.ratings == (Rating(5, "thumb", -1.0),)
    assert (summary.rows, summary.accepted, summary.duplicate) == (5, 1, 3)


def test_a_tool_that_nothing_followed_is_kept(tmp_path):
    said = {"role": "assistant", "content": "Let me look."}
    _, (only,) = read(tmp_path, [generation("a", "t1", [user("weather?"), said, TOOL], CALL, 1)])
    assert texts(only) == ["weather?", "Let me look.", "15C", ""]


def test_requests_without_an_answer_are_part_of_what_they_begin(tmp_path):
    one, two = user("hello"), user("anyone?")
    rows = [generation("a", "t1", [one], None, 1), generation("b", "t2", [one, two], bot("Yes."), 2)]
    summary, (only,) = read(tmp_path, rows)
    assert (texts(only), summary.duplicate) == (["hello", "anyone?", "Yes."], 1)


@pytest.mark.parametrize("between", [[CALL, TOOL], [bot("Let me look."), TOOL]], ids=["silent", "with a word"])
def test_an_agent_around_its_calls_is_the_same_conversation(tmp_path, between):
    first, second = user("weather in Rome?"), user("Wrong.")
    before = [first, *between, bot("It is 15C.")]
    rows = [
        generation("agent 1", "t1", [first], bot("It is 15C."), 0),
        generation("call 1", "t1", [first], CALL, 1),
        generation("call 2", "t1", [first, *between], bot("It is 15C."), 2),
        generation("agent 2", "t2", [second], bot("20C."), 3),
        generation("call 3", "t2", [*before, second], bot("20C."), 4),
        score("user-feedback", "agent 2", 1),
    ]
    summary, (only,) = read(tmp_path, rows)
    assert texts(only)[-3:] == ["It is 15C.", "Wrong.", "20C."]
    assert only.ratings == (Rating(len(only.messages) - 1, "thumb", 1.0),)
    assert (summary.accepted, summary.duplicate) == (1, 4)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("user_rating", [1], []),
        ("user_rating", [1, 1], []),
        ("stars", [1, 3], []),
        ("user_rating", [1, 0], [-1.0, 1.0]),
        ("user-feedback", [1], [1.0]),
        ("hallucination", [1, 0], []),
    ],
)
def test_a_scale_that_does_not_say_which_way_is_good_is_no_verdict(tmp_path, name, values, said):
    calls = [generation(str(n), f"t{n}", [user(f"q{n}")], bot("x"), n, f"s{n}") for n in range(len(values))]
    summary, found = read(tmp_path, [*calls, *(score(name, str(n), value) for n, value in enumerate(values))])
    assert sorted(r.value for c in found for r in c.ratings) == said
    assert summary.filtered_by.get(Reason.NO_VERDICT, 0) == (0 if said else len(values))


def test_an_image_in_a_call_without_history_is_of_its_message_alone(tmp_path):
    calls = without_history("I am Al", "2+2?", "no, wrong")
    calls[1]["input"] = [user([{"type": "text", "text": "2+2?"}, {"type": "image_url"}])]
    (only,) = read(tmp_path, calls)[1]
    assert [only.has_media(place) for place in range(6)] == [False, False, True, False, False, False]


def test_words_that_come_again_without_their_history_are_turns_of_the_chat(tmp_path):
    asked = ("a story?", "continue", "continue", "thanks")
    rows = [generation(f"g{n}", f"t{n}", [user(text)], bot(f"re {n}"), n) for n, text in enumerate(asked)]
    _, (chat,) = read(tmp_path, rows)
    assert texts(chat) == ["a story?", "re 0", "continue", "re 1", "continue", "re 2", "thanks", "re 3"]
    assert chat.ratings == ()


@pytest.mark.parametrize("without", ["a chat", "times"])
def test_words_that_come_again_in_calls_that_are_not_joined_are_no_second_request(tmp_path, without):
    rows = [generation(f"g{n}", f"t{n}", [user(text)], bot(f"re {n}"), n) for n, text in enumerate(("a", "1", "1"))]
    guards = [
        {**row, "id": f"x{row['id']}", "input": [system("Judge"), *row["input"]], "output": bot(f"safe {n}")}
        for n, row in enumerate(rows)
    ]
    for row in rows if without == "times" else ():
        del row["startTime"]
    _, apart = read(tmp_path, rows if without == "times" else rows + guards)
    assert len(apart) > 2
    assert [c.ratings for c in apart] == [()] * len(apart)
