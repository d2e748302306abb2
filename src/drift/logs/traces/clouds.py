"""Messages of Google's Gemini (`contents` with `parts`) and of Amazon's Bedrock (Converse), in OpenAI's shape.

Both write parts without a `type`: the only key of a part says what it is. Gemini's are in camel case (REST) or snake
case (Python). Text is kept as parts, so that an image leaves its mark between them; thoughts and tool calls move into
the fields that OpenAI's messages have for them; an answer of a tool becomes a message of its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drift.logs.draft import has, has_any, structured, tool_text, truth_of
from drift.logs.parts import json_text, unknown_types

_GEMINI = (
    "text", "functionCall", "function_call", "functionResponse", "function_response", "inlineData", "inline_data",
    "fileData", "file_data", "executableCode", "executable_code", "codeExecutionResult", "code_execution_result",
)  # fmt: skip
_BEDROCK = (
    "text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "audio", "guardContent",
    "citationsContent", "searchResult", "cachePoint",
)  # fmt: skip
_GEMINI_ROLES = {"model": "assistant", "user": "user", "function": "tool", "tool": "tool", "system": "system"}
_UNSEEN = re.compile(r"thought.*|.*[cC]all|.*[rR]esponse|.*[rR]esult|video_?[mM]etadata")
"""Parts that no user sees: signatures of thoughts, calls of a provider's own tools and their results."""
_CODE = "code_execution"  # the name of Gemini's own tool


def is_gemini(entry: Any) -> bool:
    """True for one message (or system instruction) of Gemini: `{role, parts: [{text}]}`."""
    parts = structured(entry.get("parts")) if isinstance(entry, Mapping) else None
    return isinstance(parts, list) and _untyped(parts, _GEMINI)


def is_bedrock(entry: Any) -> bool:
    """True for one message of Bedrock's Converse: `{role, content: [{text}]}`."""
    parts = structured(entry.get("content")) if isinstance(entry, Mapping) else None
    return isinstance(parts, list) and _untyped(parts, _BEDROCK)


def _untyped(parts: Sequence[Any], names: tuple[str, ...]) -> bool:
    first = next((part for part in parts if isinstance(part, Mapping)), None)
    return first is not None and first.get("type") is None and has_any(first, names)


def gemini_messages(contents: Any, role: str = "user") -> list[dict[str, Any]]:
    """The messages of `contents`: a list of messages, one message, or what the SDK takes for one (text, parts)."""
    contents = structured(contents)
    if isinstance(contents, list):
        if contents and not any(isinstance(entry, Mapping) and entry.get("parts") is not None for entry in contents):
            return _gemini_message({"parts": contents}, role)
        return [message for entry in contents for message in _gemini_message(entry, role)]
    return _gemini_message(contents, role)


def _gemini_message(entry: Any, role: str) -> list[dict[str, Any]]:
    if isinstance(entry, str):
        return [{"role": role, "content": entry}] if entry else []
    if not isinstance(entry, Mapping):
        return []
    given = entry.get("role")
    role = _GEMINI_ROLES.get(given, given) if isinstance(given, str) and given else role
    parts = structured(entry["parts"]) if entry.get("parts") is not None else [entry]
    parts = parts if isinstance(parts, list) else [parts]
    return _split(role, (_gemini_part(part) for part in parts), parts)


def _gemini_part(part: Any) -> "_Part":
    if isinstance(part, str):
        return "text", part
    if not isinstance(part, Mapping):
        return "unknown", None
    if isinstance(text := part.get("text"), str):
        return ("thought" if truth_of(part.get("thought")) else "text"), text
    call = _either(part, "functionCall", "function_call")
    if isinstance(call, Mapping):
        return "call", (call.get("id"), call.get("name"), call.get("args"))
    answer = _either(part, "functionResponse", "function_response")
    if isinstance(answer, Mapping):
        return "answer", (answer.get("id"), answer.get("name"), answer.get("response"))
    code = _either(part, "executableCode", "executable_code")
    if isinstance(code, Mapping):
        return "call", (None, _CODE, {name: code[name] for name in ("language", "code") if name in code})
    result = _either(part, "codeExecutionResult", "code_execution_result")
    if isinstance(result, Mapping):
        return "answer", (None, _CODE, result.get("output") or result.get("outcome") or "")
    data = _either(part, "inlineData", "inline_data", "fileData", "file_data")
    if isinstance(data, Mapping):
        return "media", _media_kind(_either(data, "mimeType", "mime_type"))
    return "unknown", None


def _media_kind(mime: Any) -> str:
    kind = mime.partition("/")[0] if isinstance(mime, str) else ""
    return kind if kind in ("image", "audio", "video") else "file"


def bedrock_messages(entries: Any) -> list[dict[str, Any]]:
    """The messages of a Converse request, or of its `output.message`."""
    messages: list[dict[str, Any]] = []
    entries = structured(entries)
    for entry in entries if isinstance(entries, list) else [entries]:
        parts = structured(entry.get("content")) if isinstance(entry, Mapping) else None
        if isinstance(entry, Mapping) and isinstance(parts, list):
            messages += _split(entry.get("role"), (_bedrock_part(part) for part in parts), parts)
        else:
            messages.append(entry if isinstance(entry, dict) else {"role": "user", "content": entry})
    return messages


def _bedrock_part(part: Any) -> "_Part":
    if not isinstance(part, Mapping):
        return "unknown", None
    if isinstance(part.get("text"), str):
        return "text", part["text"]
    if isinstance(call := part.get("toolUse"), Mapping):
        return "call", (call.get("toolUseId"), call.get("name"), call.get("input"))
    if isinstance(answer := part.get("toolResult"), Mapping):
        return "answer", (answer.get("toolUseId"), None, _bedrock_result(answer.get("content")))
    if isinstance(thought := part.get("reasoningContent"), Mapping):
        inner = thought.get("reasoningText")
        text = inner.get("text") if isinstance(inner, Mapping) else inner
        return ("thought", text) if isinstance(text, str) else ("nothing", None)
    if isinstance(guarded := part.get("guardContent"), Mapping):
        inner = guarded.get("text")
        text = inner.get("text") if isinstance(inner, Mapping) else None
        return ("text", text) if isinstance(text, str) else ("media", "image")
    if isinstance(cited := part.get("citationsContent"), Mapping):
        inner = cited.get("content")
        texts = [entry.get("text") for entry in inner if isinstance(entry, Mapping)] if isinstance(inner, list) else []
        return "text", "".join(text for text in texts if isinstance(text, str))
    if has(part, "cachePoint"):
        return "nothing", None
    kind = next((name for name in ("image", "video", "audio", "document", "searchResult") if has(part, name)), None)
    if kind is None:
        return "unknown", None
    return "media", "file" if kind in ("document", "searchResult") else kind


def _bedrock_result(content: Any) -> Any:
    """The answer of a tool: its texts, or the JSON that it returned."""
    if not isinstance(content, list):
        return content
    parts = [part for part in content if isinstance(part, Mapping)]
    texts = [part["text"] if isinstance(part.get("text"), str) else part.get("json", part) for part in parts]
    return texts[0] if len(texts) == 1 else "\n".join(tool_text(text) for text in texts)


_Part = tuple[str, Any]
"""What a part is, with what it holds: text and thought (a text), call and answer (id, name, arguments or result),
media (its kind), nothing (to be left out), unknown."""


def unread_parts(entries: Any, name: str) -> Iterator[str]:
    """What the parts are called of which no text, call or mark of media is made. `name`: that of an entry's list of
    parts, `parts` (Gemini) or `content` (Bedrock; Anthropic, whose parts have a type)."""
    entries = structured(entries)
    for entry in entries if isinstance(entries, list) else [entries]:
        listed = structured(entry.get(name)) if isinstance(entry, Mapping) else None
        parts = listed if isinstance(listed, list) else []
        if name == "parts":
            parts = [part for part in parts if _gemini_part(part)[0] == "unknown"]
        elif is_bedrock(entry):
            parts = [part for part in parts if _bedrock_part(part)[0] == "unknown"]
        yield from unknown_types(parts)


def _split(role: Any, read: Iterator[_Part], parts: Sequence[Any]) -> list[dict[str, Any]]:
    """The messages of one entry: the answers of tools in it are messages of their own, in the order of the parts."""
    kinds = list(read)
    if any(kind == "unknown" for kind, _ in kinds) and all(kind in ("unknown", "nothing") for kind, _ in kinds):
        return [{"role": role, "content": list(parts)}]  # refused by name when it is read
    messages: list[dict[str, Any]] = []
    open_message: dict[str, Any] | None = None
    for (kind, value), part in zip(kinds, parts, strict=True):
        if kind == "answer":
            name, tool, result = value
            answer = {"role": "tool", "content": tool_text("" if result is None else result)}
            messages.append({**answer, **_set(tool_call_id=name, name=tool)})
            open_message = None
            continue
        if kind == "unknown" and _is_seen(part):
            kind, value = "media", "file"
        elif kind in ("unknown", "nothing"):
            continue
        if open_message is None:
            open_message = {"role": role, "content": []}
            messages.append(open_message)
        _add(open_message, kind, value)
    for message in messages:
        if message["content"] == []:
            message["content"] = None if "tool_calls" in message or "reasoning_content" in message else ""
    return messages or [{"role": role, "content": ""}]


def _is_seen(part: Any) -> bool:
    """Whether a part of an unknown kind holds something that the user may have seen."""
    return any(not _UNSEEN.fullmatch(kind) for kind in unknown_types([part]))


def _add(message: dict[str, Any], kind: str, value: Any) -> None:
    """Add a part to a message. Texts that follow each other are one text, as the SDKs join them."""
    if kind == "thought":
        message["reasoning_content"] = "\n".join(filter(None, (message.get("reasoning_content"), value)))
    elif kind == "call":
        name, tool, arguments = value
        written = arguments if isinstance(arguments, str) else json_text(arguments or {})
        call = {**_set(id=name), "type": "function", "function": {"name": tool, "arguments": written}}
        message.setdefault("tool_calls", []).append(call)
    elif kind == "media":
        message["content"].append({"type": value})
    elif message["content"] and message["content"][-1]["type"] == "text":
        message["content"][-1]["text"] += value
    else:
        message["content"].append({"type": "text", "text": value})


def _set(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if isinstance(value, str) and value}


def gemini_request(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All messages of a request to Gemini, with its system instruction."""
    config = structured(_either(body, "config", "generationConfig"))
    places = (body, config) if isinstance(config, Mapping) else (body,)
    system = next((value for p in places if (value := _either(p, "systemInstruction", "system_instruction"))), None)
    return [
        *({**message, "role": "system"} for message in gemini_messages(system, "system")),
        *gemini_messages(body.get("contents")),
    ]


def gemini_reply(body: Any) -> list[dict[str, Any]]:
    """The first candidate of a response, or of all chunks of a streamed one; [] if there is none."""
    body = structured(body)
    parts: list[Any] = []
    for chunk in body if isinstance(body, list) else [body]:
        chunk = structured(chunk)
        candidates = structured(chunk.get("candidates")) if isinstance(chunk, Mapping) else None
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        content = structured(first.get("content")) if isinstance(first, Mapping) else None
        listed = content.get("parts") if isinstance(content, Mapping) else None
        parts += listed if isinstance(listed, list) else []
    return _gemini_message({"role": "model", "parts": parts}, "assistant") if parts else []


def schemas(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools of a request to Gemini or Converse, in OpenAI's shape."""
    config = structured(_either(body, "toolConfig", "config"))
    listed = structured(_either(body, "tools") or (config.get("tools") if isinstance(config, Mapping) else None))
    found: list[dict[str, Any]] = []
    for tool in listed if isinstance(listed, list) else ():
        if not isinstance(tool, Mapping):
            continue
        declared = _either(tool, "functionDeclarations", "function_declarations")
        if isinstance(declared, list):
            found += [_schema(entry, entry.get("parameters")) for entry in declared if isinstance(entry, Mapping)]
        elif isinstance(spec := tool.get("toolSpec"), Mapping):
            inner = spec.get("inputSchema")
            found.append(_schema(spec, inner.get("json") if isinstance(inner, Mapping) else None))
    return found


def _schema(spec: Mapping[str, Any], parameters: Any) -> dict[str, Any]:
    function = {name: spec[name] for name in ("name", "description") if name in spec}
    return {"type": "function", "function": {**function, "parameters": parameters or {}}}


def _either(place: Mapping[str, Any], *names: str) -> Any:
    return next((place[name] for name in names if place.get(name) is not None), None)
