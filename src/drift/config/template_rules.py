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


def without_own_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for a name that is drift's own."""
    if taken := sorted(RESERVED & arguments.keys()):
        raise ValueError(f"{taken[0]} is set by drift, not by the template's user; remove it from template_arguments")
    return arguments


def iso_date(text: Any) -> str | None:
    """Raises ValueError for anything but a date such as 2026-11-28 (which YAML reads as a date)."""
    try:
        return text if text is None else date.fromisoformat(str(text)).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no date; write it as 2026-11-28") from None
