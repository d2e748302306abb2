"""Anthropic's Messages API: requests with their responses, and the two files of its batches.

A row is `{request, response}` (other names of the two are known), or a response with the request's `messages` beside
it. A streamed response may be kept as its events.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.readers.apis.exchange import EXCHANGE, SESSION, USER, first_time, is_litellm, sides, with_verdicts
from drift.logs.traces.clouds import unread_parts
from drift.logs.traces.texts import call_draft, first_name, iso
from drift.logs.unread import keys
from drift.records import Reason

KEYS = {**keys("type role content usage stop_reason stop_sequence max_tokens temperature"), **EXCHANGE}


def recognises(row: Mapping[str, Any]) -> bool:
    request, response = sides(row)
    return not is_litellm(row) and _is_message(response) and (request is not None or "role" in row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _calls)


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """Parts of an unknown type, of the messages of the request and of the reply."""
    request, message = sides(row)
    messages = None if request is None else request.get("messages")
    for name, entries in (("messages", messages), ("response", message)):
        yield from (f"{name}.content.{kind}" for kind in unread_parts(entries, "content"))


def _is_message(response: Any) -> bool:
    """True for a message of the API."""
    is_message = isinstance(response, Mapping) and response.get("type") == "message"
    return is_message and response.get("role") == "assistant" and isinstance(response.get("content"), list)


def _calls(row: LogRow) -> Iterator[Outcome]:
    request, message = sides(row.value)
    if request is None:
        raise Unusable(Reason.NO_MESSAGES, "a response without the messages of its request: log them too")
    if not isinstance(message, Mapping):
        raise Unusable(Reason.NO_MESSAGES, "no message of the Messages API in the response")
    started = first_time(row.value, request)
    metadata = [structured(place.get("metadata")) for place in (row.value, request)]
    name = name_of(message.get("id"))
    draft = call_draft(
        row.at,
        {name: request.get(name) for name in ("system", "messages", "tools")},
        {**message, "role": "assistant"},
        Call(first_name(row.value, *metadata, names=SESSION), (name,) if name else (), seconds_of(started) or 0.0),
        user=first_name(row.value, *metadata, names=USER),
        model=first_name(message, request, row.value, names=("model",)),
        started_at=iso(started),
        tags=consents_in(request),
    )
    yield from with_verdicts(draft, row.value)
