"""The guided prompt: the policy sees the disliked reply and the complaint, and answers the same request anew.

Only sampling sees it. The pair that is trained on keeps the request alone as its prompt, so the policy learns to give
the improved answer at once. `INSTRUCTION` and `guided_turn` are a format that trained policies depend on.
"""

import re

from drift.errors import DataError
from drift.records import ChatMessage, PromptItem

INSTRUCTION = "Answer again so that this feedback is resolved. Give only the new answer."

_FENCE = re.compile(r"<(\s*/?\s*)feedback\b", re.IGNORECASE)


def guided_turn(complaint: str) -> str:
    """The user message that asks for a better answer.

    The complaint is data, a user's words whatever they say: what looks like a fence mark in it, spaced or with
    attributes too, is broken up; control tokens of the chat template are broken up where the prompt is rendered.
    """
    quoted = _FENCE.sub(r"<\1 feed-back", complaint.strip())
    return f"<feedback>\n{quoted}\n</feedback>\n{INSTRUCTION}"


def guided_messages(item: PromptItem) -> tuple[ChatMessage, ...]:
    """Request, disliked reply, complaint with instruction.

    Raises DataError if the item carries no reply or no complaint.
    """
    if item.rejected is None or item.complaint is None:
        raise DataError(f"prompt {item.prompt_id}: no disliked reply or no complaint; sample it unguided.")
    return (*item.prompt, item.rejected, ChatMessage("user", guided_turn(item.complaint.content)))
