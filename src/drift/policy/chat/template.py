"""A chat template as a server renders it: messages, tools and template arguments in, text out.

Templates differ in what they read a message from (content as text or as parts, arguments of a call as an object or as
JSON text): the `TemplateDialect` says which. A template that reads the clock gets the pinned date.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from drift.errors import DataError
from drift.records import ChatMessage

_FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a template raises for a conversation that it was not written for: its own refusals, and its own mistakes."""

_CLOCK = "strftime_now"


class TemplateRefusal(DataError):
    """The template refuses a conversation."""


@dataclass(frozen=True, slots=True)
class TemplateDialect:
    """How messages are handed to a template.

    `parts`: content as a list of parts. `text_arguments`: a call's arguments as JSON text. `null_content`: no content,
    rather than an empty one, beside calls.
    """

    parts: bool = False
    text_arguments: bool = False
    null_content: bool = False


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A tokenizer's chat template with its arguments.

    `arguments`: what it is rendered with besides messages and tools. `date`: what it shows in place of the clock's day
    (ISO 8601); None: the clock's.
    """

    tokenizer: PreTrainedTokenizerBase
    arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None

    @cached_property
    def text(self) -> str:
        """The template's own text, for conversations without tools."""
        return self._text(None)

    @property
    def reads_clock(self) -> bool:
        return _CLOCK in self.text

    def server_date(self) -> dict[str, str]:
        """The pinned date as an argument for a server's copy of this template; empty if the template takes none."""
        written = re.search(rf"{_CLOCK}\(\s*(['\"])(.+?)\1\s*\)", self.text)
        names = names_in(self.text, "date_string|current_date")
        if self.date is None or written is None or not names:
            return {}
        return {names[0]: date.fromisoformat(self.date).strftime(written[2])}

    def render(
        self,
        messages: Sequence[ChatMessage],
        generation_prompt: bool,
        tools: str | None = None,
        dialect: TemplateDialect = TemplateDialect(),
    ) -> str:
        """The template's text of a chat. Control tokens that a message spells out are broken up (`defused`).

        `tools`: the JSON list of schemas. Raises TemplateRefusal if the template refuses the conversation.
        """
        schemas = _parsed(self.tokenizer, tools) if tools else None
        chat = [self._entry(message, dialect) for message in messages]
        try:
            source = self._text(schemas)
            if self.date is not None and _CLOCK in source:
                source = _pinned_clock(self.date) + source
            return str(
                self.tokenizer.apply_chat_template(
                    chat,
                    tools=schemas,
                    chat_template=source,
                    tokenize=False,
                    add_generation_prompt=generation_prompt,
                    **self.arguments,
                )
            )
        except _FAULTS as error:
            roles = ", ".join(message.role for message in messages)
            why = " ".join(str(error).split()) or type(error).__name__
            raise TemplateRefusal(f"the model's chat template refuses a conversation of {roles}: {why}") from None

    def _text(self, tools: Any) -> str:
        return str(self.tokenizer.get_chat_template(None, tools)) if self.tokenizer.chat_template else ""

    def _entry(self, message: ChatMessage, dialect: TemplateDialect) -> dict[str, Any]:
        content: Any = defused(self.tokenizer, message.content)
        if dialect.parts:
            content = [{"type": "text", "text": content}]
        if message.tool_calls and not message.content and dialect.null_content:
            content = None
        entry: dict[str, Any] = {"role": message.role, "content": content}
        if message.reasoning:
            thoughts = defused(self.tokenizer, message.reasoning)
            entry |= {"reasoning_content": thoughts, "reasoning": thoughts}  # templates read either, vLLM sends both
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "type": call.type,
                    **({} if call.id is None else {"id": call.id}),
                    "function": {
                        "name": defused(self.tokenizer, call.function.name),
                        "arguments": self._call_arguments(call.function.arguments, dialect),
                    },
                }
                for call in message.tool_calls
            ]
        named = {"tool_call_id": message.tool_call_id, "name": message.name}
        return entry | {key: value for key, value in named.items() if value is not None}

    def _call_arguments(self, text: str, dialect: TemplateDialect) -> Any:
        """A call's arguments as an object if the template takes one and the text is one, else as text."""
        if not dialect.text_arguments:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                return _defused_json(self.tokenizer, value)
        return defused(self.tokenizer, text)


def _parsed(tokenizer: PreTrainedTokenizerBase, tools: str) -> list[Any] | None:
    """The schemas; raises TemplateRefusal if they are no JSON list of objects."""
    try:
        schemas = json.loads(tools)
    except (ValueError, RecursionError):
        schemas = None
    if not isinstance(schemas, list) or not all(isinstance(schema, dict) for schema in schemas):
        raise TemplateRefusal(f"tools must be a JSON list of schemas, not {tools[:80]!r}")
    return [_defused_json(tokenizer, schema) for schema in schemas] or None


def _defused_json(tokenizer: PreTrainedTokenizerBase, value: Any) -> Any:
    if isinstance(value, str):
        return defused(tokenizer, value)
    if isinstance(value, list):
        return [_defused_json(tokenizer, item) for item in value]
    if isinstance(value, dict):
        return {defused(tokenizer, str(key)): _defused_json(tokenizer, item) for key, item in value.items()}
    return value


def defused(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space inside every control token that it spells: `<|end|>` becomes `< |end|>`."""
    for token in special_texts(tokenizer):
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


@lru_cache(maxsize=8)
def special_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Control tokens that a text could spell; those of one character are left out, because texts need them."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({token for token in (*added, *tokenizer.all_special_tokens) if len(token) > 1}))


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Ids of a text, without automatic BOS or EOS: the template's text contains those that are needed."""
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


_DIRECTIVES = "YmdBbAaydHIMSpjefGgUVWuwxXcDFTRZz"
"""The letters of strftime; the time of day that they show is midnight."""


@lru_cache(maxsize=8)
def _pinned_clock(day: str) -> str:
    """A macro that stands before the template and takes the place of the function that reads the clock."""
    text = "format" + "".join(_replacements(date.fromisoformat(day)))
    return f"{{% macro {_CLOCK}(format) %}}{{{{ {text} }}}}{{% endmacro %}}"


def _replacements(day: date) -> Iterator[str]:
    """Jinja filters that put the day's values in place of strftime's directives."""
    for directive in (*(f"%-{letter}" for letter in "dmHIMSjy"), *(f"%{letter}" for letter in _DIRECTIVES)):
        yield f"|replace({directive!r}, {day.strftime(directive)!r})"


def names_in(text: str, pattern: str) -> list[str]:
    """The names in a template that match `pattern`, each once, in order."""
    return list(dict.fromkeys(re.findall(rf"\b\w*(?:{pattern})\w*\b", text)))
