"""Read the entries of a log's list of messages: who speaks, what they say, the tools called and their answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from drift.config.mapping_rules import ANY_OTHER, SKIP
from drift.logs.files.rows import Unusable, encodable, json_kind, short_form
from drift.logs.markup import may_hold_markup, pieces_of_reply
from drift.logs.parts import (
    MEDIA_MARKS,
    Part,
    answer_pieces,
    call_of,
    calls_of,
    is_approval,
    pieces_of,
    running,
    thought_text,
)
from drift.logs.values import FINISHES, PYTHON_LIST, is_cut, is_python_list, name_of, seconds_of, structured, time_of
from drift.records import Message, Reason, Role, ToolCall

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "agent": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "ipython": "tool",
}
_SPEAKERS = {"role": ("content", "parts", "text"), "from": ("value",)}
"""Where a message names who speaks, and what else it has then."""
_LISTS = ("messages", "conversations", "conversation")  # tables hold these as JSON text
_DEEPEST_LIST = 4  # objects and lists around a message
_CALLING = ("function_call", "tool_call")  # messages that are a call, in the formats of ShareGPT and ms-swift
_PLAIN_ROLES: dict[str, Role] = {name: role for name, role in ROLES.items() if role != "tool" and name not in _CALLING}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thoughts")
# Fields of a message with media beside its content (Ollama, Open WebUI, AI SDK), and the mark of what has no type:
_ATTACHED = {
    "images": "[image]", "videos": "[video]", "audios": "[audio]", "files": "[file]", "attachments": "[file]",
    "experimental_attachments": "[file]",
}  # fmt: skip
_RARE = frozenset((
    "tool_calls", "function_call", "refusal", "audio", *_THOUGHTS, *_ATTACHED, *FINISHES
))  # fmt: skip


class RoleWords:
    """The words of a log for its roles, as `--roles` gives them."""

    def __init__(self, roles: Mapping[str, Sequence[str]]) -> None:
        self.words = {word.lower(): role for role, words in roles.items() for word in words}
        self._others = self.words.pop(ANY_OTHER, None)
        self._given = roles.keys()

    def role_of(self, word: str) -> str | None:
        """The role that a word of the log stands for, or SKIP; None if nothing says so."""
        plain = word.strip().lower()
        return self.words.get(plain) or ROLES.get(plain) or (self._others if plain else None)

    def unknown(self, word: Any) -> str:
        """A word that stands for no role, with what to write."""
        short = short_form(word or None)
        example = word if isinstance(word, str) and word and word in short else "WORD"
        side = "user" if "assistant" in self._given else "assistant"
        say = f"--roles user={example} or --roles assistant={example}"
        if self._given:
            say = f"add {side}={example} to --roles, or {side}={ANY_OTHER} for every other word"
        return f"{short}: say who it is: {say}; known: {', '.join(dict.fromkeys((*self.words, *ROLES)))}"

    def renamed(self, value: Any, skipped: Callable[[str], None], depth: int = _DEEPEST_LIST) -> Any:
        """A row, or what is in it, in which the messages have the roles that their words stand for. `skipped` gets the
        word of each message that is left out."""
        if isinstance(value, dict):
            return {
                name: self.renamed(structured(inner) if name in _LISTS else inner, skipped, depth - 1)
                if depth and isinstance(inner, dict | list | str)
                else inner
                for name, inner in value.items()
            }
        if not isinstance(value, list):
            return value
        kept = []
        for entry in value:
            key = next((key for key, texts in _SPEAKERS.items() if _says(entry, key, texts)), None)
            role = None if key is None else self.role_of(entry[key])
            if role == SKIP and key is not None:
                skipped(entry[key])
            elif key is not None and role is not None and role != ROLES.get(entry[key]):
                kept.append({**entry, key: role})
            else:
                kept.append(self.renamed(entry, skipped, depth - 1) if depth and key is None else entry)
        return kept


def _says(entry: Any, key: str, texts: tuple[str, ...]) -> bool:
    """Whether an entry of a list is a message whose speaker stands under `key`."""
    return isinstance(entry, dict) and isinstance(entry.get(key), str) and any(text in entry for text in texts)


def messages_of(entries: Any) -> tuple[Message, ...]:
    """Read a log's list of messages, as `{role, content}` or `{from, value}`, with their tool calls and thoughts.

    They are in the order of the list, or in that of time if the newest stands first. Raises Unusable if it is not a
    list of such messages.
    """
    entries = structured(entries)
    if is_python_list(entries):
        raise Unusable(Reason.NO_MESSAGES, PYTHON_LIST)
    if not isinstance(entries, (list, tuple)) or not entries:
        what = "an empty list of messages" if entries == [] else "no list of messages"
        raise Unusable(Reason.NO_MESSAGES, "not a list of messages" if entries else what)
    messages: list[Message] = []
    places = range(len(entries))
    for index in reversed(places) if _is_newest_first(entries) else places:
        entry = entries[index]
        if (plain := _plain_message(entry, index)) is not None:
            messages.append(plain)
            continue
        for message in messages_in(entry, index):
            add_message(messages, message, is_call=_name_of_role(entry) in _CALLING)
    if not messages:
        raise Unusable(Reason.NO_MESSAGES, "a list of messages that say nothing")
    return tuple(messages)


def _is_newest_first(entries: Sequence[Any]) -> bool:
    """Whether every message has a time and is older than the one before it; a reply may have the time of the request
    that stands after it. Two messages tell nothing: clocks differ, and a chat may begin with a greeting."""
    if len(entries) < 2 or not all(isinstance(entry, Mapping) and entry.get("timestamp") for entry in entries):
        return False
    falls = 0
    for place, (before, after) in enumerate(pairwise(seconds_of(entry["timestamp"]) for entry in entries)):
        if before is None or after is None or before < after:
            return False
        if before == after and [_role_of(entry) for entry in entries[place : place + 2]] != ["assistant", "user"]:
            return False
        falls += before > after
    return falls > 1 or (falls == 1 and len(entries) > 2 and _role_of(entries[0]) == "assistant")


def _role_of(entry: Any) -> Role | None:
    return ROLES.get(str(_name_of_role(entry)).lower())


def _plain_message(entry: Any, index: int) -> Message | None:
    """The message of an entry that holds a role and a text and nothing else that matters, as most do: a short way."""
    if not isinstance(entry, dict) or not entry.keys().isdisjoint(_RARE):
        return None
    content = entry.get("content") or entry.get("value")
    name = entry.get("role") or entry.get("from")
    if type(content) is not str or type(name) is not str:
        return None
    role = _PLAIN_ROLES.get(name)
    if role is None or (role == "assistant" and may_hold_markup(content)):
        return None
    when = entry.get("timestamp")
    text = content if content.isascii() else encodable(content)
    return Message(role, text, None if when is None else time_of(when), index)


def messages_in(entry: Any, index: int) -> list[Message]:
    """The messages of one entry of a log's list, at place `index`: usually one.

    More if the entry also holds the answers of tools: those that Anthropic writes into a user's message come before it,
    those inside a reply come after their calls. An empty list if the entry says nothing. Raises Unusable.
    """
    if (plain := _plain_message(entry, index)) is not None:
        return [plain]
    if not isinstance(entry, Mapping):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
    name = _name_of_role(entry)
    role = (ROLES.get(name) or ROLES.get(name.lower())) if isinstance(name, str) else None
    if role is None:
        raise Unusable(Reason.UNKNOWN_ROLE, f"message {index} has role {RoleWords({}).unknown(name)}")
    content = entry["content"] if entry.get("content") is not None else entry.get("value")
    when, what = time_of(entry.get("timestamp")), f"message {index}"
    if isinstance(name, str) and name.lower() in _CALLING:
        calls = calls_of(content) or (call_of(""),)
        return [Message("assistant", "", when, index, tool_calls=calls)]
    attached = _attached(entry)
    if role == "assistant":
        replies = _reply(_pieces_of_reply(entry, content, what) + attached, when, index)
        return as_cut(replies) if is_cut(entry) else replies
    if role == "tool" and is_approval(content):
        return []
    if role == "tool":
        return _answers(answer_pieces(content, what) + attached, entry, when, index)
    pieces = [] if attached and not content else pieces_of(content, what)
    return _others(pieces + attached, role, when, index)


def message_of(entry: Any, index: int) -> Message:
    """Read one message; `index` is its place in the log's list. Raises Unusable."""
    messages = messages_in(entry, index)
    if not messages:
        raise Unusable(Reason.BAD_CONTENT, f"message {index} has no text")
    return messages[-1]


def replies_of(entries: Sequence[Mapping[str, Any]], index: int) -> list[Message]:
    """A model's reply, which OpenAI's Responses API writes as several items; [] if the model failed.

    Raises Unusable.
    """
    messages: list[Message] = []
    for entry in entries:
        is_call = _name_of_role(entry) in _CALLING
        if is_call or any(entry.get(key) for key in ("tool_calls", "function_call", "refusal", *_THOUGHTS)):
            pass
        elif entry.get("content") is None:
            continue
        for message in messages_in(entry if is_call else {**entry, "role": "assistant"}, index):
            add_message(messages, message, is_call=True)
    return messages


def add_message(messages: list[Message], message: Message, is_call: bool = False) -> None:
    """Append a message. It becomes one with the reply before it if that is all thoughts, or if this one (`is_call`) is
    an item that only continues it."""
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant" or message.role != "assistant":
        messages.append(message)
    elif is_call or (last.reasoning and not last.content and not last.tool_calls):
        messages[-1] = replace(
            last if last.content or last.tool_calls else message,
            content="\n".join(filter(None, (last.content, message.content))),
            tool_calls=last.tool_calls + message.tool_calls,
            reasoning="\n".join(filter(None, (last.reasoning, message.reasoning))) or None,
            has_media=last.has_media or message.has_media,
            is_cut=last.is_cut or message.is_cut,
        )
    else:
        messages.append(message)


def as_cut(messages: Sequence[Message]) -> list[Message]:
    """The messages, the last of which is a reply that did not end by itself. What is no reply stays as it is."""
    *before, last = messages if messages else (None,)
    return [*before, replace(last, is_cut=True)] if last and last.role == "assistant" else list(messages)


def last_reply(messages: Sequence[Message]) -> int | None:
    """The place of the last reply, if the user has said nothing after it. Answers of tools may follow it: a turn that
    shows an image or a chart ends with one, and a judgement of the turn is about the reply that called for it."""
    for place in reversed(range(len(messages))):
        if messages[place].role in ("user", "assistant"):
            return place if messages[place].role == "assistant" else None
    return None


def _name_of_role(entry: Any) -> Any:
    return (
        (entry["role"] if entry.get("role") is not None else entry.get("from")) if isinstance(entry, Mapping) else None
    )


def _pieces_of_reply(entry: Mapping[str, Any], content: Any, what: str) -> list[Part]:
    """The pieces of a reply: thoughts and calls may stand in fields of their own, in parts, or in the text."""
    thoughts = [text for name in _THOUGHTS if (text := thought_text(entry.get(name)))]
    pieces = [Part("thought", text) for text in dict.fromkeys(thoughts)]
    calls = calls_of(entry.get("tool_calls")) or calls_of(entry.get("function_call"))
    if content is None:
        audio = entry.get("audio")
        spoken = audio.get("transcript") if isinstance(audio, Mapping) else None
        content = next((text for text in (entry.get("refusal"), spoken) if isinstance(text, str)), None)
        if content is None and isinstance(audio, Mapping):
            content = [{"type": "audio"}]
    for piece in running([] if content is None and (pieces or calls) else pieces_of(content, what)):
        is_text = piece.kind == "text" and not piece.has_media and may_hold_markup(piece.text)
        pieces += pieces_of_reply(piece.text) if is_text else [piece]
    return pieces + [Part("call", call=call) for call in calls]


def _reply(pieces: Sequence[Part], when: str | None, index: int) -> list[Message]:
    """The messages of one entry of the assistant. Answers of tools follow what called them."""
    messages: list[Message] = []
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    has_media = False

    def close() -> None:
        nonlocal has_media
        content, reasoning = "\n".join(texts), "\n".join(thoughts) or None
        reply = Message(
            "assistant", content, when, index, tool_calls=tuple(calls), reasoning=reasoning, has_media=has_media
        )
        add_message(messages, reply)
        for collected in (texts, thoughts, calls):
            collected.clear()
        has_media = False

    for piece in pieces:
        if piece.kind == "result":
            if texts or thoughts or calls:
                close()
            messages.append(_answer(piece, when, index))
        elif piece.kind == "call" and piece.call is not None:
            calls.append(piece.call)
        elif piece.text or piece.kind == "text":
            (thoughts if piece.kind == "thought" else texts).append(piece.text)
            has_media = has_media or piece.has_media
    if texts or thoughts or calls:
        close()
    return messages


def _answers(pieces: Sequence[Part], entry: Mapping[str, Any], when: str | None, index: int) -> list[Message]:
    """The messages of one entry of a tool: its text is one answer, and each part that is an answer is another."""
    names = ("tool_call_id", "tool_use_id", "call_id", "toolCallId")
    call_id = next((name for key in names if (name := name_of(entry.get(key)))), None)
    tool = next((name for key in ("name", "tool_name", "toolName") if (name := name_of(entry.get(key)))), None)
    results = [piece for piece in pieces if piece.kind == "result"]
    named = (piece._replace(id=piece.id or call_id, name=piece.name or tool) for piece in results)
    answers = [_answer(piece, when, index) for piece in named]
    texts = [piece for piece in pieces if piece.kind == "text"]
    if texts or not answers:
        text, has_media = "\n".join(piece.text for piece in texts), any(piece.has_media for piece in texts)
        answers.append(Message("tool", text, when, index, tool_call_id=call_id, name=tool, has_media=has_media))
    return answers


def _others(pieces: Sequence[Part], role: Role, when: str | None, index: int) -> list[Message]:
    """The messages of one entry of a user or the system. Answers of tools come first, as the API wants them."""
    messages = [_answer(piece, when, index) for piece in pieces if piece.kind == "result"]
    texts = [piece for piece in pieces if piece.kind == "text"]
    if texts:
        text, has_media = "\n".join(piece.text for piece in texts), any(piece.has_media for piece in texts)
        messages.append(Message(role, text, when, index, has_media=has_media))
    return messages


def _answer(piece: Part, when: str | None, index: int) -> Message:
    return Message("tool", piece.text, when, index, tool_call_id=piece.id, name=piece.name, has_media=piece.has_media)


def _attached(entry: Mapping[str, Any]) -> list[Part]:
    """A mark for each image or file that a message holds beside its content."""
    marks: list[str] = []
    for name, mark in _ATTACHED.items():
        value = entry.get(name)
        for file in value if isinstance(value, list) else ():
            types = [file.get(key) for key in ("type", "contentType")] if isinstance(file, Mapping) else []
            kind = next((kind for kind in types if isinstance(kind, str)), "")
            own_mark = f"[{kind.split('/')[0]}]"
            marks.append(own_mark if own_mark in MEDIA_MARKS else mark)
    return [Part("text", mark, has_media=True) for mark in marks]
