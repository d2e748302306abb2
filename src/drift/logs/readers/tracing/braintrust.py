"""Braintrust: exported spans of a project's logs, or of its API.

Spans of the type `llm` are model calls; the root span of a trace is read if the trace has no model call in the logs.
`scores` judge the span that they stand on, or the last call of its trace; `expected` on a judged span is the reply that
somebody would have liked.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, consent_tags, many_per_row
from drift.logs.draft import Call, ConversationDraft, has, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.texts import SESSIONS, USERS, call_draft, first_name, iso, plain_messages, spare_draft
from drift.logs.traces.verdicts import judgement
from drift.logs.unread import keys

_MODEL = ("model", "model_name")
_COMMENTS = ("comment", "feedback_comment", "user_feedback_comment")

KEYS = keys(
    "id span_id root_span_id span_parents created input output expected scores metrics"
    f" {' '.join((*_COMMENTS, *SESSIONS, *USERS))}",
    span_attributes=keys("type name"),
    metadata=keys(" ".join((*SESSIONS, *USERS, *_MODEL, *_COMMENTS))),
)


def recognises(row: Mapping[str, Any]) -> bool:
    return has(row, "root_span_id") or (has(row, "span_attributes") and "input" in row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    outcome = _call(row.at, value)
    yield outcome
    parents = structured(value.get("span_parents"))
    names = [name_of(value.get(key)) for key in ("span_id", "id", "root_span_id")]
    about = [f"span {name}" if name else None for name in dict.fromkeys(names)]
    is_root = not parents
    comment = _comment(value)
    scores = structured(value.get("scores"))
    for name, score in scores.items() if isinstance(scores, Mapping) else ():
        if score is not None:
            yield from _judged(row.at, about, str(name), score, comment)
    expected = structured(value.get("expected"))
    if expected and is_root and _texts_differ(expected, outcome):
        yield from _judged(row.at, about, "expected", None, comment, expected)


def _texts_differ(expected: Any, outcome: ConversationDraft | Reject) -> bool:
    """Whether the reply is not what was expected: else nothing was corrected."""
    if isinstance(outcome, Reject) or not outcome.messages:
        return False
    wanted = plain_messages(expected, "assistant")
    return not wanted or wanted[-1].get("content") != outcome.messages[-1].content


def _judged(
    at: Place, about: list[str | None], name: str, score: Any, comment: str | None, expected: Any = None
) -> Iterator[Outcome]:
    try:
        yield judgement(at, about, name, score, None, comment, expected)
    except Unusable as error:
        yield Reject(at, error.reason, error.detail)


def _comment(row: Mapping[str, Any]) -> str | None:
    metadata = structured(row.get("metadata"))
    return first_name(metadata, row, names=_COMMENTS)


def _call(at: Place, row: Mapping[str, Any]) -> ConversationDraft | Reject:
    about = structured(row.get("span_attributes"))
    kind = about.get("type") if isinstance(about, Mapping) else None
    metadata, metrics = structured(row.get("metadata")), structured(row.get("metrics"))
    parents = structured(row.get("span_parents"))
    root = name_of(row.get("root_span_id"))
    names = [name_of(row.get(key)) for key in ("span_id", "id")]
    names += [name_of(parent) for parent in parents] if isinstance(parents, list) else []
    started = metrics.get("start") if isinstance(metrics, Mapping) else None
    started = started or row.get("created")
    call = Call(
        first_name(metadata, row, names=SESSIONS),
        tuple(dict.fromkeys(f"span {name}" for name in (*names, root) if name)),
        seconds_of(started) or 0.0,
        root,
    )
    if is_step := bool(parents) and kind in ("tool", "function", "score", "scorer"):  # its metadata may be of anything
        call = replace(call, session=None)
    fields = {
        "user": None if is_step else first_name(metadata, row, names=USERS),
        "model": first_name(metadata, row.get("output"), names=_MODEL),
        "started_at": iso(started),
    }
    texts = row.get("input"), row.get("output")
    if kind == "llm":
        return call_draft(at, *texts, call, endings=(metadata,), **fields)
    what = f"a span of type {str(kind)[:40]}"
    spare = replace(call, spare=2 if parents else 1)
    return spare_draft(at, *texts, spare, what, tags=consent_tags(row), **fields)
