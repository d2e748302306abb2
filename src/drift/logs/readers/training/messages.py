"""The native format, also that of OpenAI's fine-tuning files: `{messages: [{role, content}]}`.

Optional on the row: `id`, `user`, `model`, `timestamp`, `language`, `system`, `tools` (schemas), `response` (the reply
to the messages: a text, a message, or the events of its stream), `tags` (an object of texts, numbers and truth values,
for `drift live --by`) and `feedback` (on the last reply; also as `user_feedback`); on a message of the assistant:
`feedback`, `tool_calls`, `reasoning_content` and `finish_reason` (`length`: the reply was cut at a token limit; on the
row it is about the last reply). Feedback is a thumb (1 or -1, "up" or "down", true or false), or an object with `thumb`
(one of these) and `comment`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, as_cut, messages_of, name_of, structured, text_of, time_of
from drift.logs.entries import ROLES
from drift.logs.files.rows import LogRow, Reject, Unusable, encodable, short_form
from drift.logs.traces.endings import ended_early
from drift.logs.traces.streams import unstreamed, whole_reply
from drift.logs.traces.texts import plain_messages, reply_messages
from drift.logs.unread import BESIDE, MESSAGE, keys
from drift.records import Message, Rating, Reason

_ABOUT_LAST = ("feedback", "user_feedback")
_WORDS = {"up": 1.0, "thumbs_up": 1.0, "positive": 1.0, "down": -1.0, "thumbs_down": -1.0, "negative": -1.0}

_FEEDBACK = keys("thumb comment")
KEYS = {
    **keys(
        "id user model timestamp language tags",
        messages={**MESSAGE, "feedback": _FEEDBACK},
        response={**MESSAGE, **keys("choices message")},
    ),
    **dict.fromkeys(_ABOUT_LAST, _FEEDBACK),
    **BESIDE,
}


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


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """A `response` is read if it holds a reply and the messages end with a request; `tags`, if they are an object;
    `feedback` on a message of the assistant."""
    yield from _unread_in(row) if "tags" in row or "response" in row else ()
    entries = structured(row.get("messages"))
    for entry in entries if isinstance(entries, list) else ():
        if type(entry) is dict and entry.get("feedback") is not None and _role_of(entry) != "assistant":
            yield "messages.feedback"


def _unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    if (tags := row.get("tags")) and len(_tags(tags)) < (len(tags) if isinstance(tags, Mapping) else 1):
        yield "tags"
    response = row.get("response")
    if response is None or response in ("", [], {}):
        return
    entries = structured(row.get("messages"))
    last = entries[-1] if isinstance(entries, list) and entries and isinstance(entries[-1], Mapping) else {}
    if _role_of(last) not in ("user", "tool") or not plain_messages(unstreamed(response), "assistant"):
        yield "response"


def _role_of(entry: Mapping[str, Any]) -> str | None:
    return ROLES.get(str(entry.get("role", entry.get("from"))).lower())


def _draft(row: LogRow) -> ConversationDraft:
    value = row.value
    entries = structured(value.get("messages"))
    messages = messages_of(entries)
    about_last = value.get("feedback")
    about_last = value.get("user_feedback") if about_last is None else about_last
    is_judged = about_last is not None or [1 for entry in entries if "feedback" in entry]
    if messages[-1].role in ("user", "tool") and (response := whole_reply(value.get("response"))):
        replies = reply_messages(plain_messages(response, "assistant"), len(entries))
        messages += tuple(as_cut(replies) if ended_early(response) else replies)
    return ConversationDraft(
        at=row.at,
        messages=messages,
        source_id=name_of(value.get("id")),
        user=name_of(value.get("user")),
        model=name_of(value.get("model")),
        language=name_of(value.get("language")),
        started_at=time_of(value.get("timestamp")),
        ratings=tuple(_ratings(about_last, entries, messages)) if is_judged else (),
        tags=_tags(value.get("tags")),
    )


def _tags(value: Any) -> dict[str, str]:
    """Texts, numbers and truth values by their name; the names that formats give to the places of messages are not
    for others."""
    if value is None:
        return {}
    known = value.items() if isinstance(value := structured(value), Mapping) else ()
    return {
        encodable(name): encodable(tag) if isinstance(tag, str) else str(tag).lower()
        for name, tag in known
        if isinstance(tag, str | bool | int | float) and not name.endswith("_turns")
    }


def _ratings(about_last: Any, entries: Sequence[Any], messages: tuple[Message, ...]) -> Iterator[Rating]:
    """The feedback of an entry is about the last of the replies in it: an entry may also hold calls of tools."""
    replies = {m.source_index: index for index, m in enumerate(messages) if m.role == "assistant"}
    for place, reply_index in replies.items():
        entry = entries[place] if place is not None and place < len(entries) else {}
        if (feedback := entry.get("feedback")) is not None:
            yield _thumb(feedback, reply_index)
    if about_last is not None:
        if not replies:
            raise Unusable(Reason.ROLES_OUT_OF_ORDER, "feedback, but no reply before it")
        yield _thumb(about_last, max(replies.values()))


def _thumb(feedback: Any, reply_index: int) -> Rating:
    comment = None
    if isinstance(feedback, Mapping):
        comment = feedback.get("comment")
        comment = None if comment is None else text_of(comment, "the comment of the feedback")
        if feedback.get("thumb") is None:
            raise Unusable(Reason.BAD_CONTENT, "feedback without its `thumb`")
        feedback = feedback["thumb"]
    value = _WORDS.get(feedback.lower()) if isinstance(feedback, str) else None
    if isinstance(feedback, bool | int | float) and (feedback in (1, -1) or feedback is False):
        value = 1.0 if feedback == 1 else -1.0
    if value is None:
        allowed = f"1 or -1, true or false, {', '.join(_WORDS)}"
        raise Unusable(Reason.BAD_CONTENT, f"feedback {short_form(feedback)} is not a thumb; allowed: {allowed}")
    return Rating(reply_index, "thumb", value, comment)
