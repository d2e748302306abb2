"""Messages that a span keeps in many attributes, one for each field of each message.

OpenLLMetry writes `gen_ai.prompt.0.content` and `gen_ai.completion.0.tool_calls.0.name`; OpenInference writes
`llm.input_messages.0.message.content` and `...message.tool_calls.0.tool_call.function.name`.
"""

import re
from collections.abc import Mapping
from typing import Any

from drift.logs.draft import structured

_FIELD = re.compile(
    r"(?:llm\.(?P<new>input|output)_messages|gen_ai\.(?P<old>prompt|completion))\.(?P<number>\d{1,6})"
    r"\.(?:message\.)?(?P<field>.+)"
)
_CALL = re.compile(r"tool_calls\.(\d{1,6})\.(?:tool_call\.)?(?:function\.)?(id|name|arguments)")
_PART = re.compile(r"contents\.(\d{1,6})\.message_content\.(type|text)")
_OLD_CALL = re.compile(r"function_call[._](name|arguments)(?:_json)?")
_TOOL = re.compile(r"llm\.request\.functions\.(\d{1,6})\.(name|description|parameters)")
_TOOL_SCHEMA = re.compile(r"llm\.tools\.(\d{1,6})\.tool\.json_schema")
_FIELDS = ("role", "content", "name", "tool_call_id", "reasoning", "reasoning_content", "finish_reason")


def indexed_messages(attributes: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages of the request and of the reply."""
    sides: dict[bool, dict[int, dict[str, Any]]] = {True: {}, False: {}}
    for name, value in attributes.items():
        if match := _FIELD.fullmatch(name):
            is_request = match["new"] == "input" or match["old"] == "prompt"
            _add(sides[is_request].setdefault(int(match["number"]), {}), match["field"], value)
    return _in_order(sides[True], "user"), _in_order(sides[False], "assistant")


def _add(message: dict[str, Any], field: str, value: Any) -> None:
    if field in _FIELDS:
        message[field] = value
    elif match := _CALL.fullmatch(field):
        number, part = match.groups()
        call = message.setdefault("tool_calls", {}).setdefault(int(number), {"type": "function", "function": {}})
        (call if part == "id" else call["function"])[part] = value
    elif match := _PART.fullmatch(field):
        number, part = match.groups()
        message.setdefault("parts", {}).setdefault(int(number), {"type": "text"})[part] = value
    elif match := _OLD_CALL.fullmatch(field):
        calls = message.setdefault("tool_calls", {})
        calls.setdefault(0, {"type": "function", "function": {}})["function"][match[1]] = value


def _in_order(messages: dict[int, dict[str, Any]], role: str) -> list[dict[str, Any]]:
    ordered = []
    for number in sorted(messages):
        message = {"role": role, **messages[number]}
        parts, calls = message.pop("parts", None), message.get("tool_calls")
        if parts and "content" not in message:
            message["content"] = [parts[place] for place in sorted(parts)]
        if calls:
            message["tool_calls"] = [calls[place] for place in sorted(calls)]
        message["content"] = _parts_in_text(message.get("content"))
        if message["content"] is not None or calls:
            ordered.append(message)
    return ordered


def _parts_in_text(content: Any) -> Any:
    """The parts that OpenLLMetry writes as JSON text; anything else as it is."""
    parts = structured(content)
    if isinstance(parts, list) and parts and all(isinstance(part, Mapping) and "type" in part for part in parts):
        return parts
    return content


def schemas_in(attributes: Mapping[str, Any]) -> list[Any]:
    """The schemas of the tools that a call could use, however the SDK wrote them."""
    old: dict[int, dict[str, Any]] = {}
    new: dict[int, Any] = {}
    for name, value in attributes.items():
        if match := _TOOL.fullmatch(name):
            old.setdefault(int(match[1]), {})[match[2]] = structured(value)
        elif match := _TOOL_SCHEMA.fullmatch(name):
            new[int(match[1])] = structured(value)
    found = [places[number] for places in (old, new) for number in sorted(places)]
    if found:
        return found
    if isinstance(listed := structured(attributes.get("llm.tools")), list):  # of Phoenix's tables
        return [structured(schema) for tool in listed if (schema := _json_schema(tool)) is not None]
    listed = structured(attributes.get("gen_ai.tool.definitions"))
    if isinstance(listed, list):
        return listed
    given = structured(attributes.get("model_request_parameters"))  # of Pydantic AI
    tools = given.get("function_tools") if isinstance(given, Mapping) else None
    return [
        {**tool, "parameters": tool.get("parameters_json_schema")}
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, Mapping)
    ]


def _json_schema(tool: Any) -> Any:
    """The schema in `{tool.json_schema: ...}` or `{tool: {json_schema: ...}}`."""
    inner = tool.get("tool") if isinstance(tool, Mapping) else None
    if isinstance(inner, Mapping):
        return inner.get("json_schema")
    return tool.get("tool.json_schema") if isinstance(tool, Mapping) else None


_PYDANTIC_KINDS = {
    "text": "text", "thinking": "thinking", "image-url": "image", "audio-url": "audio", "video-url": "video",
    "document-url": "document", "binary": "file", "tool-call": "tool_call", "tool-return": "tool_result",
}  # fmt: skip


def messages_in_events(events: list[Any]) -> tuple[list[dict[str, Any]], Any]:
    """The request and the reply out of the events that Pydantic AI writes into one attribute as a list.

    Those of a whole run have no choice: then all are the request, and the reply is None.
    """
    request: list[dict[str, Any]] = []
    reply = None
    for event in events:
        if not isinstance(event, Mapping):
            continue
        name = str(event.get("event.name", event.get("event_name")))
        if name == "gen_ai.choice":
            reply = reply or _with_types(event.get("message", event))
        elif name.startswith("gen_ai."):
            role = name.removeprefix("gen_ai.").removesuffix(".message")
            message = _with_types({"role": role, **event})
            request += [message] if message.get("content") is not None or message.get("tool_calls") else []
    return request, reply


def _with_types(message: Any) -> Any:
    """A message of Pydantic AI, whose parts say with `kind` what they are."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return message
    parts = [
        {"type": _PYDANTIC_KINDS.get(str(part["kind"]), "file"), **part}
        if isinstance(part, Mapping) and "kind" in part
        else {"type": "text", "text": part}
        if isinstance(part, str)
        else part
        for part in content
    ]
    return {**message, "content": parts}
