"""Whether a reply ended by itself, out of the shapes in which APIs and tracing tools keep a response.

A reply that reached the limit of tokens, or that somebody or a filter stopped, has no end that a model could learn. The
reason stands on the message, on its choice, on the response around it, or in the last event of a stream.
"""

from collections.abc import Mapping
from typing import Any

from drift.logs.draft import has, has_any, is_cut, structured

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
