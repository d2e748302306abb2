"""Chat templates: what the server shows a model, what the model has to write, and what it wrote, as text and as ids."""

from drift.policy.chat.format import (
    ChatFormat,
    EncodedPrompt,
    encode_completion,
    encode_conversation,
    encode_prompt,
    encode_user_turn,
    end_of_turn,
    reply_form,
    without_turns,
)
from drift.policy.chat.layout import ReplyForm
from drift.policy.chat.reading import ReadReply, decode, is_written_as, read_completion
from drift.policy.chat.report import TemplateReport, check_template

__all__ = [
    "ChatFormat",
    "EncodedPrompt",
    "ReadReply",
    "ReplyForm",
    "TemplateReport",
    "check_template",
    "decode",
    "encode_completion",
    "encode_conversation",
    "encode_prompt",
    "encode_user_turn",
    "end_of_turn",
    "is_written_as",
    "read_completion",
    "reply_form",
    "without_turns",
]
