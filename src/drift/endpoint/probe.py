"""Which features a server supports. Some servers ignore unknown options silently, so each one is tried out."""

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
    """`repeats`: the same seed gave the same text twice at temperature 1. `decisions`: /systemone answers."""

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
        supported = [name for name, works in names.items() if works]
        missing = [name for name, works in names.items() if not works]
        return f"supports {', '.join(supported) or 'only plain chat'}" + (
            f"; not {', '.join(missing)}" if missing else ""
        )


def probe(endpoint: Endpoint) -> Capabilities:
    """Try each feature in at most nine short requests, which count as spending.

    Raises PrerequisiteError if the server or the model is not there, or does not answer a chat request.
    """
    require_model(endpoint)
    several = _ask(endpoint, n=2)
    chances = _ask(endpoint, top_logprobs=5)
    first, second = (_ask(endpoint, seed=7, temperature=1.0, max_tokens=24) for _ in range(2))
    schema = _ask(endpoint, response_format=json_schema_format("colour", _SCHEMA), max_tokens=64)
    mode = _ask(endpoint, response_format=JSON_MODE, max_tokens=128)
    return Capabilities(
        many=isinstance(several, Reply) and len(several.choices) == 2,
        logprobs=isinstance(chances, Reply) and any(len(token) > 1 for token in chances.choices[0].tokens),
        repeats=_said(first) is not None and _said(first) == _said(second),
        json_schema=_object_in(schema).get("colour") in _COLOURS,
        json_mode=_begins_object(mode),
        decisions=_decides(endpoint),
    )


def require_model(endpoint: Endpoint) -> None:
    """One short request, which counts as spending. If the server lists its models, ours must be among them; a server
    without a (readable) list is trusted.

    Raises PrerequisiteError as `probe`.
    """
    _require_listed(endpoint)
    outcome = _ask(endpoint)
    if isinstance(outcome, Unanswered):
        raise PrerequisiteError(
            f"{endpoint.url}: the model {endpoint.model!r} does not answer chat requests "
            f"({outcome.problem}: {outcome.detail}). See the server's log."
        )


def _require_listed(endpoint: Endpoint) -> None:
    """Ollama lists `llama3.2` as `llama3.2:latest`, Gemini lists every name behind `models/`."""
    listed = endpoint.look("models")
    if not isinstance(listed, bytes):
        return
    try:
        names = [str(entry["id"]) for entry in orjson.loads(listed)["data"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    if names and not {endpoint.model, f"{endpoint.model}:latest", f"models/{endpoint.model}"} & set(names):
        listing = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        raise PrerequisiteError(f"{endpoint.url} does not serve the model {endpoint.model!r}. It serves: {listing}.")


def _ask(endpoint: Endpoint, max_tokens: int = 8, **features: Any) -> Reply | Unanswered:
    return endpoint.try_once(ChatRequest((ChatMessage("user", _PLAIN),), max_tokens=max_tokens, **features))


def _decides(endpoint: Endpoint) -> bool:
    question = Question("Is the sky blue?", {"yes": "It is.", "no": "It is not."})
    outcome = endpoint.try_once(DecisionRequest("The sky is blue.", {"sky": question}))
    return isinstance(outcome, Reply) and "sky" in outcome.probabilities


def _said(outcome: Reply | Unanswered) -> tuple[str, str] | None:
    """Text and thoughts of a reply; None if there are neither: a model that thinks may be cut before either."""
    if not isinstance(outcome, Reply):
        return None
    choice = outcome.choices[0]
    return (choice.text, choice.reasoning) if choice.text.strip() or choice.reasoning.strip() else None


def _object_in(outcome: Reply | Unanswered) -> Mapping[str, Any]:
    try:
        value = orjson.loads(outcome.answer) if isinstance(outcome, Reply) else None
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {}


def _begins_object(outcome: Reply | Unanswered) -> bool:
    """The prompt forbids JSON: a reply that opens an object was forced to. (Its end may be cut off.)"""
    return isinstance(outcome, Reply) and outcome.answer.lstrip().startswith("{")
