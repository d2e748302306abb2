"""LangChain and LangGraph: lists of messages, states of threads, and tables with one message per row.

A message is `{type: human, content}`, `{type: human, data: {content}}` or serialised (`lc`, `id`, `kwargs`). A state
holds its messages in `values` or, as a checkpoint, in `channel_values`; of several states of one thread the longest
counts. A row of a table is `{session_id, message}`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, one_per_row
from drift.logs.draft import ConversationDraft, has, messages_of, name_of, structured, time_of
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind, short_form
from drift.logs.traces.endings import ended_early
from drift.logs.traces.gathering import gathered, in_time_order
from drift.logs.traces.texts import first_name
from drift.logs.traces.threads import join_parts
from drift.logs.unread import PARTS, keys
from drift.records import Reason, stable_hash

_ROLES = {
    **dict.fromkeys(("human", "HumanMessage"), "user"),
    **dict.fromkeys(("ai", "AIMessage"), "assistant"),
    **dict.fromkeys(("system", "SystemMessage", "developer"), "system"),
    **dict.fromkeys(("tool", "ToolMessage", "function", "FunctionMessage"), "tool"),
    **dict.fromkeys(("chat", "ChatMessage"), None),  # its role is in a field of its own
}
_STATES = ("values", "channel_values", "state", "checkpoint")
_LISTS = ("messages", "History", "history", "chat_history", "message_history")
_THREAD = ("thread_id", "session_id", "conversation_id", "SessionId")
_USER = ("user_id", "user", "langgraph_auth_user_id")
_TIMES = ("created_at", "createdAt", "timestamp", "ts")
_CALLS_IN_CONTENT = ("tool_use", "tool_call", "function_call", "input_json_delta")
_MAX_DEPTH = 4  # of states in states

_FIELDS = keys(
    "type content data lc id kwargs role name tool_calls invalid_tool_calls tool_call_id additional_kwargs"
    " response_metadata reasoning_content timestamp created_at usage_metadata example tool_call_chunks status",
    content=PARTS,
)
_MESSAGE = {**_FIELDS, **keys("", kwargs=_FIELDS, data=_FIELDS)}
_OF_A_ROW = keys(f"id model model_name config configurable metadata {' '.join((*_THREAD, *_USER, *_TIMES))}")
_STATE = keys("", **dict.fromkeys(_LISTS, _MESSAGE))
KEYS = {**_OF_A_ROW, **_STATE, **dict.fromkeys(("values", "state", "channel_values"), _STATE), **keys("checkpoint")}
TABLE_KEYS = {**_OF_A_ROW, **keys("", message=_MESSAGE, History=_MESSAGE, data=_MESSAGE)}


def recognises(row: Mapping[str, Any]) -> bool:
    entries = _entries(row)
    return isinstance(entries, list) and any(_is_message(structured(entry)) for entry in entries)


def recognises_table(row: Mapping[str, Any]) -> bool:
    return session_of(row) is not None and _is_message(_row_message(row))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def read_table(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return gathered(rows, session_of, _session, lambda row: [_part(row)])


def session_of(row: Mapping[str, Any]) -> str | None:
    return first_name(row, names=_THREAD)


def id_of(row: Mapping[str, Any]) -> str | None:
    """The number of a row with its message: several tables may count from 1. The chat's or the user's is no row's."""
    name = first_name(row, names=("id", "_id"))
    if name is None or name in (session_of(row), first_name(row, names=_USER)):
        return None
    return stable_hash(name, row.get("message"), row.get("History"), row.get("data"))


def _entries(row: Mapping[str, Any], depth: int = 0) -> Any:
    """The messages of a row or, deeper, of a state."""
    for key in _LISTS:
        if isinstance(found := structured(row.get(key)), list):
            return found
    for key in _STATES if depth < _MAX_DEPTH else ():
        inner = structured(row.get(key))
        if isinstance(inner, Mapping) and (found := _entries(inner, depth + 1)) is not None:
            return found
    return None


def _is_message(entry: Any) -> bool:
    """`{type, content}` alone could be a part of a message in another format."""
    if not isinstance(entry, Mapping):
        return False
    if isinstance(entry.get("kwargs"), Mapping) and isinstance(entry.get("id"), list):
        return True
    kind = entry.get("type")
    is_kind = isinstance(kind, str) and kind.removesuffix("Chunk") in _ROLES
    return is_kind and not has(entry, "role") and ("content" in entry or isinstance(entry.get("data"), Mapping))


def _draft(row: LogRow) -> ConversationDraft:
    entries = _entries(row.value)
    if not isinstance(entries, list) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "an empty list of messages" if entries == [] else "no list of messages")
    plain = [_plain(structured(entry), index) for index, entry in enumerate(entries)]
    places = _places(row.value)
    return ConversationDraft(
        at=row.at,
        messages=messages_of([entry for entry in plain if entry is not None]),
        source_id=first_name(*places, names=_THREAD) or name_of(row.value.get("id")),
        user=first_name(*places, names=_USER),
        model=first_name(*places, names=("model", "model_name")) or _model(plain),
        started_at=_time(row.value),
    )


def _places(row: Mapping[str, Any]) -> list[Any]:
    """Where thread and user may stand: the row, the state's configuration and its metadata."""
    config = structured(row.get("config"))
    inner = structured(config.get("configurable")) if isinstance(config, Mapping) else None
    return [row, inner, structured(row.get("configurable")), structured(row.get("metadata")), config]


def _time(row: Mapping[str, Any]) -> str | None:
    checkpoint = structured(row.get("checkpoint"))
    places = (row, checkpoint) if isinstance(checkpoint, Mapping) else (row,)
    return next((time_of(place[key]) for place in places for key in _TIMES if place.get(key) is not None), None)


def _plain(entry: Any, index: int) -> dict[str, Any] | None:
    """A message as `{role, content}` with its calls; None for one that only removes another. Raises Unusable."""
    if not isinstance(entry, Mapping):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
    kind, fields = entry.get("type"), entry
    if isinstance(entry.get("kwargs"), Mapping):
        name, fields = entry.get("id"), entry["kwargs"]
        kind = name[-1] if isinstance(name, list) and name else fields.get("type")
    elif isinstance(entry.get("data"), Mapping):
        fields = entry["data"]
    kind = kind.removesuffix("Chunk") if isinstance(kind, str) else kind
    if kind in ("remove", "RemoveMessage"):
        return None
    known = _ROLES.get(kind) if isinstance(kind, str) else None
    role = known or fields.get("role", entry.get("role", kind))
    more = structured(fields.get("additional_kwargs"))
    more = more if isinstance(more, Mapping) else {}
    content = fields.get("content")
    plain = {"role": role, "content": "" if content is None else content, "timestamp": _when(fields, entry)}
    if role == "assistant":
        calls = [call for key in ("tool_calls", "invalid_tool_calls") for call in _list(fields.get(key))]
        plain["tool_calls"] = calls or _list(more.get("tool_calls"))
        plain["function_call"] = None if plain["tool_calls"] else more.get("function_call")
        plain["reasoning_content"] = more.get("reasoning_content", fields.get("reasoning_content"))
        if plain["tool_calls"] and isinstance(content, list):  # the calls stand in the content too
            kept = [part for part in content if not _is_call(part)]
            plain["content"] = kept or ""
        if any(map(ended_early, (fields, entry))):
            plain["finish_reason"] = "length"
        plain["model"] = first_name(fields.get("response_metadata"), names=("model_name", "model"))
    if role == "tool":
        plain |= {"tool_call_id": fields.get("tool_call_id"), "name": fields.get("name")}
    return {key: value for key, value in plain.items() if value is not None}


def _when(*places: Mapping[str, Any]) -> Any:
    return next((place[key] for place in places for key in _TIMES if place.get(key) is not None), None)


def _list(value: Any) -> list[Any]:
    value = structured(value)
    return value if isinstance(value, list) else []


def _is_call(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _CALLS_IN_CONTENT


def _model(plain: list[dict[str, Any] | None]) -> str | None:
    return next((name_of(entry["model"]) for entry in reversed(plain) if entry and entry.get("model")), None)


def _row_message(row: Mapping[str, Any]) -> Any:
    """The message of a row of a table; MongoDB's is JSON text in `History`."""
    named = ("message", "History", "data")
    return next((found for key in named if isinstance(found := structured(row.get(key)), Mapping)), None)


def _session(rows: list[LogRow]) -> Iterator[Outcome]:
    """The rows of one session, in the order of their times if all have one, else in that of their numbers."""
    parts: list[tuple[LogRow, ConversationDraft]] = []
    for row in rows:
        try:
            parts.append((row, _part(row)))
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail)
    numbers = [name_of(row.value.get("id")) or "" for row, _ in parts]
    if all(part.started_at is not None for _, part in parts):
        parts = in_time_order(parts, lambda entry: entry[1].started_at)
    elif all(number.isdecimal() for number in numbers):
        parts = [parts[place] for place in sorted(range(len(parts)), key=lambda place: int(numbers[place]))]
    if parts:
        yield join_parts([part for _, part in parts])


def _part(row: LogRow) -> ConversationDraft:
    session, message = session_of(row.value), _row_message(row.value)
    if session is None:
        raise Unusable(Reason.NO_MESSAGES, f"a row without a session; it is named by {', '.join(_THREAD)}")
    if message is None:
        raise Unusable(Reason.NO_MESSAGES, f"a row without a message: {short_form(row.value.get('message'))}")
    plain = _plain(message, 0)
    if plain is None:
        raise Unusable(Reason.NOT_A_CHAT, "a row that removes a message")
    when = _when(row.value) or plain.get("timestamp")
    return ConversationDraft(
        at=row.at,
        messages=messages_of([plain if when is None else {**plain, "timestamp": when}]),
        source_id=session,
        user=first_name(row.value, structured(row.value.get("metadata")), names=_USER),
        model=name_of(plain.get("model")),
        started_at=time_of(when),
    )
