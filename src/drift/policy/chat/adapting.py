"""Conversations that a template refuses, changed as little as it takes: every text stays, and each change has a name.

merged            consecutive messages of one role become one message
system_folded     a system message becomes the beginning of the next user message
greeting_folded   replies before the first user message become, marked as such, the beginning of that message
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from drift.records import ChatMessage

Messages = tuple[ChatMessage, ...]
GAP = "\n\n"


def adaptations(messages: Sequence[ChatMessage]) -> Iterator[tuple[tuple[str, ...], Messages]]:
    """The conversation itself, and then what each set of changes makes of it, the smallest sets first."""
    original = tuple(messages)
    options = product((None, _fold_greeting), (None, _fold_later_system, _fold_system), (None, _merge))
    seen = set[Messages]()
    for changes in sorted(options, key=lambda option: sum(change is not None for change in option)):
        names, changed = [], original
        for change in changes:
            before = changed
            changed = change(changed) if change is not None else changed
            if change is not None and changed != before:
                names.append(NAMES[change])
        if changed not in seen:
            seen.add(changed)
            yield tuple(names), changed


def _merge(messages: Messages) -> Messages:
    merged: list[ChatMessage] = []
    for message in messages:
        if merged and message.role == merged[-1].role and _is_text(message) and _is_text(merged[-1]):
            merged[-1] = replace(merged[-1], content=_joined(merged[-1].content, message.content))
        else:
            merged.append(message)
    return tuple(merged)


def _fold_system(messages: Messages) -> Messages:
    return _folded(messages, [place for place, message in enumerate(messages) if message.role == "system"], "")


def _fold_later_system(messages: Messages) -> Messages:
    places = [place for place, message in enumerate(messages) if message.role == "system" and place]
    return _folded(messages, places, "")


def _fold_greeting(messages: Messages) -> Messages:
    first_user = next((place for place, message in enumerate(messages) if message.role == "user"), 0)
    greetings = [place for place in range(first_user) if messages[place].role == "assistant"]
    return _folded(messages, greetings, "assistant: ")


def _folded(messages: Messages, places: Sequence[int], label: str) -> Messages:
    """Each of these messages becomes the beginning of the next user message; without one, the end of the last."""
    kept = list[ChatMessage | None](messages)
    for place in reversed(places):
        message = messages[place]
        later = next((i for i in range(place + 1, len(kept)) if (m := kept[i]) and m.role == "user"), None)
        target = later if later is not None else _last_user(kept)
        user = None if target is None else kept[target]
        if target is None or user is None or not _is_text(message):
            continue
        text = f"{label}{message.content}" if message.content else ""
        parts = (text, user.content) if later is not None else (user.content, text)
        kept[target] = replace(user, content=_joined(*parts))
        kept[place] = None
    return tuple(message for message in kept if message is not None)


def _last_user(messages: Sequence[ChatMessage | None]) -> int | None:
    return next((i for i in reversed(range(len(messages))) if (m := messages[i]) and m.role == "user"), None)


def _is_text(message: ChatMessage) -> bool:
    return not message.tool_calls and message.role != "tool"


def _joined(*texts: str) -> str:
    return GAP.join(text for text in texts if text)


NAMES: dict[Callable[[Messages], Messages], str] = {
    _merge: "merged",
    _fold_system: "system_folded",
    _fold_later_system: "system_folded",
    _fold_greeting: "greeting_folded",
}
