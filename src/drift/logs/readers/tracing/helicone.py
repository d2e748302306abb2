"""Helicone: exported requests, with the bodies that the gateway saw. One record per model call."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, has_any, seconds_of, structured
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.streams import joined_stream, unstreamed
from drift.logs.traces.texts import SESSIONS, USERS, call_draft, first_name, iso
from drift.logs.traces.verdicts import judgement
from drift.logs.unread import keys
from drift.records import Reason

_SESSION = ("helicone-session-id", "helicone_session_id", "session-id")
_PROPERTIES = ("properties", "request_properties")
_NO_TEXTS = "a call without texts: export it with its bodies (their file is named in signed_body_url)"

KEYS = keys(
    "request_id id request_created_at created_at request_user_id request_body response_body request_model"
    f" response_model properties request_properties scores feedback_rating model"
    f" {' '.join((*_SESSION, *SESSIONS, *USERS))}",
    feedback=keys("rating comment"),
)


def recognises(row: Mapping[str, Any]) -> bool:
    has_bodies = "request_body" in row and ("response_body" in row or "request_id" in row)
    is_request = has_bodies or ("request_id" in row and "signed_body_url" in row)
    return is_request and has_any(row, ("request_body", "response_body", "request_id"))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    request, reply = (structured(value.get(side)) for side in ("request_body", "response_body"))
    if not request and not reply:
        raise Unusable(Reason.NO_MESSAGES, _NO_TEXTS)
    properties = _properties(value)
    started = next((value[key] for key in ("request_created_at", "created_at") if value.get(key)), None)
    name = first_name(value, names=("request_id", "id"))
    yield call_draft(
        row.at,
        request,
        _reply(reply),
        Call(
            first_name(properties, value, names=(*_SESSION, *SESSIONS)),
            (f"request {name}",) if name else (),
            seconds_of(started) or 0.0,
        ),
        user=first_name(value, properties, request, names=("request_user_id", "helicone-user-id", *USERS)),
        model=first_name(value, reply, request, names=("request_model", "response_model", "model", "modelVersion")),
        started_at=iso(started),
        tags=consents_in(request, *(value.get(key) for key in _PROPERTIES)),
        endings=(reply,),
    )
    yield from _judgements(row.at, value, name)


def _reply(body: Any) -> Any:
    """The reply; a stream may be kept as its events."""
    return joined_stream(body) if isinstance(body, list) else unstreamed(body)


def _properties(row: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's properties, by names in lower case: they are headers."""
    found: dict[str, Any] = {}
    for key in _PROPERTIES:
        place = structured(row.get(key))
        found |= {str(name).lower(): value for name, value in place.items()} if isinstance(place, Mapping) else {}
    return found


def _judgements(at: Place, row: Mapping[str, Any], name: str | None) -> Iterator[Outcome]:
    """The thumb stands in `feedback_rating` and again in the scores; other scores have names of their own."""
    about = [f"request {name}" if name else None]
    scores = structured(row.get("scores"))
    named = {str(key): value for key, value in scores.items()} if isinstance(scores, Mapping) else {}
    thumb = _first(row.get("feedback_rating"), _inner(row.get("feedback"), "rating"))
    if thumb is None:
        thumb = _plain(named.get("helicone-score-feedback"))
    remark = _inner(row.get("feedback"), "comment")
    given = {key: _plain(value) for key, value in named.items() if key != "helicone-score-feedback"}
    for title, value in ({"user feedback": thumb} | given).items():
        if value is None:
            continue
        try:
            if title == "user feedback" and value in (0, 1):
                value = bool(value)
            yield judgement(at, about, title, value, value, remark if title == "user feedback" else None)
        except Unusable as error:
            yield Reject(at, error.reason, error.detail)


def _plain(score: Any) -> Any:
    return score.get("value") if isinstance(score, Mapping) else score


def _inner(value: Any, name: str) -> Any:
    value = structured(value)
    return value.get(name) if isinstance(value, Mapping) else None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
