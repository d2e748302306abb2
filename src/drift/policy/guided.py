"""The guided prompt: the policy sees the disliked reply and the complaint, and answers the same request anew.

Only sampling sees it. The pair that is trained on keeps the request alone as its prompt, so the policy learns to give
the improved answer at once. `INSTRUCTION` and `guided_turn` are a format that trained policies depend on.
"""

import re

from drift.errors import DataError
from drift.records import ChatMessage, PromptItem

INSTRUCTION = "Answer again so that this feedback is resolved. Give only the new answer."

_FENCE = re.compile(r"<(/?)feedback>", re.IGNORECASE)


def guided_turn(complaint: str) -> str:
    """The user message that asks for a better answer. Fence marks inside the complaint lose their meaning."""
    quoted = _FENCE.sub(r"<\1 feedback>", complaint.strip())
    return f"<feedback>\n{quoted}\n</feedback>\n{INSTRUCTION}"


def guided_messages(item: PromptItem) -> tuple[ChatMessage, ...]:
    """Request, disliked reply, complaint with instruction.

    Raises DataError if the item carries no reply or no complaint.
    """
    if item.rejected is None or item.complaint is None:
        raise DataError(f"prompt {item.prompt_id}: no disliked reply or no complaint; sample it unguided.")
    return (*item.prompt, item.rejected, ChatMessage("user", guided_turn(item.complaint.content)))
