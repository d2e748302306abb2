"""Session, user and consent that stand once for a trace, on its root, not on its model calls."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import bot, user
from drift.config import IngestionSettings
from drift.feedback.label import label_store
from drift.logs.ingest import IngestSummary, ingest
from drift.store import Store

TURNS = [("2+2?", "5"), ("No, that is wrong", "4"), ("thanks", "You are welcome.")]


def langfuse(has_texts: bool = True, **about: Any) -> list[list[dict[str, Any]]]:
    """The two files of an export: observations, and traces with what is said about all of them."""
    calls, traces = [], []
    for n, (asked, reply) in enumerate(TURNS):
        at = f"2024-05-01T10:0{n}:00Z"
        call = {"id": f"g{n}", "type": "GENERATION", "traceId": f"t{n}", "startTime": at}
        calls.append({**call, "input": [user(asked)], "output": bot(reply)})
        texts = {"input": asked, "output": reply} if has_texts else {"input": None, "output": None}
        traces.append(
            {"id": f"t{n}", "timestamp": at, "name": "chat", "sessionId": None, "userId": None} | texts | about
        )
    return [calls, traces]


def braintrust() -> list[list[dict[str, Any]]]:
    rows = []
    for n, (asked, reply) in enumerate(TURNS):
        span = {"root_span_id": f"r{n}", "created": f"2024-05-01T10:0{n}:00Z"}
        root = {"span_id": f"r{n}", "input": {"form": 1}, "expected": "four", "span_attributes": {"type": "task"}}
        call = {"span_id": f"c{n}", "span_parents": [f"r{n}"], "span_attributes": {"type": "llm"}, "metadata": {}}
        rows += [{**span, **root, "metadata": {"session_id": "s", "user_id": "bob"}}]
        rows += [{**span, **call, "input": [user(asked)], "output": bot(reply)}]
    return [rows]


def langsmith() -> list[list[dict[str, Any]]]:
    rows = []
    for n, (asked, reply) in enumerate(TURNS):
        run = {"trace_id": f"r{n}", "start_time": f"2024-05-01T10:0{n}:00"}
        metadata = {"metadata": {"thread_id": "s", "user_id": "bob"}}
        rows += [{**run, "id": f"r{n}", "run_type": "chain", "inputs": {}, "outputs": {}, "extra": metadata}]
        texts = {"inputs": {"messages": [user(asked)]}, "outputs": {"choices": [{"message": bot(reply)}]}}
        rows += [{**run, **texts, "id": f"c{n}", "parent_run_id": f"r{n}", "run_type": "llm", "extra": {}}]
    return [rows]


def otel() -> list[list[dict[str, Any]]]:
    """The user stands on the span of the server, the session on that of the agent."""
    rows = []
    for n, (asked, reply) in enumerate(TURNS):
        at, trace = f"2024-05-01T10:0{n}:00Z", {"trace_id": f"t{n}"}
        for name, about in (("POST /chat", {"user.id": "bob"}), ("agent", {"gen_ai.conversation.id": "s"})):
            context = {**trace, "span_id": f"{name}{n}"}
            rows.append({"name": name, "context": context, "start_time": at, "attributes": about})
        texts = {
            f"gen_ai.{side}.messages": orjson.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])
            for side, role, text in (("input", "user", asked), ("output", "assistant", reply))
        }
        attributes = {key: value.decode() for key, value in texts.items()}
        rows.append(
            {"name": "chat", "context": {**trace, "span_id": f"c{n}"}, "start_time": at, "attributes": attributes}
        )
    return [rows]


def read(tmp_path: Path, files: list[list[dict[str, Any]]], **options: Any) -> tuple[Store, IngestSummary]:
    store = Store(tmp_path / "store")
    logs = [tmp_path / f"{n}.jsonl" for n in range(len(files))]
    for log, rows in zip(logs, files, strict=True):
        log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest(logs, store, settings=IngestionSettings(near_duplicates=False, **options))
    assert summary.adds_up
    return store, summary


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize(
    "files",
    [
        langfuse(sessionId="s", userId="bob"),
        langfuse(has_texts=False, sessionId="s", userId="bob"),
        braintrust(),
        langsmith(),
        otel(),
    ],
    ids=["langfuse", "langfuse without texts", "braintrust", "langsmith", "otel"],
)
def test_calls_have_the_session_and_the_user_of_their_trace(tmp_path: Path, files: Any, is_reversed: bool):
    files = [rows[::-1] for rows in files[::-1]] if is_reversed else files
    store, summary = read(tmp_path, files)
    (chat,) = store.conversations()
    assert [message.content for message in chat.messages] == [text for turn in TURNS for text in turn]
    assert (chat.source_id or "").startswith("s/")
    assert (summary.accepted, summary.duplicate) == (1, 2)
    assert label_store(store).labels == {"DSAT": 1, "SAT": 1}
    store.forget(user="bob")
    assert store.size() == 0


def test_names_of_a_call_itself_stay(tmp_path: Path):
    calls, traces = langfuse(sessionId="s", userId="bob")
    calls[0] |= {"userId": "ann"}
    calls[1] |= {"sessionId": "other", "userId": "ann"}
    store, _ = read(tmp_path, [calls, traces])
    assert [len(c.messages) for c in store.conversations()] == [2, 2, 2]
    store.forget(user="ann")
    (chat,) = store.conversations()
    assert [message.content for message in chat.messages] == list(TURNS[2])
    store.forget(user="bob")
    assert store.size() == 0


def test_users_of_one_session_have_chats_of_their_own(tmp_path: Path):
    """The session is a channel, and each call holds one request and one reply."""
    calls, _ = langfuse()
    calls = [{**call, "sessionId": "channel"} for call in calls]
    other = [{**call, "id": f"b{n}", "traceId": f"b{n}", "output": bot(f"bob's {n}")} for n, call in enumerate(calls)]
    rows = [{**call, "userId": "ann"} for call in calls] + [{**call, "userId": "bob"} for call in other]
    store, _ = read(tmp_path, [rows])
    assert sorted([m.content for m in chat.messages] for chat in store.conversations()) == [
        [text for turn in TURNS for text in turn],
        [text for n, (asked, _) in enumerate(TURNS) for text in (asked, f"bob's {n}")],
    ]
    assert [chat.ratings for chat in store.conversations()] == [(), ()]  # bob did not ask again for ann's reply
    store.forget(user="bob")
    assert "bob's 0" not in str(list(store.conversations()))
    assert store.size() == 1


def test_a_session_of_several_users_names_none_for_the_others(tmp_path: Path):
    calls, _ = langfuse()
    for call, who in zip(calls, ("ann", "bob", None), strict=True):
        call |= {"sessionId": "channel", "userId": who}
    store, _ = read(tmp_path, [calls])
    keys = {chat.messages[0].content: chat.user_key for chat in store.conversations()}
    assert (len(set(keys.values())), keys["thanks"]) == (3, None)


@pytest.mark.parametrize(("first", "second"), [("bob", None), ("bob", "bob"), (None, "bob")])
def test_a_chat_named_in_part_has_its_own_user_where_its_session_has_others(tmp_path: Path, first: Any, second: Any):
    rows = [{**row, "sessionId": "channel"} for row in histories([{"userId": first}, {"userId": second}, {}])]
    other = {**rows[0], "id": "o", "traceId": "o", "input": [user("Hi")], "output": bot("Hello!"), "userId": "ann"}
    store, _ = read(tmp_path, [[*rows, other]])
    store.forget(user="bob")
    assert [chat.messages[0].content for chat in store.conversations()] == ["Hi"]


def test_a_user_of_the_trace_alone_joins_what_a_history_shows(tmp_path: Path):
    """A regeneration is seen too: without a user or a session, equal words may be two people's."""
    calls, traces = langfuse(userId="bob")
    history = [user("hi"), bot("hello"), user("2+2?")]
    for call, reply in zip(calls, ("5", "4", "four"), strict=True):
        call |= {"input": history, "output": bot(reply)}
    calls[2] |= {"input": [*history, bot("4"), user("thanks")]}
    store, _ = read(tmp_path, [calls, traces])
    ratings = {chat.messages[-1].content: [r.kind for r in chat.ratings] for chat in store.conversations()}
    assert ratings == {"5": ["regeneration"], "four": []}


@pytest.mark.parametrize("has_texts", [True, False])
def test_calls_have_the_consent_of_their_trace(tmp_path: Path, has_texts: bool):
    files = langfuse(has_texts, metadata={"consent": "no"})
    files[0][0]["metadata"] = {"consent": "yes"}
    store, summary = read(tmp_path, files, require_consent={"consent": "yes"})
    assert list(store.conversations()) == []
    assert summary.filtered_by["no_consent"] == 3  # of which one says yes, in a trace that says no


def test_records_around_a_call_that_contradict_each_other_give_no_consent(tmp_path: Path):
    calls, traces = langfuse(has_texts=False, sessionId="s", metadata={"consent": "yes"})
    step = {"id": "step", "type": "SPAN", "traceId": "t0", "startTime": "2024-05-01T10:00:00Z"}
    store, summary = read(
        tmp_path, [calls, [*traces, {**step, "metadata": {"consent": "no"}}]], require_consent={"consent": "yes"}
    )
    assert (store.size(), summary.filtered_by["no_consent"]) == (0, 1)  # the chat of three traces


LONG = [
    ("What is two and two? Explain it as you would to a child.", "It is five, because two and two make five."),
    ("No, that is wrong", "You are right: it is four."),
    ("thanks", "You are welcome."),
]


def histories(names: list[dict[str, Any]], turns: list[tuple[str, str]] = LONG) -> list[dict[str, Any]]:
    """Calls with the whole history before each reply."""
    rows, said = [], []
    for n, ((asked, reply), about) in enumerate(zip(turns, names, strict=True)):
        said.append(user(asked))
        call = {"id": f"h{n}", "type": "GENERATION", "traceId": f"h{n}", "startTime": f"2024-05-01T10:0{n}:00Z"}
        rows.append({**call, "input": list(said), "output": bot(reply), **about})
        said.append(bot(reply))
    return rows


SESSION, USER, NOBODY = {"sessionId": "s", "userId": "bob"}, {"userId": "bob"}, {}


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize(
    "names",
    [[SESSION, SESSION, NOBODY], [SESSION, NOBODY, SESSION], [SESSION, USER, SESSION], [USER, USER, NOBODY]],
    ids=["last call", "middle call", "without a session", "user alone"],
)
def test_a_chat_whose_calls_are_named_in_part_is_one(tmp_path: Path, names: list[dict[str, Any]], is_reversed: bool):
    rows = histories(names)
    store, summary = read(tmp_path, [rows[::-1] if is_reversed else rows])
    (chat,) = store.conversations()
    assert [message.content for message in chat.messages] == [text for turn in LONG for text in turn]
    assert (summary.duplicate, label_store(store).labels) == (2, {"DSAT": 1, "SAT": 1})
    store.forget(user="bob")
    assert store.size() == 0


def test_a_chat_named_in_part_whose_traces_name_the_user_is_one(tmp_path: Path):
    rows = histories([{"sessionId": "s"}, {"sessionId": "s"}, {}])
    span = {"type": "SPAN", "startTime": "2024-05-01T10:00:00Z", "userId": "bob"}
    spans = [{**span, "id": f"s{n}", "traceId": f"h{n}"} for n in range(3)]
    store, _ = read(tmp_path, [rows, spans])
    (chat,) = store.conversations()
    assert (len(chat.messages), (chat.source_id or "")[:2]) == (6, "s/")
    store.forget(user="bob")
    assert store.size() == 0


@pytest.mark.parametrize(
    ("names", "turns", "others"),
    [
        ([SESSION, SESSION, NOBODY], TURNS, []),
        ([SESSION, SESSION, NOBODY], LONG, [{"sessionId": "another"}]),
        ([USER, USER, NOBODY], LONG, [{"userId": "ann"}]),
        ([SESSION, SESSION, {"sessionId": "another"}], LONG, []),
    ],
    ids=["short texts", "two sessions", "two users", "other session"],
)
def test_calls_that_may_be_of_another_chat_get_no_names(tmp_path: Path, names: Any, turns: Any, others: Any):
    """Two people may begin with the same words, and get the same replies: then these show nothing."""
    rows = [histories([{}, about], turns[:2])[1] for about in others]
    rows = [{**row, "id": f"o{n}", "traceId": f"o{n}"} for n, row in enumerate(rows)]
    store, _ = read(tmp_path, [histories(names, turns) + rows])
    (last,) = [chat for chat in store.conversations() if chat.messages[-1].content == turns[2][1]]
    assert not (last.source_id or "").startswith("s/")
    assert last.user_key is None
    assert store.size() == 2 + len(others)


def test_a_trace_without_calls_that_can_be_read_has_the_names_of_its_other_records(tmp_path: Path):
    inner = {
        "id": "o",
        "type": "SPAN",
        "traceId": "t0",
        "parentObservationId": "p",
        "startTime": "2024-05-01T10:00:00Z",
    }
    trace = langfuse(has_texts=False, sessionId="s", userId="bob")[1][0]
    store, _ = read(tmp_path, [[{**inner, "input": "2+2?", "output": "4"}, trace]])
    (chat,) = store.conversations()
    assert ((chat.source_id or "")[:2], chat.user_key is None) == ("s/", False)
