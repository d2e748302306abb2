"""One choice of a chat completion: the text, the thoughts, and why there is no answer.

This is the only place that reads a server's message.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from pydantic import BaseModel, Field

from drift.endpoint.thoughts import split_thoughts
from drift.records import FunctionCall, ToolCall

NoAnswer = Literal["cut_in_thoughts", "thoughts_only", "cut", "refused", "empty"]
AnswerFault = NoAnswer | Literal["wrong_form"]
NO_LOGPROBS = "no token probabilities"
REASONS: dict[str, str] = {
    "cut_in_thoughts": "the token limit came in the middle of its thoughts",
    "thoughts_only": "thoughts without an answer",
    "cut": "cut at the token limit",
    "refused": "the model refused",
    "empty": "empty",
    "wrong_form": "not in the form that was asked for",
}
"""Every reason in words."""


def why_unreadable(reasons: Mapping[str, int]) -> str:
    """The reasons with their counts, most frequent first, as part of a sentence."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(
        f"{count} {reason} ({REASONS[reason]})" if reason in REASONS else f"{count} {reason}"
        for reason, count in ordered
    )


def remedy(reasons: Mapping[str, int], setting: str, limit: int) -> str:
    """What to do if all judgements are unreadable. `limit`: of an answer, in tokens; `setting`: what raises it."""
    if any(reason in reasons for reason in ("cut_in_thoughts", "thoughts_only", "cut")):
        return (
            f"Raise {setting}: an answer could have {limit} tokens, and a model that thinks needs 2048 or more. Or "
            "switch its thinking off."
        )
    if NO_LOGPROBS in reasons:
        return "Use a server that gives log-probabilities of tokens (logprobs)."
    return "Use a stronger model as the judge, or read its answers: they are kept."


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate token at one position, and its log-probability in nats."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Choice:
    """`text`: the message's content as the server sent it. `reasoning`: thoughts that it sent in a field of their own.
    `finish`: its finish_reason (stop, length, ...). `token_ids`: of the reply, if the server gives them.

    With log-probabilities: `tokens` holds the candidates at each position, best first, and `written` the sampled token.
    """

    text: str
    finish: str | None
    tokens: tuple[tuple[Candidate, ...], ...] = ()
    written: tuple[str, ...] = ()
    token_ids: tuple[int, ...] | None = None
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def thoughts(self) -> str:
        """All thoughts: those of the field, or those between marks in the text."""
        return self.reasoning or split_thoughts(self.text)[0]

    @property
    def answer(self) -> str:
        """The text without thoughts; empty if the reply was cut in its thoughts."""
        return split_thoughts(self.text)[1]

    @property
    def answer_tokens(self) -> tuple[tuple[Candidate, ...], ...]:
        """`tokens` from the one on with which the answer begins; empty if that cannot be told."""
        answer = self.answer.strip()
        joined = "".join(self.written)
        if not self.thoughts and not joined.endswith(answer):
            return self.tokens  # a server that writes its tokens in another way than its text
        place = joined.rfind(answer) if answer else -1
        if place < 0:
            return ()
        ends = list(accumulate(map(len, self.written)))
        return self.tokens[bisect_right(ends, place) :]

    @property
    def no_answer(self) -> "NoAnswer | None":
        """Why `answer` is empty; None if it is not, or if the reply is a call."""
        if self.answer.strip() or self.tool_calls:
            return None
        if self.finish == "content_filter" or self.refusal:
            return "refused"
        if self.thoughts.strip():
            return "cut_in_thoughts" if self.finish == "length" else "thoughts_only"
        return "cut" if self.finish == "length" else "empty"

    @property
    def unreadable(self) -> "AnswerFault":
        """Why an answer that was not in the form that was asked for, was not."""
        return self.no_answer or ("cut" if self.finish == "length" else "wrong_form")


class _Top(BaseModel):
    token: str
    logprob: float = Field(allow_inf_nan=False)


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Part(BaseModel):
    """A part of a message's content, as Mistral sends thoughts and texts."""

    type: str = "text"
    text: str | None = None
    thinking: "str | list[_Part] | None" = None

    @property
    def thoughts(self) -> str:
        return (
            "".join(part.text or "" for part in self.thinking)
            if isinstance(self.thinking, list)
            else self.thinking or ""
        )


class _Message(BaseModel):
    """Thoughts are `reasoning_content` from vLLM, SGLang and DeepSeek, and `reasoning` from OpenRouter and Ollama."""

    content: str | list[_Part] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: Any = None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls that have a name; their arguments as the server sent them."""
        rows = self.tool_calls if isinstance(self.tool_calls, list) else []
        functions = [row.get("function") for row in rows if isinstance(row, dict)]
        named = [f for f in functions if isinstance(f, dict) and isinstance(f.get("name"), str)]
        return tuple(ToolCall(FunctionCall(f["name"], _as_text(f.get("arguments")))) for f in named)

    @property
    def text(self) -> str:
        return (
            "".join(part.text or "" for part in self.content) if isinstance(self.content, list) else self.content or ""
        )

    @property
    def thoughts(self) -> str:
        parts = self.content if isinstance(self.content, list) else []
        fields = (value for value in (self.reasoning_content, self.reasoning) if isinstance(value, str) and value)
        return next(fields, "".join(part.thoughts for part in parts))


class ChatChoice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    def read(self) -> Choice:
        tokens = self.logprobs.content if self.logprobs and self.logprobs.content else []
        candidates = tuple(
            tuple(Candidate(top.token, top.logprob) for top in sorted(token.top_logprobs or [token], key=_falling))
            for token in tokens
        )
        return Choice(
            self.message.text,
            self.finish_reason,
            candidates,
            tuple(token.token for token in tokens),
            reasoning=self.message.thoughts,
            refusal=self.message.refusal or "",
            tool_calls=self.message.calls,
        )


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)


def _falling(top: _Top) -> float:
    return -top.logprob
