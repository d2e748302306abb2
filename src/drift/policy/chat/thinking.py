"""Whether a template makes the model think, found by trying its arguments out; and its marks around a thought."""

import re
from collections.abc import Mapping
from typing import Any

from drift.endpoint.thoughts import MARKS
from drift.policy.chat.template import ChatTemplate, TemplateRefusal, words_of
from drift.records import ChatMessage, Thinking

_ASKED = (ChatMessage("user", "a"),)
_EMPTY_THOUGHT = re.compile(
    "|".join(rf"{re.escape(opening)}\s*{re.escape(closing)}\s*" for opening, closing in MARKS), re.IGNORECASE
)
_CLOSED_THOUGHT = re.compile(
    "|".join(rf"{re.escape(opening)}.*?{re.escape(closing)}\s*" for opening, closing in MARKS),
    re.IGNORECASE | re.DOTALL,
)
_COUNTS_TOKENS = re.compile("budget|tokens|limit", re.IGNORECASE)
_SAYS_NO = re.compile(r"^(no|not|disable|skip|without|hide)_|_(off|disabled)$")


def thinking_arguments(template: ChatTemplate, thinking: Thinking) -> dict[str, Any]:
    """The template arguments that switch thinking off, or on for `keep` and for what `strip` samples.

    A budget of thoughts in tokens is 0 for `off`, and otherwise what the template or the user says.

    A switch is an argument about thinking that changes the prompt for a plain request when it is set. An argument that
    the user set, and one whose default is what is wanted already, stays as it is.
    """
    wanted: dict[str, Any] = {}
    for name in words_of(template.text, "(?i:think|reason)"):
        if name in template.arguments:
            continue
        if _COUNTS_TOKENS.search(name):
            if thinking == "off" and _prompt(template, {name: 0}) not in (None, _prompt(template, {})):
                wanted[name] = 0
            continue
        on = not _SAYS_NO.search(name)
        default, *set_to = (_prompt(template, arguments) for arguments in ({}, {name: on}, {name: not on}))
        switched_on, switched_off = set_to
        if default is None or switched_on is None or switched_off is None:
            continue
        if switched_on.replace(str(on), "") == switched_off.replace(str(not on), ""):  # nothing but its value is shown
            continue
        if thinking == "off" and default != switched_off:
            wanted[name] = not on
        elif thinking != "off" and default != switched_on:
            wanted[name] = on
    return wanted


def _prompt(template: ChatTemplate, arguments: Mapping[str, Any]) -> str | None:
    changed = ChatTemplate(template.tokenizer, {**template.arguments, **arguments}, template.date)
    try:
        return changed.render(_ASKED, generation_prompt=True)
    except TemplateRefusal:
        return None


def closing_of(generation_prompt: str) -> str | None:
    """What ends the thought that a generation prompt leaves open; None if it ends in no opening mark.

    The line breaks are those of the models that write `<think>` on a line of its own.
    """
    bare = generation_prompt.rstrip()
    closing = next((closing for opening, closing in MARKS if bare.endswith(opening)), None)
    if closing is None:
        return None
    return f"\n{closing}\n\n" if generation_prompt.endswith("\n") else closing


def without_empty_thoughts(text: str) -> str:
    return _EMPTY_THOUGHT.sub("", text)


def without_closed_thoughts(text: str) -> str:
    return _CLOSED_THOUGHT.sub("", text)


def named_marks(text: str) -> tuple[str, str] | None:
    """The marks around a thought that the template's own text names."""
    return next(((opening, closing) for opening, closing in MARKS if opening in text and closing in text), None)
