"""Telemetry of Vercel's AI SDK: the texts of a model call, and of the run around its calls, in a span's attributes."""

from collections.abc import Mapping
from typing import Any

from drift.logs.draft import structured

PREFIXES = ("ai.operationId", "ai.prompt", "ai.response.")
"""How attributes of its spans begin, whose other attributes are those of OpenTelemetry."""
METADATA = "ai.telemetry.metadata."


def call_texts(attributes: Mapping[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """The request and the reply of one call of a model (`ai.generateText.doGenerate`, `ai.streamText.doStream`)."""
    request = structured(attributes.get("ai.prompt.messages"))
    return (request, _reply(attributes)) if isinstance(request, list) and request else (None, None)


def is_call(attributes: Mapping[str, Any]) -> bool:
    """True for the span of a call, also if the application does not record its texts."""
    return str(attributes.get("ai.operationId")).endswith((".doGenerate", ".doStream"))


def run_texts(attributes: Mapping[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """The request and the last reply of a run (`ai.generateText`, ...), which repeats those of its calls."""
    prompt = structured(attributes.get("ai.prompt"))
    if not isinstance(prompt, Mapping):
        return None, None
    said = structured(prompt.get("prompt", prompt.get("messages")))
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return {"system": prompt.get("system"), "messages": messages}, _reply(attributes)


def schemas(attributes: Mapping[str, Any]) -> list[Any]:
    """The schemas of the tools: a list, whose elements may be JSON text."""
    listed = structured(attributes.get("ai.prompt.tools"))
    return [structured(tool) for tool in listed] if isinstance(listed, list) else []


def _reply(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Earlier versions wrote `ai.result.*`."""
    sides = [{name: attributes.get(f"ai.{side}.{name}") for name in _FIELDS} for side in ("response", "result")]
    found = {name: next((side[name] for side in sides if side[name] not in (None, "")), None) for name in _FIELDS}
    text = found["text"] if found["text"] is not None else found["object"]
    calls = structured(found["toolCalls"])
    reply = {
        "content": text,
        "tool_calls": calls if isinstance(calls, list) else None,
        "reasoning_content": found["reasoning"],
    }
    reply = {name: value for name, value in reply.items() if value}
    return {"role": "assistant", "content": None, **reply} if reply else None


_FIELDS = ("text", "object", "toolCalls", "reasoning")
