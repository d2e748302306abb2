"""What a server honours. Some silently ignore what they do not know: each feature is asked for and looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from drift.endpoint.client import Endpoint
from drift.endpoint.exchange import (
    JSON_MODE,
    ChatRequest,
    DecisionRequest,
    Question,
    Reply,
    Unanswered,
    json_schema_format,
)
from drift.errors import PrerequisiteError
from drift.records import ChatMessage

_COLOURS = ("red", "green", "blue")
_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": list(_COLOURS)}},
    "required": ["colour"],
    "additionalProperties": False,
}
_PLAIN = "Write one short plain sentence about the sea. Write no JSON and no brackets."


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`repeats`: the same seed gave the same text twice at temperature 1. `decisions`: /systemone is there."""

    many: bool
    logprobs: bool
    repeats: bool
    json_schema: bool
    json_mode: bool
    decisions: bool

    def line(self) -> str:
        names = {
            "n": self.many,
            "logprobs": self.logprobs,
            "seed": self.repeats,
            "JSON schema": self.json_schema,
            "JSON mode": self.json_mode,
            "decision endpoint": self.decisions,
        }
        able = [name for name, has in names.items() if has]
        unable = [name for name, has in names.items() if not has]
        return f"honours {', '.join(able) or 'plain chat alone'}" + (f"; not {', '.join(unable)}" if unable else "")


def probe(endpoint: Endpoint) -> Capabilities:
    """Ask for each feature once, in at most nine short requests, which count as spending.

    Raises PrerequisiteError in one line if the server or the model is not there, or answers no chat at all.
    """
    _require_model(endpoint)
    _require_chat(endpoint)
    several = _ask(endpoint, n=2)
    chances = _ask(endpoint, top_logprobs=5)
    first, second = (_ask(endpoint, seed=7, temperature=1.0, max_tokens=24) for _ in range(2))
    schema = _ask(endpoint, response_format=json_schema_format("colour", _SCHEMA), max_tokens=64)
    mode = _ask(endpoint, response_format=JSON_MODE, max_tokens=128)
    return Capabilities(
        many=isinstance(several, Reply) and len(several.choices) == 2,
        logprobs=isinstance(chances, Reply) and any(len(token) > 1 for token in chances.choices[0].tokens),
        repeats=isinstance(first, Reply) and isinstance(second, Reply) and first.text == second.text,
        json_schema=_object_in(schema).get("colour") in _COLOURS,
        json_mode=_begins_object(mode),
        decisions=_decides(endpoint),
    )


def _require_model(endpoint: Endpoint) -> None:
    """Where the server lists its models, ours is among them. (Some lists fail without a network: they say nothing.)"""
    listed = endpoint.look("models")
    if not isinstance(listed, bytes):
        return
    try:
        names = [str(entry["id"]) for entry in orjson.loads(listed)["data"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    if names and endpoint.model not in names:
        told = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        raise PrerequisiteError(f"{endpoint.url}: serves no model {endpoint.model!r}. It serves: {told}.")


def _require_chat(endpoint: Endpoint) -> None:
    """Newer models take `max_completion_tokens`, and no temperature but their own: they say so, and are believed."""
    for _ in range(3):
        told = _ask(endpoint)
        if isinstance(told, Reply):
            return
        if "max_completion_tokens" in told.detail and endpoint.max_tokens_name == "max_tokens":
            endpoint.max_tokens_name = "max_completion_tokens"
        elif "temperature" in told.detail and endpoint.sends_temperature:
            endpoint.sends_temperature = False
        else:
            break
    raise PrerequisiteError(
        f"{endpoint.url}: model {endpoint.model!r} answers no chat request ({told.problem}: {told.detail}). "
        "See the server's log."
    )


def _ask(endpoint: Endpoint, max_tokens: int = 8, **features: Any) -> Reply | Unanswered:
    return endpoint.try_once(ChatRequest((ChatMessage("user", _PLAIN),), max_tokens=max_tokens, **features))


def _decides(endpoint: Endpoint) -> bool:
    question = Question("Is the sky blue?", {"yes": "It is.", "no": "It is not."})
    told = endpoint.try_once(DecisionRequest("The sky is blue.", {"sky": question}))
    return isinstance(told, Reply) and "sky" in told.probabilities


def _object_in(told: Reply | Unanswered) -> Mapping[str, Any]:
    try:
        value = orjson.loads(told.text) if isinstance(told, Reply) else None
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {}


def _begins_object(told: Reply | Unanswered) -> bool:
    """A model that was told to write no JSON and yet opens an object was made to (the end may be cut off)."""
    return isinstance(told, Reply) and told.text.lstrip().startswith("{")
