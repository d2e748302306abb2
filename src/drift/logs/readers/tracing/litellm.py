"""LiteLLM: the payload of its logging callbacks, and rows of its spend logs. One record per model call."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, has_any, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.traces.texts import SESSIONS, call_draft, first_name, iso, tools_beside
from drift.logs.unread import keys
from drift.records import Reason

_LITELLM_KEYS = ("call_type", "litellm_call_id", "model_parameters", "custom_llm_provider", "api_base")
_USER = ("end_user", "user_api_key_end_user_id", "user_api_key_user_id", "user")
_SESSION = ("session_id", "litellm_session_id")
_OF_CALLER = ("requester_metadata", "spend_logs_metadata")  # what came with the request, within LiteLLM's own metadata
_CHATS = ("completion", "acompletion", "responses", "aresponses", "anthropic_messages", "text_completion")

_REDACTED = "redacted-by-litellm"  # what stands in place of each text then
_TEXTS_REDACTED = "a call whose texts LiteLLM replaced: set litellm_settings: {turn_off_message_logging: false}"
_TEXTS_MISSING = "a call without texts: LiteLLM stores them with general_settings: {store_prompts_in_spend_logs: true}"

KEYS = keys(
    "messages proxy_server_request response call_type metadata session_id litellm_session_id id request_id"
    " litellm_call_id trace_id startTime model model_parameters"
    f" {' '.join(_USER)}"
)


def recognises(row: Mapping[str, Any]) -> bool:
    has_request = "messages" in row or "proxy_server_request" in row
    return has_request and "response" in row and has_any(row, _LITELLM_KEYS)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _calls)


def _calls(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    kind = value.get("call_type")
    if isinstance(kind, str) and kind and kind not in _CHATS:
        yield Reject(row.at, Reason.NOT_A_CHAT, f"a call of type {kind[:40]}")
        return
    metadata, requests = structured(value.get("metadata")), _requests(value)
    # Without a session from the caller, LiteLLM invents a trace for each call, and spend logs invent a session: these
    # group nothing.
    of_caller = [place for request in requests for place in (request, request.get("metadata"))]
    of_caller += [metadata.get(name) for name in _OF_CALLER] if isinstance(metadata, Mapping) else []
    trusted = () if "proxy_server_request" in value else (value,)
    session = first_name(*trusted, metadata, *of_caller, names=_SESSION) or first_name(*of_caller, names=SESSIONS)
    ids = [name_of(value.get(key)) for key in ("id", "request_id", "litellm_call_id", "trace_id")]
    started = value.get("startTime")
    request, reply = _request(value, requests), value.get("response")
    reply = reply if structured(reply) else None  # where no text was stored, spend logs hold an empty object
    parameters = structured(value.get("model_parameters"))
    extra = parameters.get("extra_body") if isinstance(parameters, Mapping) else None
    if not request and not reply:
        raise Unusable(Reason.NO_MESSAGES, _TEXTS_MISSING)
    draft = call_draft(
        row.at,
        request,
        reply,
        Call(session, tuple(name for name in ids if name), seconds_of(started) or 0.0, name_of(value.get("trace_id"))),
        user=first_name(value, metadata, value.get("model_parameters"), names=_USER),
        model=name_of(value.get("model")),
        started_at=iso(started),
        settings=(parameters, extra, *requests),
        tags=consents_in(*of_caller),
        **tools_beside(value.get("model_parameters"), *requests),
    )
    if any(message.content == _REDACTED for message in draft.messages):
        raise Unusable(Reason.NO_MESSAGES, _TEXTS_REDACTED)
    yield draft


def _requests(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The request to the proxy and its body, as spend logs keep them."""
    request = structured(row.get("proxy_server_request"))
    body = structured(request.get("body")) if isinstance(request, Mapping) else None
    return [place for place in (request, body) if isinstance(place, Mapping)]


def _request(row: Mapping[str, Any], requests: list[Mapping[str, Any]]) -> Any:
    """The messages to the model. Spend logs fill `messages` only for realtime calls, so the proxy's request is read."""
    places = [(row, ("messages",)), *((request, ("messages", "input", "prompt")) for request in requests)]
    values = (structured(place.get(name)) for place, names in places for name in names)
    return next((value for value in values if value), None)
