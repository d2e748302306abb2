"""How a template switches thinking on and off, measured by trying its arguments; and its marks around a thought."""

import re
from collections.abc import Mapping
from typing import Any

from drift.endpoint.thoughts import MARKS
from drift.policy.chat.template import ChatTemplate, TemplateRefusal, names_in
from drift.records import ChatMessage, Thinking

_ASKED = (ChatMessage("user", "a"),)
_CLOSED_THOUGHT = re.compile(
    "|".join(rf"(?:{re.escape(opening)}.*?)?{re.escape(closing)}\s*" for opening, closing in MARKS),
    re.IGNORECASE | re.DOTALL,
)
_BREAKS = r"(?:\\n)*"
"""Line breaks as the text of a template writes them, in its strings."""
_COUNTS_TOKENS = re.compile("budget|tokens|limit", re.IGNORECASE)
_SAYS_NO = re.compile(r"^(no|not|disable|skip|without|hide)_|_(off|disabled)$")


def thinking_arguments(template: ChatTemplate, thinking: Thinking) -> dict[str, Any]:
    """The template arguments that switch thinking off (`off`) or on (every other mode).

    A switch is an argument with `think` or `reason` in its name that changes the prompt of a plain request. An argument
    that the user set is left alone, and so is one whose default is what the mode wants. A budget of thoughts in tokens
    is 0 for `off`, and otherwise what the template or the user says.
    """
    wanted: dict[str, Any] = {}
    for name in names_in(template.text, "(?i:think|reason)"):
        if name in template.arguments:
            continue
        if _COUNTS_TOKENS.search(name):
            if thinking == "off" and _prompt(template, {name: 0}) not in (None, _prompt(template, {})):
                wanted[name] = 0
            continue
        on = not _SAYS_NO.search(name)
        default, switched_on, switched_off = (_prompt(template, set_to) for set_to in ({}, {name: on}, {name: not on}))
        if default is None or switched_on is None or switched_off is None:
            continue
        if switched_on.replace(str(on), "") == switched_off.replace(str(not on), ""):
            continue  # the template shows the argument's value, and does nothing else with it
        if thinking == "off" and default != switched_off:
            wanted[name] = not on
        elif thinking != "off" and default != switched_on:
            wanted[name] = on
    return wanted


def _prompt(template: ChatTemplate, arguments: Mapping[str, Any]) -> str | None:
    """The prompt of a plain request under these arguments too; None if the template refuses them."""
    changed = ChatTemplate(template.tokenizer, {**template.arguments, **arguments}, template.date)
    try:
        return changed.render(_ASKED, generation_prompt=True)
    except TemplateRefusal:
        return None


def closing_of(generation_prompt: str) -> str | None:
    """What ends the thought that a generation prompt opens; None if the prompt does not end in an opening mark.

    Behind a mark on a line of its own, the closing mark stands on a line of its own too, with an empty line after it.
    """
    bare = generation_prompt.rstrip()
    closing = next((closing for opening, closing in MARKS if bare.endswith(opening)), None)
    if closing is None:
        return None
    return f"\n{closing}\n\n" if generation_prompt.endswith("\n") else closing


def without_closed_thoughts(text: str) -> str:
    """The text without pairs of marks and what stands between them, and without closing marks that stand alone."""
    return _CLOSED_THOUGHT.sub("", text)


def named_marks(text: str) -> tuple[str, str] | None:
    """The marks around a thought that the template's own text names, with the line breaks that it writes beside them.

    The line breaks of an empty thought (`<think>\\n\\n</think>`) belong to both marks alike.
    """
    for opening, closing in MARKS:
        if opening in text and closing in text:
            empty = rf"({re.escape(opening)})({_BREAKS})({re.escape(closing)})"
            parted = re.sub(empty, lambda found: f"{found[1]}{_half(found[2])} {_half(found[2])}{found[3]}", text)
            behind_opening, before_closing, behind_closing = (
                "\n" * max(len(breaks) // 2 for breaks in re.findall(pattern, parted))
                for pattern in (
                    rf"{re.escape(opening)}({_BREAKS})",
                    rf"({_BREAKS}){re.escape(closing)}",
                    rf"{re.escape(closing)}({_BREAKS})",
                )
            )
            return opening + behind_opening, before_closing + closing + behind_closing
    return None


def _half(breaks: str) -> str:
    return breaks[: len(breaks) // 4 * 2]
