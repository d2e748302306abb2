"""What `policy.template_arguments` and `policy.date` allow."""

from datetime import date
from typing import Any

RESERVED = frozenset(
    {
        *("conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
    }
)
"""Arguments of `apply_chat_template` that drift sets, or that are none of the template's."""

_WORDS = {"on": "true", "yes": "true", "off": "false", "no": "false"}
"""YAML 1.1's other words for true and false; here they are texts."""


def without_own_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for a name that is drift's own, and for a switch set to a word: templates take it for true."""
    if taken := sorted(RESERVED & arguments.keys()):
        raise ValueError(f"{taken[0]} is set by drift, not by the template's user; remove it from template_arguments")
    for name, value in arguments.items():
        meant = _WORDS.get(str(value).lower())
        if meant and (name.startswith("enable_") or name.endswith("thinking")):
            raise ValueError(f"{name} is {value!r}, a text, which templates take for true; write {meant}")
    return arguments


def iso_date(text: Any) -> str | None:
    """Raises ValueError for anything but a date such as 2026-11-28 (which YAML reads as a date)."""
    try:
        return text if text is None else date.fromisoformat(str(text)).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no date; write it as 2026-11-28") from None
