"""OpenAI's Responses API: `object: response` with the `input` of its request, in the row or in its `request`.

A response that names the one before it (`previous_response_id`) only holds what is new; if the logs have that one, its
history is put in front. Responses of one `conversation` are joined like calls of one session.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, ConversationDraft, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.readers.apis.exchange import EXCHANGE, SESSION, USER, first_time, is_litellm, sides, with_verdicts
from drift.logs.traces.texts import call_draft, first_name, iso, unread_items
from drift.logs.unread import keys
from drift.records import Reason

KEYS = {**keys("object output previous_response_id conversation status incomplete_details usage"), **EXCHANGE}


def recognises(row: Mapping[str, Any]) -> bool:
    return not is_litellm(row) and _is_response(sides(row)[1])


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _calls)


def unread_in(row: Mapping[str, Any]) -> Iterable[str]:
    """Items of the output that become no message, such as searches."""
    response = sides(row)[1]
    return (f"output.{kind}" for kind in unread_items(response.get("output"))) if _is_response(response) else ()


def _is_response(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("object") == "response" and "output" in value


def _calls(row: LogRow) -> Iterator[Outcome]:
    """Yield the response, which only holds what is new, and judgements beside it."""
    request, response = sides(row.value)
    if not _is_response(response):
        raise Unusable(Reason.NO_MESSAGES, "not a response with its output")
    if request is None:
        raise Unusable(Reason.NO_MESSAGES, "a response without the input of its request: log it too, as `input`")
    yield from with_verdicts(_draft(row, request, response), row.value)


def _draft(row: LogRow, request: Mapping[str, Any], response: Mapping[str, Any]) -> ConversationDraft:
    metadata = [structured(place.get("metadata")) for place in (response, row.value, request)]
    conversation = response.get("conversation", request.get("conversation"))
    session = first_name(conversation, names=("id",)) or name_of(conversation)
    started, name = first_time(response, row.value, request), name_of(response.get("id"))
    instructions = first_name(request, response, names=("instructions",))
    return call_draft(
        row.at,
        {
            "instructions": instructions,
            "input": request.get("input", request.get("messages")),
            "tools": request.get("tools") or response.get("tools"),
        },
        response.get("output"),
        Call(
            session or first_name(row.value, *metadata, names=SESSION),
            (name,) if name else (),
            seconds_of(started) or 0.0,
            after=first_name(response, request, names=("previous_response_id",)),
        ),
        user=first_name(row.value, request, response, *metadata, names=USER),
        model=first_name(response, request, names=("model",)),
        started_at=iso(started),
        endings=(response,),
        tags=consents_in(request, response),
    )
