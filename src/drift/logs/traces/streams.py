"""A reply that a log keeps as the events of its stream, joined to one message in OpenAI's shape."""

from collections.abc import Iterable, Mapping
from typing import Any

from drift.logs.draft import structured
from drift.logs.traces.endings import ended_early

_DELTAS = ("delta", "message", "text", "generation", "outputText", "completion")


def joined_stream(events: Iterable[Any]) -> dict[str, Any] | None:
    """One message out of the events of a stream, of the APIs of OpenAI, Anthropic, Bedrock or one that only streams
    text; None if the events hold nothing."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: dict[Any, dict[str, Any]] = {}
    events = list(map(structured, events))
    for event in events:
        if not isinstance(event, Mapping):
            continue
        for place, delta in _deltas(event):
            _take(place, delta, texts, thoughts, calls)
    if not (texts or thoughts or calls):
        return None
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if ended_early(events):
        message["finish_reason"] = "length"
    if calls:
        message["tool_calls"] = [{**call, "function": {**call["function"]}} for call in calls.values()]
    return message


def _deltas(event: Mapping[str, Any]) -> Iterable[tuple[Any, Any]]:
    """What an event adds, with the place of the block that it belongs to."""
    for outer in ("contentBlockStart", "contentBlockDelta"):  # Converse and Nova
        if isinstance(block := event.get(outer), Mapping):
            yield block.get("contentBlockIndex"), block.get("start", block.get("delta"))
            return
    if event.get("type") == "content_block_start":  # Anthropic
        yield event.get("index"), event.get("content_block")
    elif event.get("type") == "content_block_delta":
        yield event.get("index"), event.get("delta")
    elif isinstance(choices := structured(event.get("choices")), list):
        first = choices[0] if choices and isinstance(choices[0], Mapping) else {}
        yield 0, next((first[name] for name in _DELTAS if first.get(name) is not None), None)
    elif isinstance(outputs := structured(event.get("outputs")), list):
        yield 0, outputs[0] if outputs else None
    elif "type" not in event:
        yield 0, next((event[name] for name in _DELTAS[2:] if isinstance(event.get(name), str)), None)


def _take(place: Any, delta: Any, texts: list[str], thoughts: list[str], calls: dict[Any, dict[str, Any]]) -> None:
    if isinstance(delta, str):
        texts.append(delta)
    if not isinstance(delta, Mapping):
        return
    for name in ("text", "content"):
        if isinstance(text := delta.get(name), str):
            texts.append(text)
    for name in ("thinking", "reasoning_content", "reasoning"):
        if isinstance(text := delta.get(name), str):
            thoughts.append(text)
    if isinstance(inner := delta.get("reasoningContent"), Mapping) and isinstance(inner.get("text"), str):
        thoughts.append(inner["text"])
    use = delta.get("toolUse")
    if isinstance(use, Mapping):
        _add_call(calls, place, use.get("toolUseId"), use.get("name"), use.get("input"))
    elif delta.get("type") == "tool_use":
        _add_call(calls, place, delta.get("id"), delta.get("name"), None)
    elif isinstance(delta.get("partial_json"), str):
        _add_call(calls, place, None, None, delta["partial_json"])
    listed = delta.get("tool_calls")
    for number, call in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(call, Mapping):
            function = call.get("function")
            function = function if isinstance(function, Mapping) else {}
            number = call.get("index", number)
            _add_call(calls, number, call.get("id"), function.get("name"), function.get("arguments"))


def _add_call(calls: dict[Any, dict[str, Any]], place: Any, identity: Any, name: Any, arguments: Any) -> None:
    place = place if isinstance(place, int | str) else 0
    call = calls.setdefault(place, {"type": "function", "function": {"name": None, "arguments": ""}})
    if isinstance(identity, str):
        call["id"] = identity
    if isinstance(name, str):
        call["function"]["name"] = name
    if isinstance(arguments, str):
        call["function"]["arguments"] += arguments
