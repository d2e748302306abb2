"""Conversations as HTML. Every text from a log is escaped here."""

from collections.abc import Iterator, Sequence
from html import escape

from drift.records import ChatMessage, Conversation, FeedbackLabel

MESSAGES_BEFORE, MESSAGES_AFTER = 20, 4  # around the judged reply
LONGEST = 20_000  # characters of one message: a pasted log must not make the page unusable

STYLE = """
.message { border-left: 4px solid #d0d5dd; margin: .5rem 0; padding: .3rem .8rem; }
.message .role { font-size: .75rem; color: #667085; }
.message .text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: inherit; }
.message.judged { border-color: #b54708; background: #fffaeb; }
.message.reaction { border-color: #175cd3; background: #eff8ff; }
.bar { position: sticky; top: 0; z-index: 1; background: white; padding: .5rem 0; }
.nicegui-content { max-width: 60rem; margin: auto; }
mark { background: #fde272; }
"""


def conversation_html(conversation: Conversation, label: FeedbackLabel) -> str:
    """The judged reply and the user's reaction, marked, with the messages around them."""
    messages = conversation.messages
    first = max(0, label.reply_index - MESSAGES_BEFORE)
    last = min(len(messages), (label.user_index or label.reply_index) + MESSAGES_AFTER + 1)
    return "".join(_message_parts(conversation, label, first, last))


def _message_parts(conversation: Conversation, label: FeedbackLabel, first: int, last: int) -> Iterator[str]:
    messages = conversation.messages
    if first:
        yield f"<p>… {first} earlier messages</p>"
    for index in range(first, last):
        kind, note = "", ""
        evidence = None
        if index == label.reply_index:
            kind, note = "judged", ": the judged reply"
        elif index == label.user_index:
            kind, note, evidence = "reaction", ": reaction", label.evidence
        yield message_html(messages[index], evidence, kind, note)
    if last < len(messages):
        yield f"<p>… {len(messages) - last} later messages</p>"


def chat_html(messages: Sequence[ChatMessage]) -> str:
    return "".join(message_html(message) for message in messages[-MESSAGES_BEFORE:])


def message_html(message: ChatMessage, evidence: str | None = None, kind: str = "", note: str = "") -> str:
    return (
        f'<div class="message {kind}"><div class="role">{escape(message.role + note)}</div>'
        f'<div class="text">{marked(message.content, evidence)}</div></div>'
    )


def marked(text: str, evidence: str | None) -> str:
    """The text, escaped, with the evidence in <mark> if the text contains it."""
    cut = text[:LONGEST] + (f" … ({len(text) - LONGEST} more characters)" if len(text) > LONGEST else "")
    before, match, after = cut.partition(evidence) if evidence else (cut, "", "")
    return escape(before) + (f"<mark>{escape(match)}</mark>" if match else "") + escape(after)
