"""Amazon Bedrock: model invocation logs (from S3 or CloudWatch), and requests and replies of Converse.

A log's `operation` is Converse or InvokeModel, each also as a stream. The body of InvokeModel is the provider's own:
Anthropic, Nova, Llama, Mistral, Cohere, Titan, DeepSeek and AI21 are read.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind
from drift.logs.traces.clouds import is_bedrock, unread_parts
from drift.logs.traces.streams import joined_stream
from drift.logs.traces.texts import SESSIONS, USERS, call_draft, first_name, iso
from drift.logs.unread import keys
from drift.records import Reason

_CHATS = ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream")
_IN_S3 = "the texts of this call stand in another file, which its log names: read that instead"
_NO_TEXTS = "a call without texts: switch on the delivery of text data in Bedrock's settings for invocation logs"

_WHO = keys(" ".join((*SESSIONS, *USERS)))
_BODY = keys("messages system tools toolConfig prompt inputText message chat_history preamble metadata")
_LOG = keys(
    "schemaType operation timestamp requestId modelId requestMetadata",
    input=keys("inputBodyJson inputBodyS3Path"),
    output=keys("outputBodyJson outputBodyS3Path message"),
)
KEYS = {
    **_LOG,
    **keys("messages system tools toolConfig model response stopReason @message"),
    **_WHO,
    **keys("", metadata=_WHO, request={**_LOG, **_BODY}, message=_LOG),
}


def recognises(row: Mapping[str, Any]) -> bool:
    return _log(row) is not None or _converse(row) is not None


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _calls)


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """Parts of an unknown kind, of the messages of a request and of the reply. InvokeModel has those of Anthropic."""
    log = _log(row)
    if log is None:
        request, reply = _converse(row) or {}, structured(row.get("response")) or {"output": row.get("output")}
    else:
        request, reply = _body(log, "input", "inputBodyJson"), _body(log, "output", "outputBodyJson")
    output = structured(reply.get("output")) if isinstance(reply, Mapping) else None
    sides = {
        "messages": request.get("messages") if isinstance(request, Mapping) else None,
        "output.message": output.get("message") if isinstance(output, Mapping) else None,
        "response": reply if isinstance(reply, Mapping) and "content" in reply else None,
    }
    for name, entries in sides.items():
        yield from (f"{name}.content.{kind}" for kind in unread_parts(entries, "content"))


def _log(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The invocation log: the row itself, or the text of an event in CloudWatch."""
    for place in (row, structured(row.get("message")), structured(row.get("@message"))):
        if isinstance(place, Mapping) and (
            place.get("schemaType") == "ModelInvocationLog" or _body(place, "input", "inputBodyJson") is not None
        ):
            return place
    return None


def _converse(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A request to Converse: the row itself, or its `request`."""
    for place in (row, structured(row.get("request"))):
        messages = structured(place.get("messages")) if isinstance(place, Mapping) else None
        if isinstance(messages, list) and any(map(is_bedrock, messages)):
            return place
    return None


def _body(log: Mapping[str, Any], side: str, name: str) -> Any:
    place = structured(log.get(side))
    return structured(place.get(name)) if isinstance(place, Mapping) else None


def _calls(row: LogRow) -> Iterator[Outcome]:
    log = _log(row.value)
    if log is None:
        request = _converse(row.value)
        if request is None:
            raise Unusable(Reason.NO_MESSAGES, "no messages with parts")
        reply = structured(row.value.get("response")) or {"output": row.value.get("output")}
        yield _draft(row, {**row.value, **request}, request, reply)
        return
    if isinstance(kind := log.get("operation"), str) and kind and kind not in _CHATS:
        yield Reject(row.at, Reason.NOT_A_CHAT, f"an operation {kind[:40]}")
        return
    request, reply = _body(log, "input", "inputBodyJson"), _body(log, "output", "outputBodyJson")
    if request is None:
        in_s3 = any(_body(log, side, f"{side}BodyS3Path") for side in ("input", "output"))
        raise Unusable(Reason.NO_MESSAGES, _IN_S3 if in_s3 else _NO_TEXTS)
    if not isinstance(request, Mapping):
        raise Unusable(Reason.NO_MESSAGES, f"the request is {json_kind(request)}")
    if _is_no_chat(request):
        yield Reject(row.at, Reason.NOT_A_CHAT, "a call that makes an embedding or an image")
        return
    yield _draft(row, log, request, reply)


def _is_no_chat(request: Mapping[str, Any]) -> bool:
    made = ("taskType", "text_prompts", "embeddingTypes", "dimensions", "input_type", "inputImage", "mode")
    return "messages" not in request and any(name in request for name in made)


def _draft(row: LogRow, log: Mapping[str, Any], request: Mapping[str, Any], reply: Any) -> Outcome:
    started, name = log.get("timestamp"), name_of(log.get("requestId"))
    about = [structured(place.get("requestMetadata")) for place in (log, request)]
    places = (*about, structured(request.get("metadata")), structured(log.get("metadata")), log)
    return call_draft(
        row.at,
        _request(request),
        _reply(reply),
        Call(
            first_name(*places, names=SESSIONS),
            (f"request {name}",) if name else (),
            seconds_of(started) or 0.0,
        ),
        user=first_name(*places, names=USERS),
        model=first_name(log, request, names=("modelId", "model")),
        started_at=iso(started),
        endings=(reply, {"stopReason": log.get("stopReason")}),
        tags=consents_in(log, request, *about),
    )


def _request(body: Mapping[str, Any]) -> Any:
    """What `plain_messages` reads; Cohere and Titan have names of their own."""
    history = structured(body.get("chat_history"))
    if isinstance(history, list) and "message" in body:
        turns = [entry for entry in history if isinstance(entry, Mapping)]
        before = [{"role": _cohere_role(entry.get("role")), "content": entry.get("message")} for entry in turns]
        system = [{"role": "system", "content": body["preamble"]}] if isinstance(body.get("preamble"), str) else []
        return [*system, *before, {"role": "user", "content": body["message"]}]
    return body.get("inputText", body)


def _cohere_role(role: Any) -> Any:
    known = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system"}
    return known.get(role, role) if isinstance(role, str) else role


def _reply(body: Any) -> Any:
    """What `plain_messages` reads, out of the reply of any provider; a stream is joined."""
    if isinstance(body, list):
        return joined_stream(body)
    if not isinstance(body, Mapping):
        return body
    for name in ("results", "outputs", "generations", "completions"):
        listed = structured(body.get(name))
        if isinstance(listed, list) and listed and isinstance(first := listed[0], Mapping):
            first = structured(first.get("data", first))
            return first_name(first, names=("outputText", "text"))
    return body.get("generation") if "generation" in body else body
