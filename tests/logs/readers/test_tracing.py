"""Formats that log one record per model call: what is one conversation, and what becomes of each judgement."""

import itertools
from pathlib import Path

import orjson
import pytest

from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation, FunctionCall, Rating, Reason, ToolCall
from drift.store import Store

Q1, A1 = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "5"}
Q2, A2 = {"role": "user", "content": "That is wrong."}, {"role": "assistant", "content": "4"}


def read(tmp_path: Path, *files: list, **options) -> tuple[IngestSummary, list[Conversation]]:
    paths = []
    for number, rows in enumerate(files):
        paths.append(tmp_path / f"{number}.jsonl")
        paths[-1].write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    store = Store(tmp_path / "store")
    summary = ingest(paths, store, **options)
    assert summary.adds_up
    found = sorted(store.conversations(), key=lambda c: (-len(c.messages), c.messages[-1].content))
    return summary, found


def texts(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages]


# --- one call in each format: `given` and `answer` in `session` by `user`, known as `name` ---


def langfuse(name, given, answer, session="s", user="u", at=0):
    return {
        "id": name, "type": "GENERATION", "traceId": f"trace-{name}", "sessionId": session, "userId": user,
        "startTime": f"2024-05-01T10:00:{at:02}.000Z", "model": "m", "output": answer,
        "input": orjson.dumps({"messages": given}).decode(),
    }  # fmt: skip


def otel(name, given, answer, session="s", user="u", at=0):
    def parts(messages):
        return [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in messages]

    attributes = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
        "gen_ai.conversation.id": session, "user.id": user,
        "gen_ai.input.messages": orjson.dumps(parts(given)).decode(), "gen_ai.output.messages": parts([answer]),
        "gen_ai.system_instructions": [{"type": "text", "content": f"It is 10:00:{at:02}."}],
    }  # fmt: skip
    context = {"trace_id": f"trace-{name}", "span_id": name}
    return {"name": "chat m", "context": context, "start_time": f"2024-05-01T10:00:{at:02}Z", "attributes": attributes}


def otlp(name, given, answer, session="s", user="u", at=0):
    """As the collector's file exporter writes it: OTLP, beside a span of a web server."""
    flat = {f"gen_ai.prompt.{i}.{key}": m[key] for i, m in enumerate(given) for key in ("role", "content")}
    flat |= {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": answer["content"]}
    flat |= {"gen_ai.conversation.id": session, "user.id": user, "gen_ai.request.model": "m"}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in flat.items()]
    call = {
        "traceId": f"trace-{name}",
        "spanId": name,
        "name": "chat",
        "startTimeUnixNano": str(1714557600_000000000 + at * 10**9),
    }
    other = {"traceId": f"trace-{name}", "spanId": f"{name}-http", "name": "GET /", "attributes": []}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{**call, "attributes": attributes}, other]}]}]}


def openinference(name, given, answer, session="s", user="u", at=0):
    flat = {f"llm.input_messages.{i}.message.{key}": m[key] for i, m in enumerate(given) for key in ("role", "content")}
    flat |= {f"llm.output_messages.0.message.{key}": answer[key] for key in ("role", "content")}
    flat |= {"openinference.span.kind": "LLM", "session.id": session, "user.id": user, "llm.model_name": "m"}
    context = {"trace_id": f"trace-{name}", "span_id": name}
    return {
        "name": "ChatCompletion",
        "context": context,
        "start_time": f"2024-05-01T10:00:{at:02}Z",
        "attributes": flat,
    }


def phoenix_table(name, given, answer, session="s", user="u", at=0):
    """As Phoenix's dataframes are written to Parquet or JSON."""
    return {
        "name": "ChatCompletion", "span_kind": "LLM", "context.trace_id": f"trace-{name}", "context.span_id": name,
        "start_time": f"2024-05-01T10:00:{at:02}Z", "attributes.openinference.span.kind": "LLM",
        "attributes.llm.model_name": "m", "attributes.session.id": session, "attributes.user.id": user,
        "attributes.llm.input_messages": [{f"message.{key}": m[key] for key in m} for m in given],
        "attributes.llm.output_messages": [{f"message.{key}": answer[key] for key in answer}],
    }  # fmt: skip


def litellm(name, given, answer, session="s", user="u", at=0):
    return {
        "id": name, "trace_id": f"made-up-{name}", "session_id": session, "call_type": "acompletion", "end_user": user,
        "startTime": 1714557600.0 + at, "model": "m", "messages": given,
        "response": {"choices": [{"index": 0, "message": {**answer, "tool_calls": None}}]},
    }  # fmt: skip


def langsmith(name, given, answer, session="s", user="u", at=0):
    kinds = {"user": "HumanMessage", "assistant": "AIMessage"}
    lc = [
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", kinds[m["role"]]],
            "kwargs": {"content": m["content"]},
        }
        for m in given
    ]
    message = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "AIMessage"],
        "kwargs": {"content": answer["content"]},
    }
    return {
        "id": name, "trace_id": f"trace-{name}", "run_type": "llm", "session_id": "the project",
        "start_time": f"2024-05-01T10:00:{at:02}", "inputs": {"messages": [lc]},
        "outputs": orjson.dumps({"generations": [[{"text": answer["content"], "message": message}]]}).decode(),
        "extra": {"metadata": {"thread_id": session, "user_id": user, "ls_model_name": "m"}},
    }  # fmt: skip


def openai(name, given, answer, session="s", user="u", at=0):
    return {
        "object": "chat.completion", "id": name, "model": "m", "created": 1714557600 + at, "messages": given,
        "metadata": {"conversation_id": session, "user_id": user},
        "choices": [{"index": 0, "message": {**answer, "refusal": None}}],
    }  # fmt: skip


CALLS = (langfuse, otel, otlp, openinference, phoenix_table, litellm, langsmith, openai)
SOURCES = {"otlp": "otel", "phoenix_table": "openinference"}


def score(name, value, kind="NUMERIC", score="quality", **more):
    return {
        "id": "s",
        "observationId": name,
        "traceId": f"trace-{name}",
        "name": score,
        "dataType": kind,
        **value,
        **more,
    }


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_calls_of_one_session_are_one_conversation(tmp_path, call):
    rows = [call("b", [Q1, A1, Q2], A2, at=9), call("a", [Q1], A1, at=1), call("x", [Q1], A1, session="other")]
    summary, (long, short) = read(tmp_path, rows)
    assert texts(long)[-4:] == ["2+2?", "5", "That is wrong.", "4"]
    assert texts(short)[-2:] == ["2+2?", "5"]
    assert (summary.accepted, summary.duplicate) == (2, 1)
    assert summary.rows == 3
    assert (long.source, long.model) == (SOURCES.get(call.__name__, call.__name__), "m")
    assert long.source_id.startswith("s/")
    assert long.user_key == short.user_key not in (None, "u")
    assert long.started_at == "2024-05-01T10:00:01+00:00"
    assert long.ratings == ()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_session_that_has_grown_updates(tmp_path, call):
    read(tmp_path, [call("a", [Q1], A1)])
    summary, (only,) = read(tmp_path, [call("b", [Q1, A1, Q2], A2, at=9)])
    assert (summary.updated, len([m for m in only.messages if m.role != "system"])) == (1, 4)
    again, _ = read(tmp_path, [call("a", [Q1], A1), call("b", [Q1, A1, Q2], A2, at=9)])
    assert (again.read, again.duplicate) == (2 + again.filtered, 2)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_reply_asked_for_again_was_not_liked(tmp_path, call):
    again = {"role": "assistant", "content": "four"}
    rows = [call("a", [Q1], A1, at=1), call("b", [Q1], again, at=2), call("c", [Q1, again, Q2], A2, at=3)]
    _, (went_on, given_up) = read(tmp_path, rows)
    assert went_on.ratings == ()
    assert [(r.kind, r.value) for r in given_up.ratings] == [("regeneration", -1.0)]
    assert given_up.messages[given_up.ratings[0].reply_index].content == "5"
    assert went_on.split == given_up.split, "what shares its beginning shares its split"


def test_without_session_and_user_a_prefix_joins_but_a_second_reply_says_nothing(tmp_path):
    unknown = {"session": None, "user": None}
    rows = [
        litellm("a", [Q1], A1, **unknown),
        litellm("b", [Q1], A2, **unknown),
        litellm("c", [Q1, A1, Q2], A2, **unknown),
    ]
    summary, found = read(tmp_path, rows)
    assert [texts(c) for c in found] == [["2+2?", "5", "That is wrong.", "4"], ["2+2?", "4"]]
    assert [c.ratings for c in found] == [(), ()]
    assert summary.duplicate == 1


def test_without_a_session_a_user_who_begins_alike_twice_did_not_ask_again(tmp_path):
    once = [litellm("a", [Q1], A1, session=None, at=1), litellm("b", [Q1], A2, session=None, at=2)]
    behind = [litellm(n, [Q1, A1, Q2], a, session=None, at=t) for n, a, t in (("c", A1, 3), ("d", A2, 4))]
    _, found = read(tmp_path, once + behind)
    told = sorted((texts(c)[-1], len(c.messages), len(c.ratings)) for c in found)
    assert told == [("4", 2, 0), ("4", 4, 0), ("5", 4, 1)]


def test_where_a_history_branches_every_reaction_is_kept(tmp_path):
    praise = {"role": "user", "content": "Thanks!"}
    rows = [
        langfuse("a", [Q1], A1, at=1),
        langfuse("b", [Q1, A1, Q2], A2, at=2),
        langfuse("c", [Q1, A1, praise], A2, at=3),
    ]
    summary, found = read(tmp_path, rows)
    assert sorted(texts(c)[2] for c in found) == ["Thanks!", "That is wrong."]
    assert len({c.conversation_id for c in found}) == 2
    assert (summary.accepted, summary.duplicate) == (2, 1)
    assert read(tmp_path, rows)[0].duplicate == 3


def test_scores_in_another_file_judge_the_reply_inside_the_longest_chain(tmp_path):
    calls = [langfuse("a", [Q1], A1, at=1), langfuse("b", [Q1, A1, Q2], A2, at=2)]
    scores = [
        score("a", {"value": 0}, score="user-feedback", comment="no"),
        score("b", {"value": 1}, score="user-feedback"),
        score("a", {"stringValue": "Four."}, "CORRECTION", score="output"),
        score("b", {"value": 0.25}, source="EVAL"),
        score("b", {"value": 0.75}, source="EVAL"),
        score("b", {"value": 4}, score="stars"),
        score("b", {"stringValue": "maybe"}, "CATEGORICAL"),
        score("z", {"value": 1}),
    ]
    summary, (only,) = read(tmp_path, scores, calls)
    assert only.ratings == (
        Rating(1, "thumb", -1.0, "no"),
        Rating(1, "correction", -1.0, preferred="Four."),
        Rating(3, "score", -0.5),
        Rating(3, "score", 0.5),
        Rating(3, "thumb", 1.0),
    )
    assert summary.filtered_by == {Reason.JOINED_AS_EVIDENCE: 5, Reason.NO_VERDICT: 2}
    assert summary.quarantined == {Reason.ORPHAN_FEEDBACK: 1}
    assert (summary.rows, summary.read) == (10, 10)


def test_scores_of_traces_and_sessions_are_about_their_last_reply(tmp_path):
    calls = [langfuse("a", [Q1], A1, at=1), langfuse("b", [Q1, A1, Q2], A2, at=2)]
    scores = [
        {"sessionId": "s", "name": "user_rating", "dataType": "BOOLEAN", "value": 1},
        {"traceId": "trace-a", "name": "user_rating", "dataType": "BOOLEAN", "value": 0},
    ]
    _, (only,) = read(tmp_path, calls + scores)
    assert only.ratings == (Rating(1, "thumb", -1.0), Rating(3, "thumb", 1.0))


def test_a_downloaded_trace_of_langfuse_holds_its_scores_and_other_steps(tmp_path):
    call = {k: v for k, v in langfuse("a", [Q1], A1).items() if k not in ("sessionId", "userId")}
    trace = {"id": "trace-a", "sessionId": "s", "userId": "u", "name": "t"}
    rows = [
        {
            **trace,
            "observations": [{"id": "x", "type": "SPAN", "startTime": "2024"}, call],
            "scores": [score("a", {"value": -1})],
        }
    ]
    summary, (only,) = read(tmp_path, rows)
    assert [(r.kind, r.value) for r in only.ratings] == [("score", -1.0)]
    assert only.user_key is not None
    assert summary.filtered_by == {Reason.NOT_A_CHAT: 1, Reason.JOINED_AS_EVIDENCE: 1}
    assert (summary.rows, summary.read) == (1, 3)


def test_scores_of_langfuse_need_no_type_and_traces_alone_are_no_chats(tmp_path):
    call = langfuse("a", [Q1], A1)
    untyped = {"id": "x", "traceId": "trace-a", "name": "user-feedback", "value": 0, "comment": "bad"}
    trace = {"id": "trace-a", "timestamp": "2024-05-01T10:00:00Z", "input": [Q1], "output": A1, "observations": ["a"]}
    written = {**trace, "session_id": "s", "user_id": "u", "public": False}
    downloaded = {"trace": {"id": "trace-b", "scores": [{**untyped, "traceId": "trace-b", "observationId": "b"}]}}
    downloaded["observations"] = [langfuse("b", [Q2], A2, session="other")]
    files = [call], [untyped], [written], [{**trace, "sessionId": "s", "userId": None}], [downloaded]
    summary, found = read(tmp_path, *files)
    assert [[(r.kind, r.value, r.comment) for r in c.ratings] for c in found] == [[("thumb", -1.0, "bad")]] * 2
    assert summary.filtered_by == {Reason.NOT_A_CHAT: 2, Reason.JOINED_AS_EVIDENCE: 2}
    assert summary.formats == {"langfuse": 5}


def test_langsmith_feedback_by_run_or_trace_with_corrections(tmp_path):
    steps = [{"id": "root", "run_type": "chain", "inputs": {}, "outputs": {}, "trace_id": "root"}]
    calls = [{**langsmith("a", [Q1], A1, at=1), "trace_id": "root", "parent_run_id": "root"}]
    feedback = [
        {"run_id": "root", "key": "user_score", "score": 0, "comment": "not good"},
        {"run_id": "root", "key": "user_score", "score": 1},
        {"run_id": "a", "key": "correctness", "score": None, "value": "incorrect", "correction": None},
        {"run_id": "a", "key": "fix", "score": None, "correction": {"output": "4"}},
    ]
    summary, (only,) = read(tmp_path, steps + calls + feedback)
    assert only.ratings == (
        Rating(1, "score", -1.0),
        Rating(1, "thumb", -1.0, "not good"),
        Rating(1, "thumb", 1.0),
        Rating(1, "correction", -1.0, preferred="4"),
    )
    assert summary.filtered_by == {Reason.NOT_A_CHAT: 1, Reason.JOINED_AS_EVIDENCE: 4}


def evaluation(about: dict, **attributes) -> dict:
    found = {f"gen_ai.evaluation.{key.replace('__', '.')}": value for key, value in attributes.items()}
    return {
        "event_name": "gen_ai.evaluation.result",
        "attributes": {"gen_ai.evaluation.name": "Relevance", **found},
        **about,
    }


def test_opentelemetry_evaluations_judge_their_span(tmp_path):
    rows = [
        otel("a", [Q1], A1),
        evaluation({"span_id": "a", "trace_id": "trace-a"}, score__value=0.0, explanation="off"),
        evaluation({"span_id": "a"}, score__label="pass"),
    ]
    summary, (only,) = read(tmp_path, rows)
    assert [(r.kind, r.value, r.comment) for r in only.ratings] == [("score", -1.0, "off"), ("score", 1.0, None)]
    assert summary.filtered_by == {Reason.JOINED_AS_EVIDENCE: 2}


def test_phoenix_annotations_judge_their_span(tmp_path):
    note = {
        "span_id": "a",
        "name": "user feedback",
        "annotator_kind": "HUMAN",
        "result": {"label": "thumbs-down", "score": None},
    }
    _, (only,) = read(tmp_path, [openinference("a", [Q1], A1), note])
    assert only.ratings == (Rating(only.ratings[0].reply_index, "thumb", -1.0),)


def test_phoenixs_annotation_tables_name_the_parts_of_a_result(tmp_path):
    note = {"span_id": "a", "annotation_name": "user feedback", "annotator_kind": "HUMAN", "result.label": "down"}
    note |= {"result.score": 0.0, "result.explanation": "wrong sum"}
    _, (only,) = read(tmp_path, [openinference("a", [Q1], A1), note])
    assert [(r.kind, r.value, r.comment) for r in only.ratings] == [("thumb", -1.0, "wrong sum")]


def test_messages_of_several_parts_are_read_from_openinference(tmp_path):
    table = phoenix_table("a", [Q1], A1)
    parts = [{"message_content.type": "text", "message_content.text": text} for text in ("2+2?", "Quick.")]
    picture = {"message_content": {"type": "image", "image": {"url": "data:..."}}}
    given = [{"message.role": "user", "message.contents": [*parts, picture]}]
    given.append({"message.role": "user", "message.contents": [picture]})
    table["attributes.llm.input_messages"] = given
    flat = openinference("b", [], A1, session="t")
    name = "llm.input_messages.{}.message.contents.{}.message_content.{}"
    flat["attributes"] |= {
        "llm.input_messages.0.message.role": "user",
        name.format(0, 0, "text"): "2+2?",
        name.format(0, 1, "type"): "image",
        name.format(0, 1, "image.image.url"): "data:...",
        name.format(0, 2, "type"): "text",
        name.format(0, 2, "text"): "Quick.",
        name.format(1, 0, "type"): "image",
    }
    _, found = read(tmp_path, [table, flat])
    assert [texts(c) for c in found] in (
        [["2+2?\nQuick.\n[image]", "[image]", "5"], ["2+2?\n[image]\nQuick.", "[image]", "5"]],
        [["2+2?\n[image]\nQuick.", "[image]", "5"], ["2+2?\nQuick.\n[image]", "[image]", "5"]],
    )
    assert {c.tags["media_turns"] for c in found} == {"0,1"}


def legacy(span: str, name: str, **body) -> dict:
    return {
        "event_name": f"gen_ai.{name}",
        "attributes": {"gen_ai.system": "openai"},
        "body": body,
        "trace_id": span,
        "span_id": span,
    }


def test_legacy_records_of_interleaved_spans_are_put_together(tmp_path):
    one = [legacy("1", "user.message", content="2+2?"), legacy("1", "choice", index=0, message=A1)]
    two = [
        legacy("2", "system.message", content="Be kind."),
        legacy("2", "user.message", content="hi"),
        legacy("2", "choice", message=A2),
    ]
    open_ended = [legacy("3", "user.message", content="lost?")]
    rows = [row for pair in itertools.zip_longest(two, one, open_ended) for row in pair if row]
    summary, found = read(tmp_path, rows)
    assert [texts(c) for c in found] == [["Be kind.", "hi", "4"], ["2+2?", "5"], ["lost?"]]
    assert (summary.rows, summary.read) == (6, 3)


def test_legacy_records_may_come_in_any_order_and_one_choice_is_the_reply(tmp_path):
    asked, reply = legacy("1", "user.message", content="2+2?"), legacy("1", "choice", index=0, message=A1)
    other = legacy("1", "choice", index=1, message=A2)
    for number, rows in enumerate(itertools.permutations([asked, reply, other])):
        (folder := tmp_path / str(number)).mkdir()
        if rows.index(asked) == 1:  # a choice that comes on both sides of the request could be another call's
            continue
        summary, (only,) = read(folder, rows)
        assert texts(only) == ["2+2?", "5"]
        assert (summary.rows, summary.filtered_by, summary.quarantined) == (3, {Reason.NOT_A_CHAT: 1}, {})


def test_legacy_records_of_one_call_are_in_the_order_of_time(tmp_path):
    told = [("user", "2+2?"), ("assistant", "5"), ("user", "That is wrong.")]
    rows = [
        {**legacy("1", f"{role}.message", content=text), "timestamp": f"2024-05-01T10:00:0{n}Z"}
        for n, (role, text) in enumerate(told)
    ]
    _, (only,) = read(tmp_path, [legacy("1", "choice", message=A2), *rows[::-1]])
    assert texts(only) == ["2+2?", "5", "That is wrong.", "4"]


@pytest.mark.parametrize("span", ["a web server's", "0x0000000000000000", None])
def test_legacy_records_of_calls_that_share_a_span_stay_apart(tmp_path, span):
    rows = [
        legacy(span, "user.message", content="2+2?"),
        legacy(span, "choice", index=0, message=A1),
        legacy(span, "user.message", content="3+3?"),
        legacy(span, "choice", index=0, message=A2),
    ]
    summary, found = read(tmp_path, rows)
    assert sorted(texts(c) for c in found) == [["2+2?", "5"], ["3+3?", "4"]]
    assert summary.rows == 4


def test_a_collectors_row_that_holds_a_choice_alone_is_accounted_for(tmp_path):
    def exported(row):
        record = {"eventName": row["event_name"], "traceId": "t", "spanId": "s", "body": row["body"]}
        return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}

    rows = [legacy("1", "choice", message=A1), legacy("1", "user.message", content="2+2?")]
    summary, (only,) = read(tmp_path, [exported(row) for row in rows])
    assert texts(only) == ["2+2?", "5"]
    assert summary.rows == 2


def test_of_the_choices_among_a_spans_events_the_lowest_index_is_the_reply(tmp_path):
    choices = [{"name": "gen_ai.choice", "attributes": {"index": n, "message": m}} for n, m in (("1", A2), ("0", A1))]
    events = [{"name": "gen_ai.user.message", "attributes": {"content": "2+2?"}}, *choices]
    span = {"name": "chat", "context": {"span_id": "1"}, "attributes": {"gen_ai.operation.name": "chat"}}
    _, (only,) = read(tmp_path, [{**span, "events": events}])
    assert texts(only) == ["2+2?", "5"]


def test_legacy_events_on_a_span_and_details_in_an_event(tmp_path):
    events = [
        {"name": "gen_ai.user.message", "attributes": {"content": "2+2?"}},
        {"name": "gen_ai.choice", "attributes": {"message": orjson.dumps(A1).decode()}},
        {"name": "gen_ai.evaluation.result", "attributes": {"gen_ai.evaluation.score.label": "fail"}},
    ]
    span = {
        "name": "chat",
        "context": {"span_id": "1"},
        "attributes": {"gen_ai.operation.name": "chat"},
        "events": events,
    }
    details = {"name": "gen_ai.client.inference.operation.details", "attributes": otel("2", [Q2], A2)["attributes"]}
    _, found = read(tmp_path, [span, {**details, "spanId": "2"}])
    assert [texts(c)[-2:] for c in found] == [["That is wrong.", "4"], ["2+2?", "5"]]
    assert [(r.kind, r.value) for r in found[1].ratings] == [("score", -1.0)]


def test_the_samples_of_the_vendors_own_sdks(test_data, tmp_path):
    folder = test_data / "formats"
    store = Store(tmp_path / "store")
    summary = ingest([folder], store)
    assert summary.formats == {"litellm": 1, "openinference": 1, "otel": 2}
    assert summary.quarantined == {Reason.NO_MESSAGES: 1}, "a span whose texts stand in the log records"
    for conversation in store.conversations():
        assert texts(conversation) == ["2+2?", "5", "wrong, please fix", "\ufffd"]
    assert {c.source for c in store.conversations()} == {"litellm", "openinference", "otel"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**litellm("a", [Q1], A1), "call_type": "aembedding"}, Reason.NOT_A_CHAT),
        ({**litellm("a", [Q1], A1), "response": "redacted-by-litellm"}, Reason.NO_MESSAGES),
        (litellm("a", [{**Q1, "content": "redacted-by-litellm"}], A1), Reason.NO_MESSAGES),
        ({**langsmith("a", [Q1], A1), "run_type": "tool"}, Reason.NOT_A_CHAT),
        ({**langfuse("a", [Q1], A1), "type": "TOOL"}, Reason.NOT_A_CHAT),
        ({**langfuse("a", [Q1], None), "type": "SPAN"}, Reason.NOT_A_CHAT),
        ({"name": "chain", "attributes": {"openinference.span.kind": "CHAIN", "input.value": "x"}}, Reason.NOT_A_CHAT),
        ({"name": "embed", "attributes": {"gen_ai.operation.name": "embeddings"}}, Reason.NOT_A_CHAT),
        ({k: v for k, v in openai("a", [Q1], A1).items() if k != "messages"}, Reason.NO_MESSAGES),
        ({**langfuse("a", [Q1], A1), "input": None}, Reason.NO_MESSAGES),
        ({**langfuse("a", [Q1], A1), "input": [{"role": "alien", "content": "x"}]}, Reason.UNKNOWN_ROLE),
        ({**langfuse("a", [], A1), "input": [{"role": "user", "content": {}}]}, Reason.BAD_CONTENT),
        ({**langfuse("a", [], A1), "input": [{"role": "user", "parts": 5}]}, Reason.BAD_CONTENT),
    ],
)  # fmt: skip
def test_rows_that_are_no_chat_or_hold_no_text_are_named(tmp_path, row, reason):
    summary, found = read(tmp_path, [row])
    assert found == []
    assert {**summary.filtered_by, **summary.quarantined} == {reason: 1}


def test_an_answer_that_failed_leaves_the_request(tmp_path):
    failed = {**litellm("a", [Q1], A1), "response": {}, "status": "failure"}
    _, (only,) = read(tmp_path, [failed])
    assert texts(only) == ["2+2?"]


def test_an_answer_that_failed_is_part_of_the_one_that_did_not(tmp_path):
    failed = {**litellm("a", [Q1], A1), "response": {}, "status": "failure"}
    summary, (only,) = read(tmp_path, [failed, litellm("b", [Q1], A1)])
    assert texts(only) == ["2+2?", "5"]
    assert (summary.accepted, summary.duplicate, only.ratings) == (1, 1, ())


def test_litellms_spend_logs_hold_the_request_of_the_proxy(tmp_path):
    spend = {**litellm("a", [], A1), "messages": {}}
    asked = {"model": "m", "messages": [Q1]}
    rows = [
        {**spend, "proxy_server_request": {**asked, "metadata": {"session_id": "s"}}},
        {**spend, "metadata": {"session_id": "t"}, "proxy_server_request": orjson.dumps({"body": asked}).decode()},
        {**spend, "proxy_server_request": {"input": "2+2?", "litellm_session_id": "u"}},
        {**spend, "response": "{}", "proxy_server_request": {}},
    ]
    summary, found = read(tmp_path, rows)
    assert [texts(c) for c in found] == [["2+2?", "5"]] * 3
    assert summary.quarantined == {Reason.NO_MESSAGES: 1}
    (refused,) = Store(tmp_path / "store").quarantined()
    assert "store_prompts_in_spend_logs" in refused.detail


def test_litellms_spend_logs_make_up_sessions_that_tear_no_chat_apart(tmp_path):
    spend = {**litellm("a", [], A1), "messages": {}, "end_user": "ann"}
    grown = {**spend, "response": {"choices": [{"message": {"role": "assistant", "content": "4"}}]}}
    turns = [Q1, {"role": "assistant", "content": "5"}, {"role": "user", "content": "no"}]
    rows = [
        {**spend, "session_id": "made-up-1", "proxy_server_request": {"messages": [Q1]}},
        {**grown, "id": "b", "session_id": "made-up-2", "proxy_server_request": {"messages": turns}},
    ]
    summary, (only,) = read(tmp_path, rows)
    assert (texts(only), summary.duplicate) == (["2+2?", "5", "no", "4"], 1)


def test_items_of_the_responses_api_are_messages_answers_of_tools_or_nothing(tmp_path):
    given = [
        Q1,
        {"type": "function_call", "name": "add", "arguments": "{}", "call_id": "x"},
        {"type": "function_call_output", "call_id": "x", "output": "four"},
    ]
    output = [
        {"type": "reasoning", "summary": [], "content": None},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
    ]
    response = {"object": "response", "output": output}
    _, (only,) = read(tmp_path, [{**litellm("a", given, A1), "call_type": "aresponses", "response": response}])
    assert texts(only) == ["2+2?", "", "four", "4"]
    _, called, answer, _ = only.messages
    assert called.tool_calls == (ToolCall(FunctionCall("add", "{}"), "x"),)
    assert (answer.role, answer.tool_call_id) == ("tool", "x")


def test_a_response_of_several_messages_is_one_reply(tmp_path):
    said = [{"type": "output_text", "text": "Let me search."}], [{"type": "output_text", "text": "It is 4."}]
    first, last = (
        {"id": str(n), "type": "message", "role": "assistant", "content": text} for n, text in enumerate(said)
    )
    output = [first, {"type": "web_search_call", "id": "w"}, last]
    row = {**litellm("a", [Q1], A1), "call_type": "aresponses", "response": {"object": "response", "output": output}}
    _, (only,) = read(tmp_path, [row])
    assert texts(only) == ["2+2?", "Let me search.\nIt is 4."]


def test_opentelemetrys_answers_of_tools_are_all_kept(tmp_path):
    span = otel("a", [Q1], A2)
    answers = [{"type": "tool_call_response", "id": n, "response": n} for n in ("three", "four")]
    parts = [*answers, {"type": "text", "content": "So?"}]
    asked = [{"role": "user", "parts": [{"type": "blob", "content": "aaaa"}]}, {"role": "user", "parts": parts}]
    span["attributes"] |= {"gen_ai.input.messages": asked, "gen_ai.system_instructions": None}
    _, (only,) = read(tmp_path, [span])
    assert [(m.role, m.content) for m in only.messages] == [
        ("user", "[file]"),
        ("tool", "three"),
        ("tool", "four"),
        ("user", "So?"),
        ("assistant", "4"),
    ]


def test_what_a_span_or_a_run_says_of_consent_is_kept(tmp_path):
    span, run = otel("a", [Q1], A1), langsmith("b", [Q1, A1, Q2], A2, session="t")
    span["attributes"] |= {"app.training_consent": True, "metadata": '{"license": "cc0"}'}
    run["extra"] = {**run.get("extra", {}), "metadata": {**run.get("extra", {}).get("metadata", {}), "consent": "no"}}
    tags = [c.tags for rows in ([span], [run]) for c in read(tmp_path, rows)[1]]
    assert {"app.training_consent": "true", "license": "cc0"} in tags
    assert {"consent": "no"} in tags


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_session_without_any_history_is_one_conversation_in_the_order_of_time(tmp_path, call):
    again = {"role": "assistant", "content": "four"}
    rows = [call("c", [Q2], A2, at=9), call("a", [Q1], A1, at=1), call("b", [Q1], again, at=2)]
    rows = [row | {"attributes": {**row["attributes"]}} if "attributes" in row else row for row in rows]
    for row in rows:  # the same system message in each
        row.get("attributes", {}).pop("gen_ai.system_instructions", None)
    read(tmp_path, rows[1:2])
    summary, (one,) = read(tmp_path, rows)
    assert texts(one) == ["2+2?", "5", "2+2?", "four", "That is wrong.", "4"]
    assert one.ratings == ()  # whoever keeps the history elsewhere may also say the same twice
    assert (summary.read - summary.filtered, summary.accepted, summary.updated, summary.duplicate) == (3, 0, 1, 2)


def test_ratings_of_a_session_without_history_stay_with_their_replies(tmp_path):
    calls = [langfuse("a", [Q1], A1, at=1), langfuse("b", [Q2], A2, at=2), langfuse("z", [Q1], A1, session="other")]
    judged = score("b", {"value": 1}, score="user-feedback")
    summary, (one, other) = read(tmp_path, [*calls, judged])
    assert texts(one) == ["2+2?", "5", "That is wrong.", "4"]
    assert [(r.reply_index, r.kind) for r in one.ratings] == [(3, "thumb")]
    assert texts(other) == ["2+2?", "5"]
    assert summary.duplicate == 1


def test_calls_of_a_session_that_are_no_chat_with_one_another_stay_apart(tmp_path):
    other_task = [{"role": "system", "content": "Name this chat."}, Q2]
    _, found = read(tmp_path, [langfuse("a", [Q1], A1, at=1), langfuse("b", other_task, A2, at=2)])
    assert len(found) == 2


SCHEMA = {"name": "add", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    "row",
    [
        {**litellm("a", [Q1], A1), "model_parameters": {"tools": [SCHEMA]}},
        {**openai("a", [Q1], A1), "tools": [SCHEMA]},
        {**openai("a", [Q1], A1), "request": {"functions": [SCHEMA]}},
        {**langsmith("a", [Q1], A1), "extra": {"invocation_params": {"tools": [SCHEMA]}}},
    ],
    ids=["litellm", "openai", "openai functions", "langsmith"],
)
def test_the_tools_of_a_call_are_kept_in_one_shape(tmp_path, row):
    summary, (only,) = read(tmp_path, [row])
    assert orjson.loads(only.tools or "") == [{"type": "function", "function": SCHEMA}]
    assert not [name for name in summary.unread if "tools" in name or "functions" in name]
