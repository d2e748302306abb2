"""OpenAI's Responses API: `object: response` with the `input` of its request, in the row or in its `request`.

A response that names the one before it (`previous_response_id`) only holds what is new; if the file has that one, its
history is put in front. Responses of one `conversation` are joined like calls of one session.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import Call, ConversationDraft, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.readers.apis.exchange import EXCHANGE, SESSION, USER, first_time, is_litellm, sides, with_verdicts
from drift.logs.traces.texts import call_draft, first_name, iso
from drift.logs.unread import keys
from drift.records import Message, Reason

_MAX_KEPT_CHARACTERS = 64 * 2**20  # of histories, for the responses that continue them

KEYS = {**keys("object output previous_response_id conversation status incomplete_details usage"), **EXCHANGE}


def recognises(row: Mapping[str, Any]) -> bool:
    return not is_litellm(row) and _is_response(sides(row)[1])


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    chains = _Chains()
    for outcome in many_per_row(rows, _calls):
        if isinstance(outcome, ConversationDraft):
            yield from chains.take(outcome)
        else:
            yield outcome
    yield from chains.rest()


def _is_response(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("object") == "response" and "output" in value


class _Chains:
    """Puts the history in front of the responses that continue another. The API lists the newest first, so a response
    waits for the one before it. What takes too much memory is forgotten, the oldest first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Message, ...]] = OrderedDict()
        self._waiting: OrderedDict[str, list[ConversationDraft]] = OrderedDict()
        self._kept_size = self._waiting_size = 0

    def take(self, draft: ConversationDraft) -> Iterator[ConversationDraft]:
        """Yield the response, if what is before it is known, and those that have waited for it."""
        before = draft.call.trace if draft.call else None
        if before is None or before in self._kept:
            yield from self._continued(draft)
            return
        self._waiting.setdefault(before, []).append(draft)
        self._waiting_size += _size(draft.messages)
        while self._waiting_size > _MAX_KEPT_CHARACTERS:
            for given_up in self._released(next(iter(self._waiting))):
                yield from self._continued(given_up)

    def rest(self) -> Iterator[ConversationDraft]:
        """Yield the responses that continue one of another file, with what follows them."""
        names = {name for drafts in self._waiting.values() for draft in drafts if draft.call for name in draft.call.ids}
        first = [before for before in self._waiting if before not in names]
        for before in (*first, *list(self._waiting)):  # the others wait for each other in a circle
            for draft in self._released(before):
                yield from self._continued(draft)

    def _released(self, before: str) -> list[ConversationDraft]:
        drafts = self._waiting.pop(before, [])
        self._waiting_size -= sum(_size(draft.messages) for draft in drafts)
        return drafts

    def _continued(self, draft: ConversationDraft) -> Iterator[ConversationDraft]:
        ready = [draft]
        while ready:
            one = ready.pop()
            call = one.call or Call()
            messages = _after(self._kept.get(call.trace or "", ()), one.messages)
            yield replace(one, messages=messages, call=replace(call, trace=None))
            if call.ids:
                self._keep(call.ids[0], messages)
                ready += reversed(self._released(call.ids[0]))

    def _keep(self, name: str, messages: tuple[Message, ...]) -> None:
        self._kept_size += _size(messages) - _size(self._kept.pop(name, ()))
        self._kept[name] = messages
        while self._kept_size > _MAX_KEPT_CHARACTERS:
            self._kept_size -= _size(self._kept.popitem(last=False)[1])


def _size(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content) for message in messages)


def _after(history: tuple[Message, ...], new: tuple[Message, ...]) -> tuple[Message, ...]:
    """A history with what is new. Instructions hold for one call: those of earlier ones are no longer in force."""
    if not history:
        return new
    system = [message for message in new if message.role == "system"]
    said = [message for message in (*history, *new) if message.role != "system"]
    return tuple(  # the history's messages are shared: a chat of thousands of responses has it before each of them
        message if message.source_index == index else replace(message, source_index=index)
        for index, message in enumerate((*system, *said))
    )


def _calls(row: LogRow) -> Iterator[Outcome]:
    """Yield the response as a draft whose `Call.trace` is the response before it, and judgements beside it."""
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
            first_name(response, request, names=("previous_response_id",)),
        ),
        user=first_name(row.value, request, response, *metadata, names=USER),
        model=first_name(response, request, names=("model",)),
        started_at=iso(started),
        endings=(response,),
    )
