"""A reply that a log keeps as the events of its stream, joined to the response that the same call gives unstreamed.

Events come as a list, as the text of server-sent events (`data: {...}`), as lines of JSON, or in `streamed_data`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from drift.logs.draft import has, has_any, structured
from drift.logs.files.rows import Unusable
from drift.logs.traces.endings import ended_early
from drift.records import Reason

_DELTAS = ("delta", "message", "text", "generation", "outputText", "completion", "response")
_LINE = re.compile(r"[ \t]*(?:(data|event|id|retry):(.*)|:.*)?")
_NEW_LINE = re.compile(r"\r\n|\r|\n")
_ANTHROPIC = (
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping",
)  # fmt: skip
_BEDROCK = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop")
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_CALLS = ("function_call", "custom_tool_call")
_ADDED_TO = {
    "response.output_text.delta": "content", "response.refusal.delta": "content",
    "response.function_call_arguments.delta": "arguments", "response.custom_tool_call_input.delta": "input",
}  # fmt: skip
"""Which field of an item of OpenAI's Responses API an event goes on with."""
_LOST_END = {"error": "the text ends within an event"}


def unstreamed(value: Any) -> Any:
    """The response that these events give, if the value is events of a stream of a known API; else the value.

    A response of OpenAI, Anthropic or Gemini is in the shape of its API; of others, it is a message.
    """
    parsed = structured(value.decode(errors="replace") if isinstance(value, bytes) else value)
    events = _events_in(parsed)
    is_stream = bool(events) and (isinstance(parsed, Mapping) or any(map(_is_event, events)))
    return joined_stream(events) or {} if events and is_stream else value


def whole_reply(value: Any) -> Any:
    """A reply, unstreamed. Raises Unusable for the text of a stream of an unknown API: that is no text of the model."""
    reply = unstreamed(value)
    if not isinstance(reply, str) or not (events := _sent_events(reply)):
        return reply
    if (message := joined_stream(events)) is None and not any(has(event, "error") for event in events):
        raise Unusable(Reason.BAD_CONTENT, "the reply is a stream of server-sent events of an unknown API")
    return message


def joined_stream(events: Iterable[Any]) -> dict[str, Any] | None:
    """One response out of the events of a stream, of the APIs of OpenAI, Anthropic, Google, Bedrock or one that only
    streams text; None if the events hold nothing."""
    known = [event for event in map(_event, events) if isinstance(event, Mapping)]
    kinds = {event["type"] for event in known if isinstance(event.get("type"), str)}
    if "message_start" in kinds:
        return _anthropic(known)
    if any(kind.startswith("response.") for kind in kinds):
        return _response(known)
    if any(isinstance(structured(event.get("candidates")), list) for event in known):
        return _gemini(known)
    message = _message(known)
    opened = next((event for event in known if event.get("choices")), None)
    if message is None or opened is None:
        return message
    about = {name: opened[name] for name in ("id", "created", "model", "system_fingerprint") if has(opened, name)}
    return {**about, "object": "chat.completion", "choices": [{"index": 0, "message": message}]}


def _events_in(value: Any) -> list[Mapping[str, Any]] | None:
    """The events of a stream in any form; None if the value is none."""
    if isinstance(value, Mapping):
        return _events_in(structured(value["streamed_data"])) if value.get("streamed_data") else None
    if isinstance(value, str):
        return _sent_events(value) or _lines_of_json(value)
    events = list(map(_event, value)) if isinstance(value, list) else []
    return events if all(isinstance(event, Mapping) for event in events) else None


def _event(value: Any) -> Any:
    """An event of a list, which may be JSON text or a line as it was sent."""
    return structured(value[5:].strip()) if isinstance(value, str) and value.startswith("data:") else structured(value)


def _sent_events(text: str) -> list[Mapping[str, Any]]:
    """The events in a text of server-sent events; [] if it is another text, also one with such lines in it."""
    if not text.lstrip().startswith(("data:", "event:", "id:", "retry:", ":")):
        return []
    lines = [_LINE.fullmatch(line.rstrip()) for line in _NEW_LINE.split(text)]
    if sum(bool(line and line[1]) for line in lines) < 2 or not all(lines[:-1]):
        return []
    events: list[Mapping[str, Any]] = []
    begun = ""  # an event of several lines
    for line in lines:
        if line is None or line[1] != "data" or line[2].strip() == "[DONE]":
            continue
        event = structured((begun + line[2]).strip())
        begun = "" if isinstance(event, Mapping) else begun + line[2]
        events += [event] if isinstance(event, Mapping) else []
    return [*events, _LOST_END] if events and (begun or lines[-1] is None) else events


def _lines_of_json(text: str) -> list[Mapping[str, Any]] | None:
    if not text.startswith("{") or "\n" not in text:
        return None
    try:
        events = [orjson.loads(line) for line in text.splitlines() if line.strip()]
    except orjson.JSONDecodeError:
        return None
    return events if all(isinstance(event, dict) for event in events) else None


def _is_event(event: Mapping[str, Any]) -> bool:
    """Whether an API sends this in a stream, and in no other place."""
    kind, name = event.get("type"), event.get("object")
    if isinstance(kind, str):
        return kind.startswith("response.") or (
            kind in _ANTHROPIC and has_any(event, ("message", "delta", "content_block"))
        )
    choices = structured(event.get("choices"))
    first = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(first, Mapping) and (has(first, "delta") or (name == "text_completion" and "text" in first)):
        return True
    is_ollama = isinstance(event.get("done"), bool) and (
        isinstance(event.get("message"), Mapping) or isinstance(event.get("response"), str)
    )
    candidates = structured(event.get("candidates"))
    is_gemini = isinstance(candidates, list) and any(isinstance(one, Mapping) for one in candidates)
    is_bedrock = any(isinstance(event.get(outer), Mapping) for outer in _BEDROCK)
    return is_ollama or is_gemini or is_bedrock or (isinstance(name, str) and name.endswith(".chunk"))


def _has_failed(events: Iterable[Mapping[str, Any]]) -> bool:
    return any(has(event, "error") or event.get("type") == "error" for event in events)


def _anthropic(events: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The message out of blocks that start, and the deltas that go on with them."""
    message: dict[str, Any] = {"type": "message", "role": "assistant"}
    blocks: dict[Any, dict[str, Any]] = {}
    for event in events:
        inner = event.get("message")
        if event.get("type") == "message_start" and isinstance(inner, Mapping):
            message |= inner
        index, block, delta = (event.get(key) for key in ("index", "content_block", "delta"))
        if event.get("type") == "message_delta" and isinstance(delta, Mapping):
            message |= {"stop_reason": delta.get("stop_reason")}
        if isinstance(index, int) and isinstance(block, Mapping):
            blocks[index] = dict(block)
        elif isinstance(index, int) and isinstance(delta, Mapping) and index in blocks:
            _add_to_block(blocks[index], delta)
    for block in blocks.values():
        if "partial_json" in block:
            block["input"] = block.pop("partial_json") or {}
    ending = {"stop_reason": "error"} if _has_failed(events) else {}
    return {**message, **ending, "content": [blocks[index] for index in sorted(blocks)]}


def _add_to_block(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key in ("text", "thinking", "partial_json"):
        if isinstance(delta.get(key), str):
            before = block.get(key)
            block[key] = (before if isinstance(before, str) else "") + delta[key]
    if isinstance(delta.get("citation"), Mapping):
        cited = block.get("citations")
        block["citations"] = [*(cited if isinstance(cited, list) else ()), delta["citation"]]


def _response(events: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The response of OpenAI's Responses API, which its last event holds; of a stream that broke off, what came."""
    held = [event for event in events if isinstance(event.get("response"), Mapping)]
    last = next((event["response"] for event in reversed(held) if event.get("type") in _ENDS), None)
    response = dict(last or (held[0]["response"] if held else {}))
    items: dict[int, Any] = {}
    begun: dict[int, dict[str, Any]] = {}
    for event in events:
        place, delta, item = (event.get(name) for name in ("output_index", "delta", "item"))
        place = place if isinstance(place, int) else 0
        kind = event.get("type")
        if kind == "response.output_item.done" and isinstance(item, Mapping):
            items[place] = item
        elif kind == "response.output_item.added" and isinstance(item, Mapping) and item.get("type") in _CALLS:
            begun[place] = dict(item)
        elif isinstance(kind, str) and kind in _ADDED_TO and isinstance(delta, str):
            whole = begun.setdefault(place, {"type": "message", "role": "assistant"})
            whole[_ADDED_TO[kind]] = (whole.get(_ADDED_TO[kind]) or "") + delta
    items = begun | items
    output = response.get("output") or [items[place] for place in sorted(items)]
    ending = {"status": "failed"} if last is None and _has_failed(events) else {}
    return {**response, "object": "response", "output": output, **ending}


def _gemini(events: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The response with the parts of all chunks, of the first candidate."""
    parts: list[Any] = []
    whole: dict[str, Any] = {}
    for event in events:
        whole |= {name: value for name, value in event.items() if value is not None}
        candidates = structured(event.get("candidates"))
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        content = structured(first.get("content")) if isinstance(first, Mapping) else None
        listed = content.get("parts") if isinstance(content, Mapping) else None
        parts += listed if isinstance(listed, list) else []
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}}
    if any(map(ended_early, events)) or _has_failed(events):
        candidate["finishReason"] = "MAX_TOKENS"
    return {**whole, "candidates": [candidate]}


def _message(events: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A message in OpenAI's shape out of what the events add; None if they add nothing."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: dict[Any, dict[str, Any]] = {}
    for event in events:
        for place, delta in _deltas(event):
            _take(place, delta, texts, thoughts, calls)
    if not (texts or thoughts or calls):
        return None
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if any(map(ended_early, events)) or _has_failed(events):
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
        read = [choice for choice in choices if isinstance(choice, Mapping) and choice.get("index") in (None, 0)]
        for choice in read[:1]:
            yield 0, next((choice[name] for name in _DELTAS if choice.get(name) is not None), None)
    elif isinstance(outputs := structured(event.get("outputs")), list):
        yield 0, outputs[0] if outputs else None
    elif isinstance(event.get("message"), Mapping) and isinstance(event.get("done"), bool):  # Ollama
        yield 0, event["message"]
    elif event.get("type") in (None, "completion"):
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
