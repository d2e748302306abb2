"""Requests to a server and its replies. Replies are checked: what a server answers may be anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from drift.endpoint.message import ChatChoice, Choice
from drift.errors import first_problem
from drift.records import ChatMessage, stable_hash

Problem = Literal["busy", "server", "timeout", "connection", "garbage", "refused"]
OVERHEAD = 16
"""Upper bound of the tokens that a chat template puts around one message."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call of /chat/completions. A field that is None or 0 is not sent: the server's own default applies.

    `top_logprobs`: number of candidates per token. `response_format`: as OpenAI's (see `json_schema_format`).
    `extra`: further keys of the body, for servers that take more. `sample`: makes equal requests distinct in the cache.
    `owner`: whose text this is about (a conversation_id), so that its cached answers can be forgotten.
    """

    messages: tuple[ChatMessage, ...]
    max_tokens: int = 512
    temperature: float | None = 0.0
    top_p: float | None = None
    n: int = 1
    seed: int | None = None
    top_logprobs: int = 0
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0
    owner: str | None = None

    @property
    def path(self) -> str:
        return "chat/completions"

    def body(self, model: str) -> dict[str, Any]:
        optional = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "n": self.n if self.n > 1 else None,
            "seed": self.seed,
            "logprobs": True if self.top_logprobs else None,
            "top_logprobs": self.top_logprobs or None,
            "response_format": self.response_format,
        }
        return {
            "model": model,
            "messages": [_entry(message) for message in self.messages],
            "max_tokens": self.max_tokens,
            **{name: value for name, value in optional.items() if value is not None},
            **self.extra,
        }

    def key(self, model: str) -> "CacheKey":
        parameters = {name: value for name, value in self.body(model).items() if name not in ("model", "messages")}
        system = [message for message in self.messages if message.role == "system"]
        rest = [message for message in self.messages if message.role != "system"]
        return CacheKey(model, stable_hash(self.path, parameters, self.sample), stable_hash(system), stable_hash(rest))

    def with_room(self, max_tokens: int | None) -> "ChatRequest":
        """The same request with at least so many tokens for the answer: a model that thinks needs more."""
        return self if max_tokens is None else replace(self, max_tokens=max(self.max_tokens, max_tokens))

    def most_tokens(self) -> tuple[int, int]:
        """Upper bounds (input, output): a byte-level tokenizer makes at most one token per byte."""
        prompt = sum(len(_text(message).encode()) + OVERHEAD for message in self.messages)
        further = (self.response_format or "", self.extra.get("tools", ""))
        return prompt + sum(len(str(part).encode()) for part in further), self.max_tokens * self.n


def _text(message: ChatMessage) -> str:
    """All texts of a message."""
    return message.content + "".join(call.function.name + call.function.arguments for call in message.tool_calls)


def _entry(message: ChatMessage) -> dict[str, Any]:
    """The message as OpenAI's API has it. Thoughts stay out: servers leave those of earlier turns out themselves."""
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        calls = enumerate(message.tool_calls)
        entry["tool_calls"] = [
            {
                "id": call.id or f"call{number}",
                "type": call.type,
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for number, call in calls
        ]
    named = {"tool_call_id": message.tool_call_id, "name": message.name}
    return entry | {key: value for key, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One call of /completions with a prompt of token ids; it asks for the token ids of the reply too (vLLM has them).

    `stop`: token ids that end a reply. The other fields are those of ChatRequest.
    """

    prompt: tuple[int, ...]
    stop: tuple[int, ...]
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    sample: int = 0
    owner: str | None = None

    @property
    def path(self) -> str:
        return "completions"

    def body(self, model: str) -> dict[str, Any]:
        return {
            "model": model,
            "prompt": self.prompt,
            "stop_token_ids": self.stop,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            **({} if self.seed is None else {"seed": self.seed}),
            "return_token_ids": True,
        }

    def key(self, model: str) -> "CacheKey":
        parameters = {name: value for name, value in self.body(model).items() if name not in ("model", "prompt")}
        return CacheKey(model, stable_hash(self.path, parameters, self.sample), "", stable_hash(self.prompt))

    def most_tokens(self) -> tuple[int, int]:
        return len(self.prompt), self.max_tokens


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """One call of /systemone: a probability for each option of each question about `state`; the model writes no text.

    `questions`: by name; each has options by name with their meaning.
    """

    state: str
    questions: Mapping[str, "Question"]
    owner: str | None = None

    @property
    def path(self) -> str:
        return "systemone"

    def body(self, model: str) -> dict[str, Any]:
        asked = {
            name: {"type": "choice", "instructions": question.instructions, "criteria": dict(question.options)}
            for name, question in self.questions.items()
        }
        return {"model": model, "state": self.state, "questions": asked}

    def key(self, model: str) -> "CacheKey":
        asked = self.body(model)["questions"]
        return CacheKey(model, stable_hash(self.path), stable_hash(asked), stable_hash(self.state))

    def most_tokens(self) -> tuple[int, int]:
        asked = (len(str(question).encode()) + 4 * OVERHEAD for question in self.questions.values())
        state = len(self.state.encode()) + OVERHEAD
        return sum(state + size for size in asked), 0


@dataclass(frozen=True, slots=True)
class Question:
    instructions: str
    options: Mapping[str, str]


Request = ChatRequest | CompletionRequest | DecisionRequest


@dataclass(frozen=True, slots=True)
class CacheKey:
    """`prompt` hashes the instructions (system messages, questions), `input` what they are applied to."""

    model: str
    parameters: str
    prompt: str
    input: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `reported`: the server counted them; otherwise they are upper bounds."""

    input_tokens: int
    output_tokens: int
    reported: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """`choices` of a ChatRequest, or `probabilities` (question -> option -> probability) of a DecisionRequest.

    `cost`: None without prices; for a cached reply, what it cost when it was asked.
    """

    usage: Usage
    cost: float | None = None
    cached: bool = False
    choices: tuple[Choice, ...] = ()
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text

    @property
    def answer(self) -> str:
        """The same without thoughts."""
        return self.choices[0].answer


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request without a usable answer after all retries. It is not a bad grade and not an empty reply."""

    problem: Problem
    detail: str


class _Text(BaseModel):
    text: str
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = Field(default=None, ge=0)
    completion_tokens: int | None = Field(default=None, ge=0)
    input_tokens: int | None = Field(default=None, ge=0)
    output_tokens: int | None = Field(default=None, ge=0)


class _Chat(BaseModel):
    choices: list[ChatChoice] = Field(min_length=1)
    usage: _Usage | None = None


class _Completion(BaseModel):
    choices: list[_Text] = Field(min_length=1)
    usage: _Usage | None = None


class _Decided(BaseModel):
    probabilities: dict[str, float]


class _Decision(BaseModel):
    answers: dict[str, _Decided]
    usage: _Usage | None = None


def parse_reply(request: Request, body: bytes, shown: Callable[[str], str] = str) -> Reply | Unanswered:
    """The server's answer as records, or `Unanswered` with what is wrong with it. `shown`: the body for people."""
    try:
        if isinstance(request, DecisionRequest):
            decided = _Decision.model_validate_json(body)
            return Reply(_usage(request, decided.usage), probabilities=_probabilities(request, decided))
        if isinstance(request, CompletionRequest):
            answer = _Completion.model_validate_json(body)
            choices = (Choice(text.text, text.finish_reason, token_ids=text.token_ids) for text in answer.choices)
            return Reply(_usage(request, answer.usage), choices=tuple(choices))
        chat = _Chat.model_validate_json(body)
        return Reply(_usage(request, chat.usage), choices=tuple(choice.read() for choice in chat.choices))
    except ValidationError as error:
        begins = shown(body[:10_000].decode(errors="replace"))[:80]
        return Unanswered("garbage", f"{first_problem(error, 'the body')}; it begins {begins!r}")


def json_schema_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` that asks for JSON of this schema."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


JSON_MODE = {"type": "json_object"}


def _usage(request: Request, reported: _Usage | None) -> Usage:
    most_in, most_out = request.most_tokens()
    if reported is None:
        return Usage(most_in, most_out, reported=False)
    input_tokens = reported.prompt_tokens if reported.prompt_tokens is not None else reported.input_tokens
    output_tokens = reported.completion_tokens if reported.completion_tokens is not None else reported.output_tokens
    is_complete = input_tokens is not None and output_tokens is not None
    return Usage(
        most_in if input_tokens is None else input_tokens,
        most_out if output_tokens is None else output_tokens,
        is_complete,
    )


def _probabilities(request: DecisionRequest, decided: _Decision) -> dict[str, dict[str, float]]:
    """By question and option; a question whose answer is missing, incomplete or does not sum to 1 is left out."""
    answers = {}
    for name, question in request.questions.items():
        shares = decided.answers[name].probabilities if name in decided.answers else {}
        if set(shares) == set(question.options) and abs(sum(shares.values()) - 1) < 0.01 and min(shares.values()) >= 0:
            answers[name] = shares
    return answers
