"""LiteLLM: the payload of its logging callbacks, and rows of its spend logs. One record per model call."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Found, spread
from drift.logs.draft import Call, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.traces.texts import call_draft, first_name, iso
from drift.records import Reason

_MARKS = ("call_type", "litellm_call_id", "model_parameters", "custom_llm_provider", "api_base")
_USER = ("end_user", "user_api_key_end_user_id", "user_api_key_user_id", "user")
_CHATS = ("completion", "acompletion", "responses", "aresponses", "anthropic_messages", "text_completion")

_NO_TEXTS = "a call without its texts: LiteLLM keeps them with general_settings: {store_prompts_in_spend_logs: true}"


def recognises(row: Mapping[str, Any]) -> bool:
    given = "messages" in row or "proxy_server_request" in row
    return given and "response" in row and any(mark in row for mark in _MARKS)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Found]:
    return spread(rows, _calls)


def _calls(row: LogRow) -> Iterator[Found]:
    value = row.value
    kind = value.get("call_type")
    if isinstance(kind, str) and kind and kind not in _CHATS:
        yield Reject(row.at, Reason.NOT_A_CHAT, f"a call of type {kind[:40]}")
        return
    metadata, asked = structured(value.get("metadata")), _requests(value)
    # Without a session of the caller, LiteLLM makes up a trace for each call, and its spend logs a session: they group
    # nothing.
    of_caller = [place for request in asked for place in (request, request.get("metadata"))]
    trusted = () if "proxy_server_request" in value else (value,)
    session = first_name(*trusted, metadata, *of_caller, names=("session_id", "litellm_session_id"))
    ids = [name_of(value.get(key)) for key in ("id", "request_id", "litellm_call_id", "trace_id")]
    started = value.get("startTime")
    given, answer = _given(value, asked), structured(value.get("response"))
    if not given and not answer:
        raise Unusable(Reason.NO_MESSAGES, _NO_TEXTS)
    yield call_draft(
        row.at,
        given,
        answer,
        Call(session, tuple(name for name in ids if name), seconds_of(started) or 0.0, name_of(value.get("trace_id"))),
        user=first_name(value, metadata, value.get("model_parameters"), names=_USER),
        model=name_of(value.get("model")),
        started_at=iso(started),
    )


def _requests(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the proxy was asked, as spend logs keep it."""
    request = structured(row.get("proxy_server_request"))
    body = structured(request.get("body")) if isinstance(request, Mapping) else None
    return [place for place in (request, body) if isinstance(place, Mapping)]


def _given(row: Mapping[str, Any], asked: list[Mapping[str, Any]]) -> Any:
    """What the model was given. Spend logs fill `messages` for realtime calls alone: the request is the proxy's."""
    places = [(row, ("messages",)), *((request, ("messages", "input", "prompt")) for request in asked)]
    found = (structured(place.get(name)) for place, names in places for name in names)
    return next((value for value in found if value), None)
