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
            if change is None:
                continue
            before, changed = changed, change(changed)
            if changed != before:
                names.append(NAMES[change])
        if changed not in seen:
            seen.add(changed)
            yield tuple(names), changed


def _merge(messages: Messages) -> Messages:
    merged: list[ChatMessage] = []
    for message in messages:
        before = merged[-1] if merged else None
        if before is not None and message.role == before.role and _is_text(message) and _is_text(before):
            thoughts = _joined(before.reasoning or "", message.reasoning or "") or None
            merged[-1] = replace(before, content=_joined(before.content, message.content), reasoning=thoughts)
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
    """The messages at these places become the beginning of the next user message, or the end of the last user message.

    They stay in their order. A message with calls stays where it is; without a user message, all do.
    """
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    folded = [place for place in places if _is_text(messages[place])] if users else []
    before, after = ([list[str]() for _ in messages] for _ in range(2))
    for place in folded:
        text = f"{label}{messages[place].content}" if messages[place].content else ""
        following = next((user for user in users if user > place), None)
        (after[users[-1]] if following is None else before[following]).append(text)
    return tuple(
        replace(message, content=_joined(*before[place], message.content, *after[place]))
        for place, message in enumerate(messages)
        if place not in folded
    )


def _is_text(message: ChatMessage) -> bool:
    """Whether its content is all that it says: no call, and no answer of a tool."""
    return not message.tool_calls and message.role != "tool"


def _joined(*texts: str) -> str:
    return GAP.join(text for text in texts if text)


NAMES: dict[Callable[[Messages], Messages], str] = {
    _merge: "merged",
    _fold_system: "system_folded",
    _fold_later_system: "system_folded",
    _fold_greeting: "greeting_folded",
}
