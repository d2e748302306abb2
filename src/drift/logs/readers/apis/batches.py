"""Batches of OpenAI's and Anthropic's APIs: a file of requests and a file of replies, joined by `custom_id`.

Ingest both files together: without its request, a reply is no conversation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, ConversationDraft, has, has_any, name_of, numbered, seconds_of, structured, time_of
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.readers.apis.exchange import USER
from drift.logs.traces.endings import asks_to_go_on, with_prefill
from drift.logs.traces.texts import call_draft, first_name
from drift.logs.unread import keys
from drift.records import Reason

_CHATS = ("chat/completions", "/responses", "/messages", "v1/completions")
_REQUEST, _REPLY = 1.0, 2.0  # their order

KEYS = keys(
    "id custom_id method url error",
    body=keys(
        "model messages input system instructions tools user metadata max_tokens temperature continue_final_message"
    ),
    params=keys("model messages system tools metadata max_tokens temperature"),
    response=keys("status_code request_id body"),
    result=keys("type message error"),
)


def recognises(row: Mapping[str, Any]) -> bool:
    is_request = has(row, "body", "url") or isinstance(structured(row.get("params")), Mapping)
    return has(row, "custom_id") and (is_request or _is_reply(row))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def complete(draft: ConversationDraft) -> ConversationDraft:
    """The draft, with a reply that the request begins as one message. Raises Unusable for a request without its reply,
    and for a reply without its request."""
    roles = [message.role for message in draft.messages]
    if "user" not in roles:
        raise Unusable(Reason.NO_USER_TURN, "a reply without its request: ingest the file of the requests with it")
    if roles[-1] != "assistant":
        raise Unusable(Reason.NOT_A_CHAT, "a request without its reply: ingest the file of the replies with it")
    if draft.prefill is None:
        return draft
    request, reply = draft.messages[: draft.prefill + 1], draft.messages[draft.prefill + 1 :]
    if not reply:
        raise Unusable(Reason.NOT_A_CHAT, "a request without its reply: ingest the file of the replies with it")
    return replace(draft, messages=numbered(with_prefill(request, reply)))


def _is_reply(row: Mapping[str, Any]) -> bool:
    response, result = structured(row.get("response")), structured(row.get("result"))
    has_failed = "error" in row and not has_any(row, ("body", "params"))
    return (isinstance(response, Mapping) and "body" in response) or has_failed or isinstance(result, Mapping)


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    name = name_of(value.get("custom_id"))
    if name is None:
        raise Unusable(Reason.BAD_CONTENT, "a row of a batch without a custom_id")
    yield _reply(row.at, value, name) if _is_reply(value) else _request(row.at, value, name)


def _request(at: Place, row: Mapping[str, Any], name: str) -> Outcome:
    url = row.get("url")
    if isinstance(url, str) and not any(chat in url for chat in _CHATS):
        return Reject(at, Reason.NOT_A_CHAT, f"a request to {url[:40]}")
    body = structured(row.get("body", row.get("params")))
    if not isinstance(body, Mapping):
        raise Unusable(Reason.NO_MESSAGES, "a request without a body")
    metadata, messages = structured(body.get("metadata")), structured(body.get("messages"))
    draft = call_draft(
        at,
        body,
        None,
        Call(name, started=_REQUEST, trace="request"),
        user=first_name(body, metadata, names=USER),
        model=name_of(body.get("model")),
        tags=consents_in(body),
    )
    last = messages[-1] if isinstance(messages, list) and messages else None
    is_begun = has(row, "params") or asks_to_go_on(last, body)  # Anthropic's models always go on from a reply
    is_begun = is_begun and draft.messages[-1].role == "assistant"
    return replace(draft, prefill=len(draft.messages) - 1) if is_begun else draft


def _reply(at: Place, row: Mapping[str, Any], name: str) -> Outcome:
    response, result = structured(row.get("response")), structured(row.get("result"))
    body = structured(response.get("body")) if isinstance(response, Mapping) else None
    if isinstance(result, Mapping):  # Anthropic
        body = structured(result.get("message"))
    status = response.get("status_code") if isinstance(response, Mapping) else None
    if not isinstance(body, Mapping) or (isinstance(status, int) and status >= 400):
        return Reject(at, Reason.NOT_A_CHAT, "a request of a batch that failed")
    request = {"role": "user", "content": "?"}  # in the place of the request, which is in the other file
    reply = body.get("output") if body.get("object") == "response" else body
    draft = call_draft(at, [request], reply, Call(name, started=_REPLY, trace="reply"), endings=(body,))
    if len(draft.messages) < 2:
        raise Unusable(Reason.NO_MESSAGES, "a reply without a text")
    created = next((body[key] for key in ("created", "created_at") if body.get(key) is not None), None)
    return ConversationDraft(
        at=at,
        messages=draft.messages[1:],
        call=draft.call,
        model=name_of(body.get("model")),
        started_at=time_of(created) if seconds_of(created) is not None else None,
    )
