"""Google's Gemini: requests and tuning rows (`contents`), Vertex AI's request-response logs and batches, AI Studio.

A row is one model call, or a chat that AI Studio saved (`chunkedPrompt`). A request without a response is read too: its
`contents` may end with the model's words.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, consents_in, many_per_row
from drift.logs.draft import Call, seconds_of, structured, truth_of
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.traces.clouds import gemini_messages, gemini_reply, gemini_request, is_gemini, unread_parts
from drift.logs.traces.endings import ended_early
from drift.logs.traces.streams import unstreamed
from drift.logs.traces.texts import SESSIONS, USERS, call_draft, first_name, iso
from drift.logs.unread import keys
from drift.records import Reason

_REQUESTS = ("full_request", "request", "request_payload", "instance")
_RESPONSES = ("full_response", "response", "response_payload", "prediction")
_TIMES = ("logging_time", "processed_time", "timestamp", "created_at", "createTime", "create_time")
_MEDIA = {
    "driveImage": "image", "inlineImage": "image", "driveAudio": "audio", "inlineAudio": "audio",
    "driveVideo": "video", "youtubeVideo": "video", "inlineVideo": "video", "driveDocument": "document",
    "inlineFile": "document",
}  # fmt: skip
_STEPS = ("executableCode", "codeExecutionResult", "functionCall", "functionResponse")

_BODY = "contents systemInstruction system_instruction config tools toolConfig model"
_REPLY = keys("candidates modelVersion model_version responseId response_id")
_CHUNK = keys(f"text role isThought parts createTime finishReason finish_reason {' '.join((*_MEDIA, *_STEPS))}")
_WHO = keys(" ".join((*SESSIONS, *USERS)))
_REQUEST = keys(f"{_BODY} generationConfig", labels=_WHO)
KEYS = {
    **_REQUEST,
    **_REPLY,
    **keys("request_id requestId key id endpoint deployed_model_id model_name messages", runSettings=keys("model")),
    **_WHO,
    **keys(" ".join(_TIMES), chunkedPrompt=keys("", chunks=_CHUNK), metadata=_WHO),
    **dict.fromkeys(_REQUESTS, _REQUEST),
    **dict.fromkeys(_RESPONSES, _REPLY),
}


def recognises(row: Mapping[str, Any]) -> bool:
    return _request(row) is not None


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _calls)


def _calls(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    request = _request(value)
    if request is None:
        raise Unusable(Reason.NO_MESSAGES, "no contents with parts")
    response = next((place for key in _RESPONSES if (place := structured(unstreamed(value.get(key))))), value)
    chunks = [structured(chunk) for chunk in response] if isinstance(response, list) else [response]
    places = (value, request, structured(request.get("labels")), structured(value.get("metadata")))
    started = next((value[key] for key in _TIMES if value.get(key)), None)
    ids = {
        "request": first_name(value, names=("request_id", "requestId", "key", "id")),
        "response": first_name(*chunks, names=("responseId", "response_id")),
    }
    yield call_draft(
        row.at,
        _saved_chat(request) if "chunks" in request else request,
        gemini_reply(response),
        Call(
            first_name(*places, names=SESSIONS),
            tuple(f"{kind} {name}" for kind, name in ids.items() if name),
            seconds_of(started) or 0.0,
        ),
        user=first_name(*places, names=USERS),
        model=_model(value, request, chunks),
        started_at=iso(started),
        tags=consents_in(request, request.get("labels")),
        endings=(response,),
    )


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """Parts of an unknown kind, of the request and of the reply."""
    request = _request(row) or {}
    yield from (f"contents.parts.{kind}" for kind in unread_parts(request.get("contents"), "parts"))
    response = next((place for key in _RESPONSES if (place := structured(unstreamed(row.get(key))))), row)
    for chunk in response if isinstance(response, list) else [response]:
        candidates = structured(chunk.get("candidates")) if isinstance(chunk, Mapping) else None
        for candidate in candidates[:1] if isinstance(candidates, list) else ():
            content = candidate.get("content") if isinstance(candidate, Mapping) else None
            yield from (f"candidates.content.parts.{kind}" for kind in unread_parts(content, "parts"))


def _model(row: Mapping[str, Any], request: Mapping[str, Any], chunks: list[Any]) -> str | None:
    settings = structured(row.get("runSettings"))
    name = first_name(*chunks, names=("modelVersion", "model_version")) or first_name(
        row, request, settings, names=("model", "model_name", "modelVersion")
    )
    endpoint = row.get("endpoint")
    if name is None and isinstance(endpoint, str) and "/models/" in endpoint:
        name = endpoint
    name = name or first_name(row, names=("deployed_model_id",))
    return name and name.rpartition("models/")[2]


def _request(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The request as `{contents, systemInstruction, ...}`, from any of the places where it stands."""
    chat = structured(row.get("chunkedPrompt"))
    if isinstance(chat, Mapping) and isinstance(chunks := structured(chat.get("chunks")), list):
        chunks = [chunk for chunk in chunks if isinstance(chunk, Mapping)]
        return {"systemInstruction": row.get("systemInstruction"), "chunks": chunks}
    for place in (row, *(structured(row.get(name)) for name in _REQUESTS)):
        if isinstance(place, list) and place:
            place = structured(place[0])
        if isinstance(place, Mapping):
            contents = structured(place.get("contents"))
            if any(map(is_gemini, contents if isinstance(contents, list) else [contents])):
                return place
    messages = structured(row.get("messages"))
    if isinstance(messages, list) and any(map(is_gemini, messages)):
        return {**row, "contents": messages}
    return None


def _saved_chat(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a chat that AI Studio saved; each of its chunks says why it ended."""
    messages = gemini_request({"systemInstruction": request["systemInstruction"]})
    messages = [message for message in messages if message["role"] == "system" and message["content"]]
    for chunk in request["chunks"]:
        read = gemini_messages([_chunk(chunk)])
        if read and ended_early(chunk):
            read[-1]["finish_reason"] = "length"
        messages += read
    return messages


def _chunk(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """A chunk of a saved chat as a message: `{text, role, isThought}`, a step of the model, or a file in the user's
    drive."""
    kind = next((kind for name, kind in _MEDIA.items() if name in chunk), None)
    if kind is not None and not chunk.get("text"):
        return {"role": chunk.get("role"), "parts": [{"fileData": {"mimeType": f"{kind}/*"}}]}
    if not isinstance(chunk.get("text"), str) and isinstance(chunk.get("parts"), list):
        return chunk
    if any(name in chunk for name in _STEPS):
        return {"role": chunk.get("role"), "parts": [chunk]}
    return {
        "role": chunk.get("role"),
        "parts": [{"text": chunk.get("text"), "thought": truth_of(chunk.get("isThought"))}],
    }
