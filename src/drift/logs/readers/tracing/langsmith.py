"""LangSmith: exported runs and feedback. Runs of type `llm` are model calls; others are steps around them. A `chain`
(an agent, a graph) is read if its trace has no model call in the logs, as if only the roots were exported.

The `session_id` of a run is its project. The conversation is named in its metadata (`thread_id`, `session_id`,
`conversation_id`), as for LangSmith's own threads.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, consent_tags, many_per_row
from drift.logs.draft import Call, has, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.texts import beside_calls, call_draft, first_name, iso, spare_draft, tools_beside
from drift.logs.traces.verdicts import TIMES, as_score, dated, judgement
from drift.logs.unread import keys

_AROUND = "chain"
_THREAD = ("thread_id", "session_id", "conversation_id")
_MODEL = ("ls_model_name", "model", "model_name")
_NOT_OF_USERS = ("model", "auto_eval", "app")  # an annotator's who works in LangSmith is of its `app`

KEYS = keys(
    "run_type inputs outputs extra metadata id trace_id parent_run_id parent_run_ids start_time feedback"
    f" run_id key score value comment correction feedback_source feedback_source_type {' '.join(TIMES)}"
)


def recognises(row: Mapping[str, Any]) -> bool:
    return (has(row, "run_type") and "inputs" in row) or _is_feedback(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _is_feedback(row: Mapping[str, Any]) -> bool:
    return has(row, "run_id", "key") and bool(row.keys() & {"score", "value", "correction"})


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    if _is_feedback(value):
        yield _feedback(row.at, value)
        return
    yield _run(row.at, value)
    feedback = structured(value.get("feedback"))
    for entry in feedback if isinstance(feedback, list) else ():
        if isinstance(entry, Mapping):
            try:
                yield _feedback(row.at, {"run_id": value.get("id"), **entry})
            except Unusable as error:
                yield Reject(row.at, error.reason, error.detail)


def _run(at: Place, row: Mapping[str, Any]) -> Outcome:
    kind = row.get("run_type")
    extra = structured(row.get("extra"))
    places = (extra.get("metadata"), extra.get("invocation_params")) if isinstance(extra, Mapping) else ()
    session = first_name(*places[:1], row.get("metadata"), names=_THREAD)
    # Feedback usually judges the whole trace: it names the id of the first run.
    ids = [*_ids(row), *(f"run {part}" for part in _parents(row))]
    is_root = name_of(row.get("parent_run_id")) is None and not _parents(row)
    trace = name_of(row.get("trace_id")) or (name_of(row.get("id")) if is_root else None)
    call = Call(session, tuple(dict.fromkeys(ids)), seconds_of(row.get("start_time")) or 0.0, trace)
    user = first_name(*places[:1], row.get("metadata"), names=("user_id", "user"))
    if kind not in ("llm", "chat_model", _AROUND):
        what = f"a run of type {str(kind)[:40]}"
        return beside_calls(at, call, what, user=user, tags=consent_tags(row))
    fields: dict[str, Any] = dict(
        user=user,
        model=first_name(*places, names=_MODEL),
        started_at=iso(row.get("start_time")),
        **tools_beside(*places[1:], row.get("inputs")),
    )
    texts = row.get("inputs"), row.get("outputs")
    if kind == _AROUND:
        spare = replace(call, spare=1 if is_root else 2)
        return spare_draft(at, *texts, spare, f"a run of type {kind}", tags=consent_tags(row), **fields)
    return call_draft(at, *texts, call, **fields)


def _ids(row: Mapping[str, Any]) -> list[str]:
    return [f"run {name}" for key in ("id", "trace_id", "parent_run_id") if (name := name_of(row.get(key)))]


def _parents(row: Mapping[str, Any]) -> list[str]:
    parents = structured(row.get("parent_run_ids"))
    return [name for entry in parents if (name := name_of(entry))] if isinstance(parents, list) else []


def _feedback(at: Place, row: Mapping[str, Any]) -> Outcome:
    about = [f"run {name}" if (name := name_of(row.get(key))) else None for key in ("run_id", "trace_id")]
    value, score = row.get("value"), row.get("score")
    correction = structured(row.get("correction"))
    judged = dated(judgement(at, about, str(row.get("key")), score, value, row.get("comment"), correction), row)
    source = structured(row.get("feedback_source"))
    kind = source.get("type") if isinstance(source, Mapping) else row.get("feedback_source_type")
    return as_score(judged) if kind in _NOT_OF_USERS else judged
