"""Langfuse: exported observations, traces and scores, in the API's spelling (`traceId`) or the export's (`trace_id`).

A GENERATION is a model call. The texts of a trace, and of the spans that `@observe` writes, are read if the trace has
no model call with texts in the logs; other types of observations are not chats. A score judges an observation, else the
last call of its trace, else of its session. A CORRECTION holds the reply that a person would have liked.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, consent_tags, many_per_row
from drift.logs.draft import Call, ConversationDraft, has, name_of, seconds_of, structured, tags_of_all
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, json_kind
from drift.logs.traces.texts import beside_calls, call_draft, first_name, iso, spare_draft
from drift.logs.traces.verdicts import TIMES, as_score, dated, judgement
from drift.logs.unread import keys
from drift.records import Reason

_OBSERVATION_TYPES = {
    "GENERATION",
    "SPAN",
    "EVENT",
    "AGENT",
    "TOOL",
    "CHAIN",
    "RETRIEVER",
    "EVALUATOR",
    "EMBEDDING",
    "GUARDRAIL",
}
_AROUND = ("SPAN", "AGENT", "CHAIN")  # of these, input and output may be what the user wrote and read
_SCORE_TYPES = {"NUMERIC", "BOOLEAN", "CATEGORICAL", "CORRECTION", "TEXT"}

_SESSION = ("sessionId", "session_id", "langfuse_session_id")
_MODEL = ("model", "providedModelName", "provided_model_name")
_USER = ("userId", "user_id", "langfuse_user_id")
_TRACE_KEYS = {"observations", "scores", "public", "bookmarked", "projectId", "project_id", "htmlPath", "environment"}

_OBSERVATION = keys(
    "id type traceId trace_id startTime start_time parentObservationId parent_observation_id input output metadata"
    f" {' '.join((*_SESSION, *_USER, *_MODEL))}"
)
_SCORE = keys(
    "name dataType data_type value stringValue string_value comment source observationId observation_id traceId"
    f" trace_id sessionId session_id {' '.join(TIMES)}"
)
_TRACE = keys(f"id timestamp input output metadata {' '.join((*_SESSION, *_USER, *_MODEL))}", scores=_SCORE)
KEYS = {**_OBSERVATION, **_SCORE, **_TRACE, **keys("", observations={**_OBSERVATION, **_SCORE}, trace=_TRACE)}


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_observation(row) or _is_score(row) or _is_trace(row) or (has(row, "timestamp") and _is_bare_trace(row))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    if _is_trace(value):
        yield from _trace(row.at, value)
    elif _is_score(value):
        yield _score(row.at, value)
    elif _is_bare_trace(value):
        yield _texts_of_trace(row.at, value)
        yield from _scores(row.at, value, value)
    else:
        yield _observation(row.at, value, {})


def _is_observation(row: Mapping[str, Any]) -> bool:
    return (
        _kind(row, "type") in _OBSERVATION_TYPES
        and _get(row, "traceId", "trace_id", "startTime", "start_time") is not None
    )


def _is_score(row: Mapping[str, Any]) -> bool:
    about = _get(row, "traceId", "trace_id", "observationId", "observation_id", "sessionId", "session_id")
    if about is None or "name" not in row:
        return False
    kind = _get(row, "dataType", "data_type")
    return (isinstance(kind, str) and kind in _SCORE_TYPES) or (kind is None and _is_untyped_score(row))


def _is_untyped_score(row: Mapping[str, Any]) -> bool:
    """True for a score of older exports, which have no type of value."""
    about = _get(row, "traceId", "trace_id", "observationId", "observation_id")
    value = _get(row, "value", "stringValue", "string_value")
    return about is not None and value is not None and not row.keys() & {"type", "input", "output", "attributes"}


def _is_bare_trace(row: Mapping[str, Any]) -> bool:
    """True for a trace without its observations, as the API lists it, or as an export to blob storage or out of the
    user interface writes it."""
    keys = row.keys()
    if has(row, "type") or not {"timestamp", "input", "output"} <= keys:
        return False
    owner = keys & {"sessionId", "session_id"} and keys & {"userId", "user_id"}
    return bool(owner and "id" in keys and keys & _TRACE_KEYS) or bool(
        "name" in keys and keys & {"sessionId", "userId"}
    )


def _is_trace(row: Mapping[str, Any]) -> bool:
    inside = row.get("observations")
    return isinstance(inside, list) and any(isinstance(entry, Mapping) and "type" in entry for entry in inside)


def _trace(at: Place, row: Mapping[str, Any]) -> Iterator[Outcome]:
    """The calls and scores of a downloaded trace. Session and user stand on the trace, not on its observations."""
    about = row["trace"] if isinstance(row.get("trace"), Mapping) else row
    has_call = False
    for entry in row["observations"]:
        if not isinstance(entry, Mapping):
            yield Reject(at, Reason.NOT_AN_OBJECT, f"{json_kind(entry)} in a trace")
            continue
        try:
            judging = {"traceId": about.get("id"), **entry}
            outcome = _score(at, judging) if _is_score(judging) else _observation(at, entry, about)
        except Unusable as error:
            outcome = Reject(at, error.reason, error.detail)
        has_call = has_call or (isinstance(outcome, ConversationDraft) and not (outcome.call and outcome.call.spare))
        yield outcome
    if not has_call and (about.get("input") or about.get("output")):
        models = (first_name(e, names=_MODEL) for e in row["observations"] if isinstance(e, Mapping))
        yield _texts_of_trace(at, {"model": next(filter(None, models), None), **about})
    yield from _scores(at, row, about)


def _scores(at: Place, row: Mapping[str, Any], trace: Mapping[str, Any]) -> Iterator[Outcome]:
    scores = structured(row.get("scores", trace.get("scores")))
    for entry in scores if isinstance(scores, list) else ():
        if isinstance(entry, Mapping):  # the API lists only the ids of scores
            try:
                yield _score(at, {"traceId": trace.get("id"), **entry})
            except Unusable as error:
                yield Reject(at, error.reason, error.detail)


def _texts_of_trace(at: Place, row: Mapping[str, Any]) -> Outcome:
    """The request and the reply that stand on the trace itself, for a trace without model calls."""
    metadata = structured(row.get("metadata"))
    trace, session = name_of(row.get("id")), first_name(row, metadata, names=_SESSION)
    names = (f"trace {trace}" if trace else None, f"session {session}" if session else None)
    return spare_draft(
        at,
        row.get("input"),
        row.get("output"),
        Call(session, tuple(filter(None, names)), seconds_of(row.get("timestamp")) or 0.0, trace, spare=1),
        "a trace without a request and a reply of its own",
        user=first_name(row, metadata, names=_USER),
        model=first_name(row, metadata, names=_MODEL),
        started_at=iso(row.get("timestamp")),
        tags=consent_tags(row),
    )


def _observation(at: Place, row: Mapping[str, Any], trace: Mapping[str, Any]) -> Outcome:
    kind = row.get("type")
    metadata = structured(row.get("metadata"))
    session = first_name(row, trace, metadata, names=_SESSION)
    ids = {
        "observation": name_of(row.get("id")),
        "trace": first_name(row, names=("traceId", "trace_id")) or name_of(trace.get("id")),
        "session": session,
    }
    started, names = _get(row, "startTime", "start_time"), tuple(f"{kind} {name}" for kind, name in ids.items() if name)
    texts = row.get("input"), row.get("output")
    call = Call(session, names, seconds_of(started) or 0.0, ids["trace"])
    about = {
        "user": first_name(row, trace, metadata, names=_USER),
        "model": first_name(row, names=_MODEL),
        "started_at": iso(started),
    }
    what, tags = f"an observation of type {str(kind)[:40]}", tags_of_all(map(consent_tags, (row, trace)))
    if kind not in ("GENERATION", *_AROUND):
        return beside_calls(at, call, what, user=about["user"], tags=tags)
    if kind != "GENERATION":
        inner = _get(row, "parentObservationId", "parent_observation_id") is not None
        return spare_draft(at, *texts, replace(call, spare=3 if inner else 2), what, tags=tags, **about)
    if not any(texts) and (trace.get("input") or trace.get("output")):
        return Reject(at, Reason.NOT_A_CHAT, "a model call without texts, in a trace that has texts")
    return call_draft(at, *texts, call, endings=(metadata,), tags=tags, **about)


def _score(at: Place, row: Mapping[str, Any]) -> Outcome:
    kinds = {"observation": ("observationId", "observation_id"), "trace": ("traceId", "trace_id")}
    kinds["session"] = ("sessionId", "session_id")
    about = [f"{kind} {value}" if (value := name_of(_get(row, *names))) else None for kind, names in kinds.items()]
    kind, name = _kind(row, "dataType", "data_type"), str(row.get("name"))
    word = _get(row, "stringValue", "string_value")
    if kind == "CORRECTION":
        return dated(judgement(at, about, name, None, None, row.get("comment"), word or row.get("value")), row)
    value = bool(row["value"]) if kind == "BOOLEAN" and row.get("value") in (0, 1) else row.get("value")
    evidence = judgement(at, about, name, None if kind in ("CATEGORICAL", "TEXT") else value, word, row.get("comment"))
    evidence = dated(evidence, row)
    return as_score(evidence) if row.get("source") in ("ANNOTATION", "EVAL") else evidence


def _get(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _kind(row: Mapping[str, Any], *names: str) -> str | None:
    kind = _get(row, *names)
    return kind if isinstance(kind, str) else None
