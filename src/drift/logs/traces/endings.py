"""Whether a reply ended by itself, out of the shapes in which APIs and tracing tools keep a response.

A reply that reached the limit of tokens, or that somebody or a filter stopped, has no end that a model could learn. The
reason stands on the message, on its choice, on the response around it, or in the last event of a stream.

And how a reply began: of some models the request holds the first words of the reply (a prefill).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from drift.logs.draft import has, has_any, is_cut, structured, truth_of
from drift.records import Message

_CHOICES = ("choices", "generations", "candidates", "results", "completions")
_INSIDE = (
    "message", "output", "outputs", "response", "body", "kwargs", "data", "response_metadata", "generation_info",
    "delta", "messageStop", "streamed_data", "attributes",
)  # fmt: skip
_GEMINI_REASONS = (2, 3, 4, 6, 7, 8, 9)  # limit, filters, broken calls: in place of a name; 0, 1, 5: none, end, other
_INCOMPLETE = ("incomplete", "cancelled", "failed")
_MAX_DEPTH = 8


def ended_early(response: Any, depth: int = 0) -> bool:
    """Whether a response says that its reply (of several choices, the first) did not end by itself."""
    response = structured(response)
    if depth > _MAX_DEPTH:
        return False
    if isinstance(response, list):
        read = response[:1] if response and _is_choice(response[0]) else response  # the others: events, or items
        return any(ended_early(entry, depth + 1) for entry in read)
    if not isinstance(response, Mapping):
        return False
    if is_cut(response) or _is_incomplete(response):
        return True
    for name in _CHOICES:
        choices = structured(response.get(name))
        if isinstance(choices, list) and choices:
            first = structured(choices[0])
            if name == "candidates" and _is_gemini_number(first):
                return True
            return ended_early(first, depth + 1)
        if isinstance(choices, Mapping) and ended_early(choices, depth + 1):
            return True
    return any(ended_early(response[name], depth + 1) for name in _INSIDE if response.get(name))


def _is_choice(entry: Any) -> bool:
    """Whether a list that begins so holds several answers, of which the first is read."""
    if isinstance(entry, list):
        return True
    return isinstance(entry, Mapping) and not has(entry, "type") and has_any(entry, ("message", "generation_info"))


def _is_incomplete(response: Mapping[str, Any]) -> bool:
    """Whether this is a response, or a message in it, of OpenAI's Responses API that is not complete."""
    is_of_api = response.get("object") == "response" or response.get("type") == "message"
    return is_of_api and response.get("status") in _INCOMPLETE


def _is_gemini_number(candidate: Any) -> bool:
    names = ("finishReason", "finish_reason")
    return isinstance(candidate, Mapping) and any(candidate.get(name) in _GEMINI_REASONS for name in names)


def asks_to_go_on(last: Any, *settings: Any) -> bool:
    """Whether a request asks the model to go on from its last message: in its settings (vLLM, SGLang) or on the
    message (`prefix` of DeepSeek, Mistral and LiteLLM, `partial` of Kimi and Qwen)."""
    places = [place for place in map(structured, settings) if isinstance(place, Mapping)]
    if any(truth_of(place.get("continue_final_message")) for place in places):
        return True
    return isinstance(last, Mapping) and any(truth_of(last.get(name)) for name in ("prefix", "partial"))


def goes_on(reply: Any) -> bool:
    """Whether this is a reply of Anthropic or Bedrock, whose models go on from a request that ends with a part of the
    reply. Others answer with a message of its own."""
    reply = structured(reply)
    if not isinstance(reply, Mapping):
        return False
    output = structured(reply.get("output"))
    is_converse = isinstance(output, Mapping) and isinstance(output.get("message"), Mapping)
    return is_converse or (reply.get("type") == "message" and isinstance(reply.get("content"), list))


def with_prefill(history: Sequence[Message], said: Sequence[Message]) -> list[Message]:
    """The messages of a call, in which the beginning of the reply that the request holds is one text with the rest."""
    if not history or not said or history[-1].role != "assistant" or said[0].role != "assistant":
        return [*history, *said]
    begun, rest = history[-1], said[0]
    if begun.tool_calls or not begun.content:
        return [*history, *said]
    joined = begun.content + rest.content
    content = rest.content if _holds(rest.content, begun.content, joined) else joined
    whole = replace(rest, content=content, reasoning=begun.reasoning or rest.reasoning)
    return [*history[:-1], whole, *said[1:]]


def _is_json(text: str) -> bool:
    return not isinstance(structured(text), str)


def _holds(reply: str, begun: str, joined: str) -> bool:
    """Whether a log has put the beginning back into the reply. Of a single character, such as a bracket, that shows
    only where the reply is JSON without it."""
    if not reply.startswith(begun):
        return False
    return len(begun) > 1 or (_is_json(reply) and not _is_json(joined))
