"""What stands in one message of a log, in pieces: texts, thoughts, tool calls, answers of tools.

A message's content is a text or a list of parts, as the APIs of OpenAI and Anthropic and OpenTelemetry write them. What
is no text (an image, a file, sound, a part of an unknown type) leaves a mark such as `[image]` at its place.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import orjson

from drift.logs.files.opening import json_value
from drift.logs.files.rows import Unusable, encodable, json_kind
from drift.records import FunctionCall, Reason, ToolCall

MEDIA_MARKS = ("[image]", "[audio]", "[video]", "[file]")
_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_THOUGHTS = ("thinking", "reasoning", "reasoning_content", "thought", "redacted_thinking", "redacted-reasoning")
_CALLS = (
    "tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "tool-call", "function_call", "custom_tool_call",
    "server_tool_call",
)  # fmt: skip
_RESULTS = (
    "tool_call_response", "tool-result", "function_call_output", "custom_tool_call_output", "server_tool_call_response",
)  # fmt: skip
_MEDIA = {
    **dict.fromkeys(
        ("image", "image_url", "input_image", "output_image", "image_file", "image_generation_call"), "[image]"
    ),
    **dict.fromkeys(("audio", "audio_url", "input_audio", "output_audio"), "[audio]"),
    **dict.fromkeys(("video", "video_url", "input_video"), "[video]"),
    **dict.fromkeys(("file", "input_file", "file_url", "document", "blob", "uri"), "[file]"),
}
_PIECES_OF_CALLS = ("input_json_delta", "tool_call_chunk")  # as they arrived; LangChain has them whole in `tool_calls`
_KNOWN = frozenset((*_TEXTS, "refusal", *_THOUGHTS, *_CALLS, *_PIECES_OF_CALLS, *_RESULTS, *_MEDIA))
_SOURCES = re.compile(r"source.*|.*reference|.*citation")
_NO_CONTENT = re.compile(
    r".*_call(?:_chunk|_output)?|.*_result|executable_code|agent_update|step[-_].*|cache_point|cachePoint"
    r"|tool-approval-.*|compaction"
)
"""Types of parts beside the words of a message, as of sources: a reader sees nothing of them, so they leave no mark."""
_SAY_NOTHING = ("type", "id", "index")  # a part that holds nothing else only marks a place (`step-start`)
_CALL_IDS = ("id", "tool_call_id", "call_id", "toolCallId", "tool_use_id")
_ARGUMENTS = ("arguments", "args", "input", "parameters", "server_tool_call")
_ANSWERS = ("content", "response", "result", "output", "server_tool_call_response")
_IDS_OF_ANSWERED_CALL = ("tool_call_id", "tool_use_id", "call_id", "toolCallId", "id")
_OUTPUTS = ("text", "json", "error-text", "error-json", "content")  # of a tool, as the AI SDK sends them to a model
DENIED = "Tool execution denied."  # what it tells the model of a call that the user did not allow
_MAX_DEPTH = 4  # of parts in summaries in parts of thoughts


class Part(NamedTuple):
    """`id`, `name`: of a tool's answer, the call and the tool. `has_media`: the text is a mark, or has one in it.
    `is_cited`: it has sources, where APIs cut a reply within its sentences."""

    kind: Literal["text", "thought", "call", "result"]
    text: str = ""
    call: ToolCall | None = None
    id: str | None = None
    name: str | None = None
    has_media: bool = False
    is_cited: bool = False


def pieces_of(content: Any, what: str) -> list[Part]:
    """The pieces of a message's content, a text or a list of parts. Raises Unusable if nothing in it is known."""
    if isinstance(content, list) and content:
        if not are_known(content):
            raise Unusable(Reason.BAD_CONTENT, f"{what} has no part of a known type")
        return list(_pieces(content))
    text = content.decode(errors="replace") if isinstance(content, bytes) else "" if content == [] else content
    if not isinstance(text, str):
        raise Unusable(Reason.BAD_CONTENT, f"{what} is not a text: {json_kind(content)}")
    return [Part("text", encodable(text))]


def are_known(parts: Iterable[Any]) -> bool:
    """Whether one of these is a part of a known type."""
    return any(isinstance(part, str) or (isinstance(part, Mapping) and _piece(part) is not None) for part in parts)


def unknown_types(parts: Iterable[Any]) -> Iterator[str]:
    """The types of the parts that hold something which nothing reads."""
    unknown = (part for part in parts if isinstance(part, Mapping) and _is_unknown(part))
    return map(_type, unknown)


def _type(part: Mapping[str, Any]) -> str:
    """The type of a part, or of Bedrock's, which have none, the key that says what they are (`cachePoint`)."""
    kind = part.get("type")
    return str(next((name for name in part if part[name] is not None), None) if kind is None else kind)


def _is_unknown(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    if isinstance(kind, str) and (kind in _KNOWN or kind.endswith("tool_result")):
        return False
    return any(part[name] not in (None, "", [], {}) for name in part if name not in _SAY_NOTHING)


def text_of(content: Any, what: str) -> str:
    """The text of a message's content: a string, or the text parts of a list, joined. Raises Unusable."""
    texts = [piece.text for piece in pieces_of(content, what) if piece.kind == "text"]
    if not texts:
        raise Unusable(Reason.BAD_CONTENT, f"{what} has no text")
    return "\n".join(texts)


def running(pieces: Iterable[Part]) -> Iterator[Part]:
    """The pieces of a reply, with texts directly after each other as one. Where a model cites, APIs cut its text into
    blocks within its sentences; other blocks are paragraphs. Parts of what a user sends are texts of their own."""
    for is_text, group in itertools.groupby(pieces, key=lambda piece: piece.kind == "text" and not piece.has_media):
        if is_text:
            yield Part("text", _joined([piece for piece in group if piece.text]))
        else:
            yield from group


def _joined(pieces: list[Part]) -> str:
    texts = [piece.text for piece in pieces[:1]]
    for before, piece in itertools.pairwise(pieces):
        is_cut = before.is_cited or piece.is_cited or before.text[-1].isspace() or piece.text[0].isspace()
        texts += [piece.text] if is_cut else ["\n", piece.text]
    return "".join(texts)


def _pieces(parts: Iterable[Any]) -> Iterator[Part]:
    after_source = False
    for part in parts:
        if isinstance(part, str):
            yield Part("text", encodable(part))
        elif not isinstance(part, Mapping):
            continue
        elif (piece := _piece(part)) is not None:
            yield piece._replace(is_cited=True) if after_source else piece
        elif _SOURCES.fullmatch(_type(part)):
            after_source = True
            continue
        elif _is_unknown(part) and not _NO_CONTENT.fullmatch(_type(part)):
            yield Part("text", _mark("", part), has_media=True)
        after_source = False


def _piece(part: Mapping[str, Any]) -> Part | None:
    kind = part.get("type")
    if not isinstance(kind, str):
        return None
    if kind in _TEXTS or kind == "refusal":
        text = part.get("refusal") if kind == "refusal" else _words_of(part)
        inner = words if isinstance(words := part.get("text"), Mapping) else part
        is_cited = bool(inner.get("citations") or inner.get("annotations"))
        return Part("text", encodable(text), is_cited=is_cited) if isinstance(text, str) else None
    if kind in _THOUGHTS:
        return Part("thought", thought_text(part) or "")
    if kind in _CALLS:
        return Part("call", call=call_of(part))
    if kind in _RESULTS or kind.endswith("tool_result"):
        return answer_of(part)
    if kind in _MEDIA:
        return Part("text", _mark(kind, part), has_media=True)
    return None


def _words_of(part: Mapping[str, Any]) -> Any:
    """The text of a part, which OpenTelemetry calls its content and OpenAI's Assistants put into an object."""
    text = part["text"] if part.get("text") is not None else part.get("content")
    return text.get("value") if isinstance(text, Mapping) else text


def _mark(kind: str, part: Mapping[str, Any]) -> str:
    """The mark of a part. Files say by their type (`image/png`, or OpenTelemetry's `modality`) what they are. A part of
    an unknown type is a file: without it, the message is not complete."""
    for name in ("modality", "mime_type", "mimeType", "mediaType", "media_type"):
        if (
            isinstance(kind_of_file := part.get(name), str)
            and (mark := f"[{kind_of_file.split('/')[0]}]") in MEDIA_MARKS
        ):
            return mark
    return _MEDIA.get(kind, "[file]")


def thought_text(value: Any, depth: int = 0) -> str | None:
    """The text of thoughts: a text, or the texts in parts and summaries. None if there is none."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, str):
        return encodable(value) or None
    if isinstance(value, Mapping):
        names = ("thinking", "text", "reasoning", "reasoning_text", "reasoning_content", "content", "summary")
        return next((text for name in names if (text := thought_text(value.get(name), depth + 1))), None)
    if isinstance(value, list):
        return "\n".join(text for entry in value if (text := thought_text(entry, depth + 1))) or None
    return None


def answer_of(part: Mapping[str, Any]) -> Part:
    """A part that holds the answer of a tool."""
    answer = next((part[name] for name in _ANSWERS if part.get(name) is not None), "")
    text, has_media = _answer_text(_output(answer) if part.get("type") == "tool-result" else answer)
    return Part(
        "result",
        text,
        id=_first(part, _IDS_OF_ANSWERED_CALL),
        name=_first(part, ("name", "toolName")),
        has_media=has_media,
    )


def _output(value: Any) -> Any:
    """A tool's answer without the object in which the AI SDK sends it to a model: `{type: json, value: ...}`."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "execution-denied":
        return value.get("reason") or DENIED
    return value["value"] if kind in _OUTPUTS and "value" in value else value


def is_approval(content: Any) -> bool:
    """Whether the content of a tool's message only says that the user allowed a call, or did not."""
    parts = content if isinstance(content, list) else []
    is_said = (isinstance(part, Mapping) and part.get("type") == "tool-approval-response" for part in parts)
    return bool(parts) and all(is_said)


def answer_pieces(content: Any, what: str) -> list[Part]:
    """The content of a tool's message: an answer need not be text."""
    if isinstance(content, list) and are_known(content):
        return list(_pieces(content))
    return pieces_of(content, what) if isinstance(content, str | bytes) else [Part("text", tool_text(content))]


def tool_text(result: Any) -> str:
    """A tool's result as text: the text itself, that of its parts, or JSON. Raises Unusable if none is possible."""
    return _answer_text(result)[0]


def _answer_text(result: Any) -> tuple[str, bool]:
    """(text, does it hold media?)"""
    pieces = list(_pieces(result)) if isinstance(result, list) and are_known(result) else []
    if pieces := [piece for piece in pieces if piece.kind == "text"]:
        return "\n".join(piece.text for piece in pieces), any(piece.has_media for piece in pieces)
    return ("" if result is None else encodable(result) if isinstance(result, str) else json_text(result)), False


def calls_of(value: Any) -> tuple[ToolCall, ...]:
    """The calls in a message's `tool_calls` or `function_call`, or in the content of a message that is a call."""
    value = _parsed(value)
    if not value:
        return ()
    return tuple(map(call_of, value)) if isinstance(value, list) else (call_of(value),)


def call_of(value: Any) -> ToolCall:
    """One call, as any API writes it. What names no function is kept as a call without a name, which is broken."""
    value = _parsed(value)
    if not isinstance(value, Mapping):
        return ToolCall(FunctionCall("", encodable(value) if isinstance(value, str) else json_text(value)))
    inner = next((value[name] for name in ("function", "custom") if isinstance(value.get(name), Mapping)), value)
    name = _first(inner, ("name", "toolName", "tool_name")) or _first(value, ("name",))
    if name is None:
        return ToolCall(FunctionCall("", json_text(value)), _first(value, _CALL_IDS))
    given = next((inner[key] for key in _ARGUMENTS if inner.get(key) is not None), None)
    return ToolCall(FunctionCall(name, _arguments(given)), _first(value, ("call_id", *_CALL_IDS)))


def _arguments(value: Any) -> str:
    """Arguments as JSON text; a text as it is, because a model may have written broken JSON."""
    if value is None or value == "":
        return "{}"
    return encodable(value) if isinstance(value, str) else json_text(value)


def tools_of(value: Any) -> str | None:
    """The schemas of tools as a JSON list, in OpenAI's shape; None if the value holds no schemas."""
    value = _parsed(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return None
    schemas = [schema for entry in value if (schema := _schema(_parsed(entry))) is not None]
    return json_text(schemas) if schemas else None


def _schema(entry: Any) -> Mapping[str, Any] | None:
    if not isinstance(entry, Mapping):
        return None
    if isinstance(entry.get("function"), Mapping):
        return entry if entry.get("type") is not None else {**entry, "type": "function"}
    if not isinstance(entry.get("name"), str):
        return None
    function = {name: entry[name] for name in ("name", "description", "strict") if entry.get(name) is not None}
    names = ("parameters", "input_schema", "inputSchema")
    parameters = next((entry[key] for key in names if entry.get(key) is not None), None)
    return {"type": "function", "function": function if parameters is None else {**function, "parameters": parameters}}


def json_text(value: Any) -> str:
    """JSON of a value of a log. Raises Unusable if it is nested too deep."""
    try:
        return encodable(orjson.dumps(value, default=json_value, option=orjson.OPT_NON_STR_KEYS).decode())
    except (orjson.JSONEncodeError, TypeError):
        pass
    try:  # orjson stops at a depth of 254
        return encodable(json.dumps(value, default=json_value, ensure_ascii=False, separators=(",", ":")))
    except (ValueError, TypeError, RecursionError) as error:
        raise Unusable(Reason.BAD_CONTENT, f"a value cannot be written as JSON: {str(error)[:80]}") from None


def _parsed(value: Any) -> Any:
    """JSON text of a list or an object, parsed; anything else as it is."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _first(part: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of the names that holds a text or a number, as a text."""
    for name in names:
        value = part.get(name)
        if isinstance(value, str) and value:
            return encodable(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None
