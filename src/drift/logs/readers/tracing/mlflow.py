"""MLflow: traces with their spans and assessments, as its API, its files and `search_traces` write them.

Spans of the types CHAT_MODEL and LLM are model calls. A trace without such a span is read by its root span, else by its
`request` and `response`. An assessment judges the call of its span, else the last call of its trace.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from drift.logs.convert import Outcome, consent_tags, many_per_row
from drift.logs.draft import Call, ConversationDraft, has_any, name_of, seconds_of, structured, tags_of_all
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.texts import SESSIONS, USERS, call_draft, first_name, iso, spare_draft
from drift.logs.traces.verdicts import TIMES, dated, judgement
from drift.logs.unread import keys
from drift.records import Reason

_CALLS = ("CHAT_MODEL", "LLM")
_CORRECTIONS = ("expected_response", "expected_output", "correction", "corrected_response")
_SESSION = ("mlflow.trace.session", *SESSIONS)
_USER = ("mlflow.trace.user", *USERS)

_SPAN = keys(
    "span_id parent_id parent_span_id span_type inputs outputs start_time start_time_ns start_time_unix_nano"
    " attributes",
    context=keys("span_id"),
)
_ABOUT = keys(
    "trace_id request_id client_request_id request_time timestamp_ms timestamp trace_metadata request_metadata tags"
    " request response",
    assessments=keys(
        f"assessment_name name rationale value valid span_id source feedback expectation {' '.join(TIMES)}"
    ),
)
KEYS = {**_ABOUT, **keys("trace", info=_ABOUT, data=keys("request response", spans=_SPAN), spans=_SPAN)}


def recognises(row: Mapping[str, Any]) -> bool:
    if isinstance(structured(row.get("info")), Mapping) and isinstance(structured(row.get("data")), Mapping):
        return bool(_spans(row)) or "spans" in structured(row["data"])
    return has_any(row, ("trace_id", "request_id")) and (
        has_any(row, ("trace_metadata", "request_metadata")) or _is_mlflow(_spans(row))
    )


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _is_mlflow(spans: Sequence[Mapping[str, Any]]) -> bool:
    return any(key.startswith("mlflow.") for span in spans for key in _attributes(span))


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by name. MLflow writes every value as JSON text."""
    attributes = structured(span.get("attributes"))
    plain = {str(key): value for key, value in attributes.items()} if isinstance(attributes, Mapping) else {}
    return {key: _value(value) for key, value in plain.items()}


def _value(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ('"', "[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _trace(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """All fields of the trace: the row has them itself, in `info`, or (in tables) in the text of `trace`."""
    whole = structured(row.get("trace"))
    places = (row, whole) if isinstance(whole, Mapping) else (row,)
    return {
        key: value
        for place in reversed(places)
        for inside in (place, structured(place.get("info")))
        if isinstance(inside, Mapping)
        for key, value in inside.items()
    }


def _spans(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    whole = structured(row.get("trace"))
    for place in (row, whole):
        data = structured(place.get("data")) if isinstance(place, Mapping) else None
        for holder in (data, place):
            spans = structured(holder.get("spans")) if isinstance(holder, Mapping) else None
            if isinstance(spans, list):
                return [span for span in map(structured, spans) if isinstance(span, Mapping)]
    return []


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    trace = _trace(row.value)
    name = first_name(trace, names=("trace_id", "request_id", "client_request_id"))
    spans = _spans(row.value)
    tags = tags_of_all(map(consent_tags, (*_places(trace), *map(_attributes, spans))))
    has_call = False
    for span in (span for span in spans if _kind(span) in _CALLS):
        try:
            draft = replace(_call(row.at, span, trace, name), tags=tags)
            has_call = True
            yield draft
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail)
    if not has_call:
        around = _around(row.at, row.value, spans, trace, name)
        yield replace(around, tags=tags) if isinstance(around, ConversationDraft) else around
    yield from _assessments(row.at, trace, name)


def _kind(span: Mapping[str, Any]) -> Any:
    kind = span.get("span_type") or _attributes(span).get("mlflow.spanType")
    return kind.upper() if isinstance(kind, str) else None


def _side(span: Mapping[str, Any], side: str) -> Any:
    attributes = _attributes(span)
    return span.get(side.lower()) or attributes.get(f"mlflow.span{side}")


def _call(at: Place, span: Mapping[str, Any], trace: Mapping[str, Any], name: str | None) -> ConversationDraft:
    request, reply = _side(span, "Inputs"), _side(span, "Outputs")
    model = first_name(
        reply, request, _attributes(span), names=("model", "mlflow.llm.model", "model_name", "modelVersion")
    )
    return call_draft(
        at, request, reply, _named(span, trace, name), endings=(_attributes(span),), **_about(span, trace, model)
    )


def _around(
    at: Place, row: Mapping[str, Any], spans: list[Mapping[str, Any]], trace: Mapping[str, Any], name: str | None
) -> Outcome:
    """What the user wrote and read, of a trace in which no model call was traced."""
    roots = (span for span in spans if not (span.get("parent_id") or span.get("parent_span_id")))
    root = next(roots, {})
    data = structured(row.get("data"))
    places = (trace, data) if isinstance(data, Mapping) else (trace,)
    request = _side(root, "Inputs") or next((p["request"] for p in places if p.get("request")), None)
    reply = _side(root, "Outputs") or next((p["response"] for p in places if p.get("response")), None)
    call = replace(_named(root, trace, name), spare=1)
    return spare_draft(at, request, reply, call, "a trace without a model call", **_about(root, trace, None))


def _named(span: Mapping[str, Any], trace: Mapping[str, Any], name: str | None) -> Call:
    context = structured(span.get("context"))
    own = first_name(span, context, names=("span_id",))
    ids = (f"span {own}" if own else None, f"trace {name}" if name else None)
    started = _first(span, ("start_time", "start_time_ns", "start_time_unix_nano")) or _started(trace)
    session = first_name(*_places(trace), _attributes(span), names=_SESSION)
    return Call(session, tuple(filter(None, ids)), seconds_of(started) or 0.0, name)


def _about(span: Mapping[str, Any], trace: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    user = first_name(*_places(trace), _attributes(span), names=_USER)
    return {"user": user, "model": model, "started_at": iso(_started(trace))}


def _places(trace: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where a trace says what holds for all of its spans."""
    return [_pairs(trace.get(key)) for key in ("trace_metadata", "request_metadata", "tags")]


def _started(trace: Mapping[str, Any]) -> Any:
    return _first(trace, ("request_time", "timestamp_ms", "timestamp"))


def _first(place: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((place[name] for name in names if place.get(name) is not None), None)


def _pairs(value: Any) -> Mapping[str, Any]:
    """Metadata as a mapping; older versions write `[{key, value}]`."""
    value = structured(value)
    if isinstance(value, list):
        pairs = (pair for pair in value if isinstance(pair, Mapping))
        return {str(pair.get("key")): pair.get("value") for pair in pairs}
    return value if isinstance(value, Mapping) else {}


def _assessments(at: Place, trace: Mapping[str, Any], name: str | None) -> Iterator[Outcome]:
    listed = structured(trace.get("assessments"))
    for entry in map(structured, listed if isinstance(listed, list) else ()):
        if isinstance(entry, Mapping) and entry.get("valid") is not False:
            try:
                yield _assessment(at, entry, name)
            except Unusable as error:
                yield Reject(at, error.reason, error.detail)


def _assessment(at: Place, entry: Mapping[str, Any], trace: str | None) -> Outcome:
    """Feedback, or the reply that somebody expected. A newer version of an assessment makes the older one invalid."""
    span = name_of(entry.get("span_id"))
    about = [f"span {span}" if span else None, f"trace {trace}" if trace else None]
    title = str(entry.get("assessment_name", entry.get("name")))
    remark = entry.get("rationale")
    feedback, expected = structured(entry.get("feedback")), structured(entry.get("expectation"))
    if isinstance(expected, Mapping):
        value = expected.get("value", expected.get("serialized_value"))
        if title.lower() not in _CORRECTIONS:
            raise Unusable(Reason.NO_VERDICT, "an expectation that is not a reply")
        inner = structured(value.get("value")) if isinstance(value, Mapping) else value
        return dated(judgement(at, about, title, None, None, remark, inner), entry)
    value = feedback.get("value") if isinstance(feedback, Mapping) else entry.get("value")
    evidence = dated(judgement(at, about, title, value, value, remark), entry)
    source = structured(entry.get("source"))
    by = source.get("source_type") if isinstance(source, Mapping) else None
    # What a model or a program judged is a score, even if its name sounds like a user's thumb.
    return replace(evidence, kind="score") if isinstance(by, str) and by.upper() != "HUMAN" else evidence
