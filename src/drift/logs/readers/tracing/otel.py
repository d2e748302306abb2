"""OpenTelemetry's GenAI conventions and OpenInference (Phoenix): one span per model call.

Texts are in attributes (`gen_ai.input.messages`; flattened `llm.input_messages.N.message.content` and
`gen_ai.prompt.N.content`; `events` of Pydantic AI; `ai.prompt` of Vercel's AI SDK; `input.value`), in events of the
span, or, with older SDKs, in separate log records (`gen_ai.user.message`, ..., `gen_ai.choice`), which are grouped by
their span. A span around model calls (an agent's run, a workflow of OpenLLMetry) is read if its trace has no model call
in the logs.
`gen_ai.evaluation.result` and Phoenix's annotations judge a span.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, consent_tags
from drift.logs.draft import Call, ConversationDraft, has, seconds_of, structured, tools_of
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.otel import ai_sdk
from drift.logs.traces.otel.attributes import indexed_messages, messages_in_events, schemas_in
from drift.logs.traces.otel.records import CHOICE, MESSAGE, CallRecords, Records, choice_index
from drift.logs.traces.otel.spans import STARTED, TraceSpan, attributes_of, spans
from drift.logs.traces.texts import SESSIONS, USERS, as_spare, beside_calls, call_draft, first_name, iso, plain_messages
from drift.logs.traces.verdicts import TIMES, as_score, dated, judgement
from drift.logs.unread import keys
from drift.records import Reason

_PREFIXES = ("gen_ai.", "traceloop.", "pydantic_ai.", "all_messages_events", *ai_sdk.PREFIXES)
_TOLD = ("traceloop.association.properties.", ai_sdk.METADATA)  # what the application said about a span
_SESSION = ("gen_ai.conversation.id", "session.id", *(f"{told}{name}" for told in _TOLD for name in SESSIONS))
_USER = ("user.id", "enduser.id", "enduser.pseudo.id", *(f"{told}{name}" for told in _TOLD for name in USERS))
_MODEL = (
    "gen_ai.response.model", "ai.response.model", "gen_ai.request.model", "llm.model_name", "ai.model.id",
)  # fmt: skip
_KINDS = {"workflow": 1, "agent": 2, "task": 3}  # of OpenLLMetry's spans around model calls, the outermost first
_DETAILS = "gen_ai.client.inference.operation.details"
_EVALUATION = "gen_ai.evaluation.result"
_TEXTS_MISSING = (
    "a model call without texts: capture them with OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true (AI SDK: "
    "recordInputs and recordOutputs)"
)

_SPAN = keys(
    "name event_name eventName span_name attributes attributes. context events body trace_id traceId context.trace_id"
    f" span_id spanId context.span_id {' '.join(STARTED)}"
)
_GROUPS = {
    "resourceSpans": keys("", scopeSpans=keys("", spans=_SPAN)),
    "resourceLogs": keys("", scopeLogs=keys("", logRecords=_SPAN)),
}
_ANNOTATION = keys(
    f"span_id annotator_kind annotation_name result result.score result.label result.explanation {' '.join(TIMES)}"
)
KEYS = {**_SPAN, **_ANNOTATION, **_GROUPS, **keys("llm")}
"""Of a span. Its attributes are whatever an application notes: those are not counted."""


def recognises_otel(row: Mapping[str, Any]) -> bool:
    return any(
        span.name.startswith("gen_ai.") or any(key.startswith(_PREFIXES) for key in span.attributes)
        for span in spans(row)
    ) and not recognises_openinference(row)


def recognises_openinference(row: Mapping[str, Any]) -> bool:
    if has(row, "annotator_kind", "span_id"):
        return True
    if any(group in row for group in ("resourceSpans", "resourceLogs")):
        return any(_is_openinference(span.attributes) for span in spans(row))
    return _is_openinference(attributes_of(row))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    records = Records()
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        count = 1
        for outcome in _outcomes(row, records):
            yield replace(outcome, rows=count)
            count = 0
        for call in records.finished():
            yield from _of_records(call)
    for call in records.close():
        yield from _of_records(call)


def _outcomes(row: LogRow, records: Records) -> Iterator[Outcome]:
    """Yield the outcomes of a row. A record that waits for others of its span yields nothing yet."""
    if has(row.value, "annotator_kind", "span_id"):
        yield from _tried(row.at, lambda: _annotation(row))
        return
    is_single = not any(group in row.value for group in ("resourceSpans", "resourceLogs"))
    has_spans = False
    for span in spans(row.value):
        has_spans = True
        if MESSAGE.fullmatch(span.name) or span.name == CHOICE:
            records.take(row.at, span, rows=1 if is_single else 0)
            if not is_single:
                yield Reject(row.at, Reason.NOT_A_CHAT, "a record that is part of a call")
        else:
            yield from _tried(row.at, lambda span=span: _call(row.at, span))
            for event in span.events:
                if event.name == _EVALUATION:
                    yield from _tried(row.at, lambda event=event: _evaluation(row.at, event))
    if not has_spans:
        yield Reject(row.at, Reason.NOT_A_CHAT, "an export without spans")


def _tried(at: Place, convert: Any) -> Iterator[Outcome]:
    try:
        yield convert()
    except Unusable as error:
        yield Reject(at, error.reason, error.detail)


def _of_records(call: CallRecords) -> Iterator[Outcome]:
    """Yield the call that the records describe, with its first choice; the other choices are filtered."""
    request, choice = [], call.choice()
    for _, record, _ in call.messages():
        body = _body(record)
        if isinstance(body, Mapping):
            role = MESSAGE.fullmatch(record.name)
            request.append({"role": role.group(1) if role else "user", **body})
    body = None if choice is None else _body(choice)
    reply = body.get("message", body) if isinstance(body, Mapping) else body
    others = [(at, count) for at, record, count in call.records if record.name == CHOICE and record is not choice]
    rows = sum(count for _, _, count in call.records) - sum(count for _, count in others)
    first = call.records[0][0]
    for outcome in _tried(first, lambda: _draft(first, choice or call.records[-1][1], request, reply)):
        yield replace(outcome, rows=rows)
    for at, count in others:
        yield Reject(at, Reason.NOT_A_CHAT, "another choice of the same call", rows=count)


def _body(record: TraceSpan) -> Any:
    return structured(record.body if record.body is not None else record.attributes)


def _call(at: Place, span: TraceSpan) -> Outcome:
    if span.name == _EVALUATION:
        return _evaluation(at, span)
    kind = span.attributes.get("openinference.span.kind")
    if isinstance(kind, str) and kind.upper() != "LLM":
        return _beside_calls(at, span, f"a span of kind {kind[:40]}")
    request, reply = _texts(span)
    if not request and not reply:
        if _is_model_call(span):
            raise Unusable(Reason.NO_MESSAGES, _TEXTS_MISSING)
        return _around(at, span)
    return _draft(at, span, request, reply)


def _around(at: Place, span: TraceSpan) -> Outcome:
    """A span around model calls, if it holds what the user wrote and read."""
    what = f"a span that is not a model call: {span.name[:80]}"
    events = structured(span.attributes.get("all_messages_events"))
    request, reply, spare = plain_messages(span.attributes.get("pydantic_ai.all_messages"), "user"), None, 1
    if not request and isinstance(events, list):
        request, reply = messages_in_events(events)
    kind = span.attributes.get("traceloop.span.kind")
    if not request and isinstance(kind, str) and kind in _KINDS:
        request, reply = (span.attributes.get(f"traceloop.entity.{side}") for side in ("input", "output"))
        spare = _KINDS[kind]
    if not request:
        request, reply = ai_sdk.run_texts(span.attributes)
    if not request:
        return _beside_calls(at, span, what)
    try:
        draft = _draft(at, span, structured(request), structured(reply))
    except Unusable:
        return _beside_calls(at, span, what)
    return as_spare(draft, spare, what)


def _beside_calls(at: Place, span: TraceSpan, what: str) -> Outcome:
    user, tags = first_name(span.attributes, names=_USER), consent_tags(span.attributes)
    return beside_calls(at, _call_of(span), what, user=user, tags=tags)


def _is_model_call(span: TraceSpan) -> bool:
    operation = span.attributes.get("gen_ai.operation.name")
    if ai_sdk.is_call(span.attributes):
        return True
    return operation in ("chat", "text_completion", "generate_content") or span.attributes.get(
        "openinference.span.kind"
    ) in ("LLM", "llm")


def _draft(at: Place, span: TraceSpan, request: Any, reply: Any) -> ConversationDraft:
    attributes = span.attributes
    draft = call_draft(
        at,
        request,
        reply,
        _call_of(span),
        user=first_name(attributes, names=_USER),
        model=first_name(attributes, names=_MODEL),
        started_at=iso(span.started),
        endings=(attributes, span.body, *(event.attributes for event in span.events if event.name == CHOICE)),
    )
    return replace(
        draft,
        tags=consent_tags(attributes),
        tools=draft.tools or tools_of(schemas_in(attributes) or ai_sdk.schemas(attributes)),
    )


def _call_of(span: TraceSpan) -> Call:
    ids = {
        "span": span.span,
        "trace": span.trace,
        "response": first_name(span.attributes, names=("gen_ai.response.id", "ai.response.id")),
    }
    names = tuple(f"{kind} {name}" for kind, name in ids.items() if name)
    session = first_name(span.attributes, names=_SESSION)
    return Call(session, names, seconds_of(span.started) or 0.0, span.trace)


def _texts(span: TraceSpan) -> tuple[Any, Any]:
    """The request and the reply, from the first place that holds one of them."""
    for holder in (span, *(event for event in span.events if event.name == _DETAILS)):
        request, reply = (holder.attributes.get(f"gen_ai.{side}.messages") for side in ("input", "output"))
        if request or reply:
            system = structured(holder.attributes.get("gen_ai.system_instructions"))
            first = [{"role": "system", "parts": system}] if isinstance(system, list) and system else []
            return [*first, *plain_messages(request, "user")], plain_messages(reply, "assistant")
    request, reply = indexed_messages(span.attributes)
    if request or reply:
        return request, reply
    request, reply = _nested(span.attributes)
    if request or reply:
        return request, reply
    if isinstance(events := structured(span.attributes.get("events")), list):  # Pydantic AI
        request, reply = messages_in_events(events)
        if request or reply:
            return request, reply
    records = [event for event in span.events if MESSAGE.fullmatch(event.name) or event.name == CHOICE]
    if records:
        texts = [{"role": r.name.split(".")[1], **r.attributes} for r in records if r.name != CHOICE]
        choice = min((r for r in records if r.name == CHOICE), key=choice_index, default=None)
        return texts, choice and choice.attributes.get("message", choice.attributes)
    request, reply = (_event_value(span, name) for name in ("prompt", "completion"))
    if request or reply:
        return request, reply
    if _is_openinference(span.attributes):
        return span.attributes.get("input.value"), span.attributes.get("output.value")
    return ai_sdk.call_texts(span.attributes)


def _nested(attributes: Mapping[str, Any]) -> tuple[Any, Any]:
    """Messages from Phoenix's tables: lists of `{message.role, message.content}`, or of `{message: {role, content}}`. A
    message of several parts has `contents`."""
    sides = []
    for name in ("input_messages", "output_messages"):
        value = structured(attributes.get(f"llm.{name}"))
        messages = []
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, Mapping):
                messages.append(_plain(_flat(entry, "message")))
        sides.append(messages)
    return sides[0], sides[1]


def _flat(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Turn `{name.x: ...}` or `{name: {x: ...}}` into `{x: ...}`."""
    inner = entry.get(name)
    return {
        str(key).removeprefix(f"{name}."): value
        for key, value in (inner if isinstance(inner, Mapping) else entry).items()
    }


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message of Phoenix's tables with its parts and its calls as those of OpenAI."""
    parts, calls = structured(message.get("contents")), structured(message.get("tool_calls"))
    if message.get("content") is None and isinstance(parts, list):
        parts = [_flat(part, "message_content") for part in parts if isinstance(part, Mapping)]
        message = {**message, "content": parts}
    if isinstance(calls, list):
        calls = [_flat(call, "tool_call") for call in calls if isinstance(call, Mapping)]
        calls = [{key.removeprefix("function."): value for key, value in call.items()} for call in calls]
        message = {**message, "tool_calls": calls}
    if message.get("function_call_name"):
        name, given = (message.get(f"function_call_{key}") for key in ("name", "arguments_json"))
        message = {**message, "function_call": {"name": name, "arguments": given}}
    return message


def _event_value(span: TraceSpan, name: str) -> Any:
    """The text of a `gen_ai.content.prompt` or `.completion` event, which early versions of the conventions had."""
    events = (event for event in span.events if event.name == f"gen_ai.content.{name}")
    return next((event.attributes.get(f"gen_ai.{name}") for event in events), None)


def _evaluation(at: Place, span: TraceSpan) -> Outcome:
    fields = {**span.attributes, **(span.body if isinstance(span.body, Mapping) else {})}
    response = fields.get("gen_ai.response.id")
    about = [f"response {response}" if isinstance(response, str) else None]
    about = [f"span {span.span}" if span.span else None, *about, f"trace {span.trace}" if span.trace else None]
    name = str(fields.get("gen_ai.evaluation.name"))
    score, label = (fields.get(f"gen_ai.evaluation.score.{part}") for part in ("value", "label"))
    evidence = judgement(at, about, name, score, label, fields.get("gen_ai.evaluation.explanation"))
    return replace(evidence, when=seconds_of(span.started) or 0.0)


def _annotation(row: LogRow) -> Outcome:
    """The judgement in an annotation of a span, as Phoenix exports it."""
    result = structured(row.value.get("result"))  # in tables: columns `result.label`, ...
    result = result if isinstance(result, Mapping) else {k.removeprefix("result."): v for k, v in row.value.items()}
    about: list[str | None] = [f"span {row.value['span_id']}"]
    name = str(row.value.get("name", row.value.get("annotation_name")))
    score, label, remark = (result.get(part) for part in ("score", "label", "explanation"))
    judged = dated(judgement(row.at, about, name, score, label, remark), row.value)
    return judged if str(row.value["annotator_kind"]).upper() == "HUMAN" else as_score(judged)


def _is_openinference(attributes: Mapping[str, Any]) -> bool:
    return any(name.startswith(("openinference.", "llm.input_messages", "llm.output_messages")) for name in attributes)
