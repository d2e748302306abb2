"""Langfuse: exported observations, traces and scores, in the API's spelling (`traceId`) or the export's (`trace_id`).

A GENERATION is a model call; observations of other types are no chats. Scores judge an observation, else the last call
of their trace, else of their session; a CORRECTION holds the reply as a person would have had it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Found, spread
from drift.logs.draft import Call, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.texts import call_draft, first_name, iso
from drift.logs.traces.verdicts import judgement
from drift.records import Reason

_OBSERVATIONS = {
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
_SCORES = {"NUMERIC", "BOOLEAN", "CATEGORICAL", "CORRECTION", "TEXT"}

_OF_TRACES = {"observations", "scores", "public", "bookmarked", "projectId", "project_id", "htmlPath", "environment"}


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_observation(row) or _is_score(row) or _is_trace(row) or _is_bare_trace(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Found]:
    return spread(rows, _found)


def _found(row: LogRow) -> Iterator[Found]:
    value = row.value
    if _is_trace(value):
        yield from _trace(row.at, value)
    elif _is_score(value):
        yield _score(row.at, value)
    elif _is_bare_trace(value):
        yield Reject(row.at, Reason.NOT_A_CHAT, "a trace without its observations")
    else:
        yield _observation(row.at, value, {})


def _is_observation(row: Mapping[str, Any]) -> bool:
    return (
        _kind(row, "type") in _OBSERVATIONS and _get(row, "traceId", "trace_id", "startTime", "start_time") is not None
    )


def _is_score(row: Mapping[str, Any]) -> bool:
    about = _get(row, "traceId", "trace_id", "observationId", "observation_id", "sessionId", "session_id")
    if about is None or "name" not in row:
        return False
    kind = _get(row, "dataType", "data_type")
    return (isinstance(kind, str) and kind in _SCORES) or (kind is None and _is_untyped_score(row))


def _is_untyped_score(row: Mapping[str, Any]) -> bool:
    """Older exports do not say what kind of value it is."""
    about = _get(row, "traceId", "trace_id", "observationId", "observation_id")
    said = _get(row, "value", "stringValue", "string_value")
    return about is not None and said is not None and not row.keys() & {"type", "input", "output", "attributes"}


def _is_bare_trace(row: Mapping[str, Any]) -> bool:
    """A trace as the API lists it or a blob-storage export writes it: its observations stand elsewhere."""
    known = row.keys()
    who = known & {"sessionId", "session_id"} and known & {"userId", "user_id"}
    return "type" not in known and {"id", "timestamp", "input", "output"} <= known and bool(who and known & _OF_TRACES)


def _is_trace(row: Mapping[str, Any]) -> bool:
    inside = row.get("observations")
    return isinstance(inside, list) and any(isinstance(entry, Mapping) and "type" in entry for entry in inside)


def _trace(at: Place, row: Mapping[str, Any]) -> Iterator[Found]:
    """A downloaded trace: its observations know neither session nor user."""
    about = row["trace"] if isinstance(row.get("trace"), Mapping) else row
    scores = row.get("scores", about.get("scores"))
    for entry in (*row["observations"], *(scores if isinstance(scores, list) else ())):
        if not isinstance(entry, Mapping):
            yield Reject(at, Reason.NOT_AN_OBJECT, f"a {type(entry).__name__} in a trace")
            continue
        try:
            judging = {"traceId": about.get("id"), **entry}
            yield _score(at, judging) if _is_score(judging) else _observation(at, entry, about)
        except Unusable as error:
            yield Reject(at, error.reason, error.detail)


def _observation(at: Place, row: Mapping[str, Any], trace: Mapping[str, Any]) -> Found:
    if row.get("type") != "GENERATION":
        return Reject(at, Reason.NOT_A_CHAT, f"an observation of type {str(row.get('type'))[:40]}")
    metadata = structured(row.get("metadata"))
    session = first_name(row, trace, metadata, names=("sessionId", "session_id", "langfuse_session_id"))
    ids = {
        "observation": name_of(row.get("id")),
        "trace": first_name(row, names=("traceId", "trace_id")) or name_of(trace.get("id")),
        "session": session,
    }
    started, names = _get(row, "startTime", "start_time"), tuple(f"{kind} {name}" for kind, name in ids.items() if name)
    return call_draft(
        at,
        row.get("input"),
        row.get("output"),
        Call(session, names, seconds_of(started) or 0.0, ids["trace"]),
        user=first_name(row, trace, metadata, names=("userId", "user_id", "langfuse_user_id")),
        model=first_name(row, names=("model", "providedModelName", "provided_model_name")),
        started_at=iso(started),
    )


def _score(at: Place, row: Mapping[str, Any]) -> Found:
    kinds = {"observation": ("observationId", "observation_id"), "trace": ("traceId", "trace_id")}
    kinds["session"] = ("sessionId", "session_id")
    about = [f"{kind} {value}" if (value := name_of(_get(row, *names))) else None for kind, names in kinds.items()]
    kind, name = _kind(row, "dataType", "data_type"), str(row.get("name"))
    word = _get(row, "stringValue", "string_value")
    if kind == "CORRECTION":
        return judgement(at, about, name, None, None, row.get("comment"), word or row.get("value"))
    value = bool(row["value"]) if kind == "BOOLEAN" and row.get("value") in (0, 1) else row.get("value")
    found = judgement(at, about, name, None if kind in ("CATEGORICAL", "TEXT") else value, word, row.get("comment"))
    # What a person annotated in Langfuse or a model judged is a score, whatever its name.
    return replace(found, kind="score") if row.get("source") in ("ANNOTATION", "EVAL") else found


def _get(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _kind(row: Mapping[str, Any], *names: str) -> str | None:
    found = _get(row, *names)
    return found if isinstance(found, str) else None
