"""The native format, also that of OpenAI's fine-tuning files: `{messages: [{role, content}]}`.

Optional on the row: `id`, `user`, `model`, `timestamp`, `language` and `feedback` (on the last reply); on a message of
the assistant: `feedback`. Feedback is a thumb (1 or -1, "up" or "down", true or false), or an object with `thumb` (one
of these) and `comment`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, messages_of, name_of, structured, text_of, time_of
from drift.logs.files.rows import LogRow, Reject, Unusable, short_form
from drift.logs.unread import MESSAGE, keys
from drift.records import Message, Rating, Reason

_WORDS = {"up": 1.0, "thumbs_up": 1.0, "positive": 1.0, "down": -1.0, "thumbs_down": -1.0, "negative": -1.0}

_FEEDBACK = keys("thumb comment")
KEYS = keys("id user model timestamp language", messages={**MESSAGE, "feedback": _FEEDBACK}, feedback=_FEEDBACK)


def recognises(row: Mapping[str, Any]) -> bool:
    return has_messages(row, "messages")


def has_messages(row: Mapping[str, Any], key: str) -> bool:
    """Whether a list under `key` has `{role, content}` or `{from, value}` in it: many formats name a list so, and
    their messages have other keys (`type`, `parts`, `text`, ...)."""
    entries = structured(row.get(key))
    return isinstance(entries, list | tuple) and any(
        isinstance(entry, Mapping)
        and (
            (isinstance(entry.get("role"), str) and "content" in entry)
            or (isinstance(entry.get("from"), str) and "value" in entry)
        )
        for entry in entries
    )


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    value = row.value
    entries = structured(value.get("messages"))
    messages = messages_of(entries)
    return ConversationDraft(
        at=row.at,
        messages=messages,
        source_id=name_of(value.get("id")),
        user=name_of(value.get("user")),
        model=name_of(value.get("model")),
        language=name_of(value.get("language")),
        started_at=time_of(value.get("timestamp")),
        ratings=tuple(_ratings(value.get("feedback"), entries, messages)),
    )


def _ratings(about_last: Any, entries: Sequence[Any], messages: tuple[Message, ...]) -> Iterator[Rating]:
    replies = [index for index, message in enumerate(messages) if message.role == "assistant"]
    for index in replies:
        feedback = entries[messages[index].source_index or 0].get("feedback")
        if feedback is not None:
            yield _thumb(feedback, index)
    if about_last is not None:
        if not replies:
            raise Unusable(Reason.ROLES_OUT_OF_ORDER, "feedback, but no reply before it")
        yield _thumb(about_last, replies[-1])


def _thumb(feedback: Any, reply_index: int) -> Rating:
    comment = None
    if isinstance(feedback, Mapping):
        comment = feedback.get("comment")
        comment = None if comment is None else text_of(comment, "the comment of the feedback")
        feedback = feedback.get("thumb")
    value = _WORDS.get(feedback.lower()) if isinstance(feedback, str) else None
    if isinstance(feedback, bool | int | float) and (feedback in (1, -1) or feedback is False):
        value = 1.0 if feedback == 1 else -1.0
    if value is None:
        allowed = f"1 or -1, true or false, {', '.join(_WORDS)}"
        raise Unusable(Reason.BAD_CONTENT, f"feedback {short_form(feedback)} is not a thumb; allowed: {allowed}")
    return Rating(reply_index, "thumb", value, comment)
