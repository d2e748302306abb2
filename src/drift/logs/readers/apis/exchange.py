"""What logs of one request and one response have in common: what the two are called, and who spoke when."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome
from drift.logs.draft import Call, ConversationDraft, has_any, structured
from drift.logs.files.rows import Reject, Unusable
from drift.logs.traces.streams import unstreamed
from drift.logs.traces.verdicts import VERDICTS, is_unrated, judgement_beside
from drift.logs.unread import keys
from drift.records import stable_hash

SESSION = ("conversation_id", "session_id", "thread_id", "chat_id")
USER = ("user_id", "user", "end_user", "safety_identifier")
_REQUESTS, _RESPONSES = ("request", "body", "params"), ("response", "completion")
_TIMES = ("created_at", "timestamp", "created", "start_time", "startTime", "time")

EXCHANGE = {
    **keys(" ".join((*SESSION, *USER, *_REQUESTS, *_RESPONSES, *VERDICTS, *_TIMES))),
    **keys("id model messages input system tools instructions metadata"),
}
"""The keys of a row that readers of exchanges know."""


def is_litellm(row: Mapping[str, Any]) -> bool:
    """True for a payload of LiteLLM, which holds requests and responses of any API."""
    return has_any(row, ("call_type", "litellm_call_id", "model_parameters"))


def sides(row: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, Any]:
    """The request and the response of a row, out of the events of its stream if need be. Each may be the row itself; a
    request holds `messages` or an `input`."""
    request = next((found for key in _REQUESTS if _is_request(found := structured(row.get(key)))), None)
    if request is None and _is_request(row):
        request = row
    response = next(
        (found for key in _RESPONSES if isinstance(found := structured(unstreamed(row.get(key))), dict | list)),
        None,
    )
    return request, row if response is None else response


def _is_request(value: Any) -> bool:
    return isinstance(value, Mapping) and (value.get("messages") is not None or value.get("input") is not None)


def first_time(*places: Mapping[str, Any]) -> Any:
    """The time of the call, from the first place that has one."""
    return next((place[key] for place in places for key in _TIMES if place.get(key) is not None), None)


def with_verdicts(draft: ConversationDraft, row: Mapping[str, Any]) -> Iterator[Outcome]:
    """Yield the call, and the judgements of its reply that stand beside it: a word, a number, or an object of these."""
    given = [(key, row[key]) for key in VERDICTS if not is_unrated(row.get(key))]
    if not given:
        yield draft
        return
    # An id of the row's may be that of the chat, which all of its rows have; and many chats have the same messages.
    call = draft.call or Call()
    said = [(message.role, message.content) for message in draft.messages]
    about = f"exchange {stable_hash([list(call.ids), call.session, said])}"
    yield replace(draft, call=replace(call, ids=(*call.ids, about)))
    for key, value in given:
        try:
            evidence = judgement_beside(draft.at, [about], key, value)
        except Unusable as error:
            yield Reject(draft.at, error.reason, error.detail)
        else:
            yield from () if evidence is None else (evidence,)
