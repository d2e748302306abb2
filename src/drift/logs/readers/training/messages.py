"""The native format, also that of OpenAI's fine-tuning files: `{messages: [{role, content}]}`.

Optional on the row: `id`, `user`, `model`, `timestamp`, `language` (or other usual names of these, see `who`), the id
of the chat that the row is a part of (`conversation_id`, `session_id`, ...), `system`, `tools` (schemas), `response`
(the reply to the messages: a text, a message, or the events of its stream), `tags` (an object of texts, numbers and
truth values, for `drift live --by`) and judgements of the last reply (`feedback`, `rating` and others of VERDICTS); on
a message of the assistant: such judgements, `tool_calls`, `reasoning_content` and `finish_reason` (`length`: the reply
was cut at a token limit; on the row it is about the last reply). A judgement is a thumb (1 or -1, true or false), a
word ("up", "dislike", ...), stars (`4/5`), or an object with one of these (`thumb`, `rating`, ...) and a `comment`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drift.logs.convert import IN_METADATA, WHO, Outcome, many_per_row, who, with_beside
from drift.logs.draft import ConversationDraft, as_cut, last_reply, messages_of, name_of, structured
from drift.logs.entries import ROLES
from drift.logs.files.rows import LogRow, Reject, Unusable, encodable
from drift.logs.judgements import no_reply
from drift.logs.traces.endings import ended_early
from drift.logs.traces.streams import unstreamed, whole_reply
from drift.logs.traces.texts import SESSIONS, plain_messages, reply_messages
from drift.logs.traces.verdicts import INSIDE, JUDGED, VERDICTS, is_unrated, judgements_beside
from drift.logs.unread import BESIDE, MESSAGE, keys
from drift.records import Message, Rating, Reason

_FEEDBACK = ("feedback", "user_feedback")  # of a chat without a reply, these show that the row is broken
_OTHERS = tuple(name for name in VERDICTS if name not in _FEEDBACK)
_BESIDE_MESSAGES = frozenset(("tags", "response", *VERDICTS))

_JUDGEMENT = dict.fromkeys(VERDICTS, keys(f"comment {' '.join(INSIDE)}"))
KEYS = {
    **keys(
        f"tags {' '.join(WHO)}",
        metadata=keys(" ".join(IN_METADATA)),
        messages={**MESSAGE, **_JUDGEMENT},
        response={**MESSAGE, **keys("choices message")},
    ),
    **_JUDGEMENT,
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


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """A `response` is read if it holds a reply and the messages end with a request; `tags`, if they are an object; a
    judgement, if it is one of a reply."""
    entries = structured(row.get("messages"))
    listed = entries if isinstance(entries, list) else []
    if not _BESIDE_MESSAGES.isdisjoint(row):
        yield from _unread_beside(row, [entry for entry in listed if type(entry) is dict])
    for entry in listed:
        if type(entry) is dict and not JUDGED.isdisjoint(entry) and _role_of(entry) != "assistant":
            yield from (f"messages.{name}" for name in VERDICTS if not is_unrated(entry.get(name)))


def _unread_beside(row: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if (tags := row.get("tags")) and len(_tags(tags)) < (len(tags) if isinstance(tags, Mapping) else 1):
        yield "tags"
    has_reply = _is_answered(row.get("response"), entries)
    if not has_reply and row.get("response") not in (None, "", [], {}):
        yield "response"
    if not has_reply and "assistant" not in map(_role_of, entries):
        yield from (name for name in _OTHERS if not is_unrated(row.get(name)))


def _is_answered(response: Any, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a `response` is the reply to the messages."""
    if response in (None, "", [], {}):
        return False
    asked = _role_of(entries[-1] if entries else {}) in ("user", "tool")
    return asked and bool(plain_messages(unstreamed(response), "assistant"))


def _role_of(entry: Mapping[str, Any]) -> str | None:
    return ROLES.get(str(entry.get("role", entry.get("from"))).lower())


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    entries = structured(value.get("messages"))
    messages, about = messages_of(entries), who(value)
    if about.get("source_id") is None and about.get("chat_id") is None:
        _check_one_chat(entries)
    if messages[-1].role in ("user", "tool") and (response := whole_reply(value.get("response"))):
        replies = reply_messages(plain_messages(response, "assistant"), len(entries))
        messages += tuple(as_cut(replies) if ended_early(response) else replies)
    is_judged = not JUDGED.isdisjoint(value) or [1 for entry in entries if not JUDGED.isdisjoint(entry)]
    judged = list(_ratings(row, entries, messages)) if is_judged else []
    draft = ConversationDraft(
        at=row.at,
        messages=messages,
        ratings=tuple(rating for rating in judged if isinstance(rating, Rating)),
        tags=_tags(value.get("tags")),
        **about,
    )
    yield with_beside(draft, value)
    yield from (reject for reject in judged if isinstance(reject, Reject))


def _check_one_chat(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises Unusable if the messages of a row that names no chat name several: an export of all messages."""
    for name in SESSIONS:
        chats = {chat for entry in entries if name in entry and (chat := name_of(entry[name]))}
        if len(chats) > 1:
            detail = (
                f"messages of {len(chats)} chats ({name}) in one list: take them out (jq -c '.messages[]' FILE > "
                f"rows.jsonl) and ingest rows.jsonl with --map conversation={name},role=role,content=content"
            )
            raise Unusable(Reason.NO_CONVERSATION, detail)


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


def _ratings(row: LogRow, entries: Sequence[Any], messages: tuple[Message, ...]) -> Iterator[Rating | Reject]:
    """The judgements in a row, those that say neither good nor bad, and those of nothing. The judgement of an entry is
    about the last of the replies in it: an entry may also hold calls of tools. That of a row is about the last reply,
    but not where its `response` says that none came, or its last entry is a reply that says nothing."""
    replies = {m.source_index: index for index, m in enumerate(messages) if m.role == "assistant" and not _is_empty(m)}
    for place, entry in enumerate(entries):
        if _role_of(entry) == "assistant":
            judged = judgements_beside(row.at, entry, replies.get(place, 0))
            yield from judged if place in replies else (no_reply(row.at) for _ in judged)
    empty = [place for place, entry in enumerate(entries) if _role_of(entry) == "assistant" and place not in replies]
    if not replies and not empty and not all(is_unrated(row.value.get(name)) for name in _FEEDBACK):
        raise Unusable(Reason.ROLES_OUT_OF_ORDER, "feedback, but no reply before it")
    says_nothing = max(empty, default=-1) >= (messages[-1].source_index or 0)
    has_none = last_reply([m for m in messages if m.role != "assistant" or not _is_empty(m)]) is None
    is_unanswered = has_none and (says_nothing or row.value.get("response") is not None)
    judged = judgements_beside(row.at, row.value, max(replies.values(), default=0))
    if is_unanswered:
        yield from (no_reply(row.at) for _ in judged)
    elif replies:
        yield from judged


def _is_empty(reply: Message) -> bool:
    return not reply.content.strip() and not reply.tool_calls
