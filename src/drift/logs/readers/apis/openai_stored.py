"""OpenAI's stored completions: `chat.completion` objects with their request's messages.

The messages are on the completion or on its `request`, as `messages` or `input`. The API returns them by a separate
call; a completion without them cannot be used. A streamed completion may be kept as its chunks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row, with_beside
from drift.logs.draft import Call, ConversationDraft, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.readers.apis.exchange import EXCHANGE, SESSION, USER, is_litellm, with_verdicts
from drift.logs.traces.streams import unstreamed
from drift.logs.traces.texts import call_draft, first_name, iso, tools_beside
from drift.logs.unread import keys
from drift.records import Reason

KEYS = {**keys("object id created choices input_messages continue_final_message"), **EXCHANGE}


def recognises(row: Mapping[str, Any]) -> bool:
    return _completion(row) is not None


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _calls)


def _completion(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The completion: the row itself, or its `response`."""
    if row.get("object") == "chat.completion" and "choices" in row:
        return row
    response = structured(unstreamed(row.get("response")))
    if not isinstance(response, Mapping) or is_litellm(row):
        return None
    if response.get("object") == "chat.completion" and "choices" in response:
        return response
    choices = structured(response.get("choices"))  # many servers and gateways leave the name of the object out
    has_reply = isinstance(choices, list) and any(isinstance(c, Mapping) and "message" in c for c in choices)
    request = structured(row.get("request"))
    has_request = isinstance(request, Mapping) and isinstance(structured(request.get("messages")), list)
    return response if "object" not in response and has_reply and has_request else None


def _calls(row: LogRow) -> Iterator[Outcome]:
    completion = _completion(row.value)
    if completion is None:
        raise Unusable(Reason.NO_MESSAGES, "not a chat.completion with choices")
    yield from with_verdicts(_call(row.at, row.value, completion), row.value)


def _call(at: Place, row: Mapping[str, Any], completion: Mapping[str, Any]) -> ConversationDraft:
    request = structured(row.get("request"))
    places = (row, request) if isinstance(request, Mapping) else (row,)
    keys = ("messages", "input_messages", "input")
    messages = next((place[key] for place in places for key in keys if place.get(key) is not None), None)
    if messages is None:
        raise Unusable(Reason.NO_MESSAGES, "a completion without its request: export its messages too, as `messages`")
    metadata = [structured(place.get("metadata")) for place in (completion, *places)]
    name = name_of(completion.get("id"))
    draft = call_draft(
        at,
        messages,
        completion,
        Call(
            first_name(*metadata, names=SESSION), (name,) if name else (), seconds_of(completion.get("created")) or 0.0
        ),
        user=first_name(*places, *metadata, names=USER),
        model=name_of(completion.get("model")),
        started_at=iso(completion.get("created")),
        settings=places,
        tags=consents_in(completion, request),
        **tools_beside(*places, completion),
    )
    return with_beside(draft, *places)
