"""The guided prompt: the policy sees the disliked reply and the complaint, and answers the same request again.

Only sampling uses it. The prompt of the training pair is the request alone, so the policy learns to give the improved
answer at once. Do not change `INSTRUCTION` or `guided_turn`: the shipped checkpoints were trained on this format.
"""

import re
from dataclasses import replace

from drift.errors import DataError
from drift.records import ChatMessage, PromptItem

INSTRUCTION = "Answer again so that this feedback is resolved. Give only the new answer."

_FENCE = re.compile(r"<(\s*/?\s*)feedback\b", re.IGNORECASE)


def guided_turn(complaint: str) -> str:
    """The user message that asks for a better answer.

    The complaint is data, whatever it says: anything in it that looks like the fence mark, also with spaces or
    attributes, is broken up here; `chat.render` breaks up control tokens of the chat template.
    """
    quoted = _FENCE.sub(r"<\1 feed-back", complaint.strip())
    return f"<feedback>\n{quoted}\n</feedback>\n{INSTRUCTION}"


def guided_messages(item: PromptItem) -> tuple[ChatMessage, ...]:
    """Request, disliked reply, complaint with instruction. Raises DataError if reply or complaint is missing."""
    if item.rejected is None or item.complaint is None:
        raise DataError(
            f"prompt {item.prompt_id}: it has no disliked reply or no complaint; sample it with recipe.guided_share=0."
        )
    return (*item.prompt, item.rejected, ChatMessage("user", guided_turn(item.complaint.content)))


HINDSIGHT = "This is what the user wrote after an earlier answer to this message. Answer the message with it in mind."


def informed_messages(prompt: tuple[ChatMessage, ...], follow_up: ChatMessage) -> tuple[ChatMessage, ...]:
    """The request, with what the user wrote after the reply to it; for self-distillation, which never samples from it.

    The words are ours; that the follow-up stands at the end of the request and the reply is left out is as in the
    authors' code (arXiv 2603.12273; lasgroup/user_interactions).
    """
    quoted = _FENCE.sub(r"<\1 feed-back", follow_up.content.strip())
    *before, request = prompt
    return (*before, replace(request, content=f"{request.content}\n\n<feedback>\n{quoted}\n</feedback>\n{HINDSIGHT}"))
