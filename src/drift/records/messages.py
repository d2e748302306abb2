"""Messages of a chat: what was said, by whom, and the tool calls and thoughts beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from drift.records.names import Role


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """`arguments`: JSON text, as the model wrote it; it may be broken."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asked for, in the shape of OpenAI's API and of TRL."""

    function: FunctionCall
    id: str | None = None
    type: Literal["function"] = "function"


def tool_calls_of(rows: Iterable[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """Tool calls out of their JSON, as DRIFT wrote it."""
    return tuple(ToolCall(FunctionCall(**row["function"]), row["id"]) for row in rows)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message. `tool_calls`: of an assistant's; `tool_call_id`, `name`: of a tool's answer, the call and the tool.

    `reasoning`: the thoughts that come before the content, without the template's marks around them.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = field(default=(), kw_only=True)
    tool_call_id: str | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    reasoning: str | None = field(default=None, kw_only=True)

    @property
    def size(self) -> int:
        """The number of characters, with those of tool calls and thoughts."""
        calls = sum([len(call.function.name) + len(call.function.arguments) for call in self.tool_calls])
        return len(self.content) + calls + len(self.reasoning or "")

    def extras(self) -> dict[str, Any]:
        """The optional fields that are set, by name."""
        if not (self.tool_calls or self.tool_call_id or self.name or self.reasoning):
            return {}
        return {name: value for name in MESSAGE_EXTRAS if (value := getattr(self, name))}


MESSAGE_EXTRAS = ("tool_calls", "tool_call_id", "name", "reasoning")
"""The optional fields of a ChatMessage."""


@dataclass(frozen=True, slots=True, init=False)
class Message(ChatMessage):
    """One message of a log. `source_index` is its place in the log's own list, which may hold entries we leave out.

    `has_media`, `is_cut` (the reply did not end by itself): set while a log is read; a conversation keeps them as its
    tags `media_turns` and `cut_turns`.
    """

    timestamp: str | None = None
    source_index: int | None = None
    has_media: bool = field(default=False, kw_only=True)
    is_cut: bool = field(default=False, kw_only=True)

    def __init__(
        self,
        role: Role,
        content: str,
        timestamp: str | None = None,
        source_index: int | None = None,
        *,
        tool_calls: tuple[ToolCall, ...] = (),
        tool_call_id: str | None = None,
        name: str | None = None,
        reasoning: str | None = None,
        has_media: bool = False,
        is_cut: bool = False,
    ) -> None:
        # As `dataclass` writes it, but by each slot's own setter, in half the time: logs have millions of messages.
        _set_role(self, role)
        _set_content(self, content)
        _set_timestamp(self, timestamp)
        _set_source_index(self, source_index)
        _set_tool_calls(self, tool_calls)
        _set_tool_call_id(self, tool_call_id)
        _set_name(self, name)
        _set_reasoning(self, reasoning)
        _set_has_media(self, has_media)
        _set_is_cut(self, is_cut)

    def chat(self) -> ChatMessage:
        """The message without what only a log has."""
        return ChatMessage(self.role, self.content, **self.extras())


_set_role, _set_content = (getattr(ChatMessage, own).__set__ for own in ("role", "content"))
_set_tool_calls, _set_tool_call_id, _set_name, _set_reasoning = (
    getattr(ChatMessage, extra).__set__ for extra in MESSAGE_EXTRAS
)
_set_timestamp, _set_source_index, _set_has_media, _set_is_cut = (
    getattr(Message, own).__set__ for own in ("timestamp", "source_index", "has_media", "is_cut")
)
