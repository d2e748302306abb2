"""`--suite FILE.jsonl`: the user's own items with checkable answers, beside the gate's guards.

A line: {"prompt": TEXT} or {"messages": [{"role", "content"}, ...]}, and exactly one way to check the answer:
"number": 42, "exact": TEXT (case and white space do not count), "contains": TEXT or [TEXT, ...] (all of them),
"regex": PATTERN (anywhere in the answer), or "json": VALUE (the answer is this JSON and nothing else).
"""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import Field, JsonValue, model_validator

from drift.errors import DataError
from drift.evals.files import PublicRow, read_rows
from drift.evals.replies import EvalRequest
from drift.gate.guards.answers import only_number
from drift.gate.items import GateItem
from drift.records import ChatMessage, Completion

CHECKS = ("number", "exact", "contains", "regex", "json")
MAX_NEW_TOKENS = 512


class _Message(PublicRow):
    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class SuiteRow(PublicRow):
    """A line of a suite."""

    item_id: str | None = Field(default=None, alias="id")
    prompt: str | None = None
    messages: tuple[_Message, ...] = ()
    number: float | None = None
    exact: str | None = None
    contains: str | tuple[str, ...] | None = None
    regex: str | None = None
    value: JsonValue = Field(default=None, alias="json")

    @model_validator(mode="after")
    def _is_checkable(self) -> "SuiteRow":
        if (self.prompt is None) == (not self.messages):
            raise ValueError("give either prompt or messages")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("the last message is the user's: the model answers it")
        named = self.model_fields_set & {"number", "exact", "contains", "regex", "value"}
        if len(named) != 1:
            raise ValueError(f"give exactly one of {', '.join(CHECKS)}")
        parts = self.contains if isinstance(self.contains, tuple) else (self.contains,)
        asked = (self.number, self.exact, self.regex, *parts)
        if named != {"value"} and not any(part not in (None, "") for part in asked):
            raise ValueError("the check is empty: every answer would be right, or none")
        if self.number is not None and not math.isfinite(self.number):
            raise ValueError(f"number {self.number}: no answer is equal to it")
        if has_nan(self.value):
            raise ValueError("json: NaN is no JSON, and no answer is equal to it")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"regex {self.regex!r}: {error}") from None
        return self


def has_nan(value: JsonValue) -> bool:
    """Whether NaN or an infinite number stands anywhere in it; Python's reader of JSON accepts them."""
    if isinstance(value, dict | list):
        return any(map(has_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def read_suite(path: Path) -> list[GateItem]:
    """Raises DataError naming file:line of a line that cannot be used, and the item that repeats another one: it would
    count twice."""
    items: list[GateItem] = []
    seen: dict[tuple[ChatMessage, ...], int] = {}
    for number, row in enumerate(read_rows(path, SuiteRow), 1):
        messages = tuple(ChatMessage(m.role, m.content) for m in row.messages)  # pyright: ignore[reportArgumentType]
        messages = messages or (ChatMessage("user", row.prompt or ""),)
        if (first := seen.setdefault(messages, number)) != number:
            raise DataError(f"{path}: item {number} asks the same as item {first}, and would count twice: remove one.")
        items.append(GateItem(EvalRequest(f"{path.stem}/{row.item_id or number}/{number}", messages), _check(row)))
    return items


def _check(row: SuiteRow) -> Callable[[Completion], tuple[str, ...]]:
    if row.number is not None:
        return partial(_number, right=row.number)
    if row.exact is not None:
        return partial(_exact, right=row.exact)
    if row.contains is not None:
        return partial(_contains, parts=(row.contains,) if isinstance(row.contains, str) else row.contains)
    if row.regex is not None:
        return partial(_regex, pattern=row.regex)
    return partial(_json, right=row.value)


def _number(answer: Completion, right: float) -> tuple[str, ...]:
    return () if only_number(answer.text) == right else ("wrong number",)


def _exact(answer: Completion, right: str) -> tuple[str, ...]:
    return () if _normal(answer.text) == _normal(right) else ("not the exact answer",)


def _contains(answer: Completion, parts: tuple[str, ...]) -> tuple[str, ...]:
    text = _normal(answer.text)
    return () if all(_normal(part) in text for part in parts) else ("a part is missing",)


def _regex(answer: Completion, pattern: str) -> tuple[str, ...]:
    return () if re.search(pattern, answer.text) else ("the pattern is missing",)


def _json(answer: Completion, right: JsonValue) -> tuple[str, ...]:
    try:
        return () if json.loads(answer.text) == right else ("other JSON",)
    except (ValueError, RecursionError):
        return ("not JSON",)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())
