"""Preference files: two replies to one request, or one reply with a label.

| tool | shape |
|---|---|
| TRL, hh-rlhf, others | `prompt`, `chosen`, `rejected`: texts or messages; without a prompt, both begin with it |
| ms-swift | `messages` with `rejected_response` or `rejected_messages` |
| LLaMA-Factory | `conversations`, `messages` or `instruction` (with `input`, `history`), `chosen`, `rejected` |
| OpenAI | `input`, `preferred_output`, `non_preferred_output` |
| any of these, KTO | `prompt`, `completion`, `label`; `messages` with `label`; any request with `kto_tag` |

The conversation is the request with the rejected reply, which a correction judges: the chosen reply is what it says. A
label is a thumb on the last reply.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drift.logs.convert import Outcome, many_per_row, with_beside
from drift.logs.draft import (
    ConversationDraft,
    has,
    has_any,
    messages_of,
    name_of,
    numbered,
    structured,
    time_of,
    truth_of,
)
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, short_form
from drift.logs.readers.training.alpaca import entries_of, has_request
from drift.logs.unread import BESIDE, MESSAGE, keys
from drift.logs.values import PYTHON_LIST, is_python_list
from drift.records import Message, Rating, Reason, stable_hash

_SIDES = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred", "rejected"),
    ("preferred", "dispreferred"),
)
_REJECTED_BESIDE = ("rejected_messages", "rejected_response")
_LABELS = ("label", "kto_tag")
_HISTORIES = ("messages", "conversations", "conversation", "prompt", "question", "context")
_COMPLETIONS = ("completion", "response", "output", "answer")
_SPEAKERS = re.compile(r"\s*\n\n(Human|Assistant):\s?")
_TRUE_FALSE = ("true", "false", "t", "f")

_MESSAGES = (*itertools.chain(*_SIDES), *_REJECTED_BESIDE, *_HISTORIES, *_COMPLETIONS)
KEYS = {
    **keys("id user user_id model language timestamp created_at instruction query history"),
    **BESIDE,
    **keys(" ".join(_LABELS), **dict.fromkeys(_MESSAGES, MESSAGE), input={**MESSAGE, **BESIDE, "messages": MESSAGE}),
}


def recognises(row: Mapping[str, Any]) -> bool:
    if has_any(row, ("score_chosen", "user_preference", "user_preferences")):
        return False
    if _sides(row) is not None:
        return True
    return _label_key(row) is not None and _is_label(row[_label_key(row) or ""])


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _drafts)


def _sides(row: Mapping[str, Any]) -> tuple[str | None, str] | None:
    """The keys of the preferred and the rejected reply. The former is None if it is the last of `messages`."""
    if has(row, "messages") and (beside := next((key for key in _REJECTED_BESIDE if row.get(key)), None)):
        return None, beside
    return next((sides for sides in _SIDES if has(row, *sides)), None)


def _label_key(row: Mapping[str, Any]) -> str | None:
    """The key of the label of a reply. Other files also call a class of texts `label`."""
    key = next((key for key in _LABELS if row.get(key) is not None), None)
    is_truth = key is not None and str(row[key]).lower() in _TRUE_FALSE
    if key == "label" and not is_truth and not has(row, "prompt", "completion"):
        return None
    return key if has_request(row) or has_any(row, _HISTORIES) else None


def _is_label(value: Any) -> bool:
    """Also a number that is no label: the row is refused by its name then."""
    return isinstance(value, int) or truth_of(value) is not None


def _drafts(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    sides = _sides(value)
    if sides is None and _label_key(value) is None:  # a row of this format in which a side is null
        sides = next((sides for sides in _SIDES if value.keys() >= set(sides)), None)
    if sides is None:
        yield with_beside(_labelled(row.at, value), value)
        return
    preferred, rejected = sides
    if preferred is None:
        whole = messages_of(structured(value.get("messages")))
        history, chosen = _cut_before_reply(whole)
    else:
        history, chosen = _request(value), _side(value.get(preferred), preferred)
    several = structured(value.get(rejected))
    is_several = isinstance(several, list) and bool(several) and all(isinstance(reply, str) for reply in several)
    for reply in several if is_several else [several]:
        draft = _judged(row.at, value, history, chosen, _side(reply, rejected))
        yield with_beside(draft, value, structured(value.get("input")))


def _judged(
    at: Place,
    row: Mapping[str, Any],
    history: tuple[Message, ...],
    chosen: tuple[Message, ...],
    rejected: tuple[Message, ...],
) -> ConversationDraft:
    """The draft of a request with its rejected reply. Raises Unusable if one of them is missing."""
    if chosen[0].role != "assistant" and rejected[0].role != "assistant":
        history, chosen, rejected = _without_beginning(history, chosen, rejected)
    elif chosen[0].role != "assistant" or rejected[0].role != "assistant":
        # one side repeats the request
        chosen, rejected = _cut_before_reply(chosen)[1], _cut_before_reply(rejected)[1]
    if not history or history[-1].role == "assistant":
        detail = "no request before the replies" if not history else "the request ends with a reply"
        raise Unusable(Reason.ROLES_OUT_OF_ORDER, detail)
    reply, better = _end_of_turn(rejected), _end_of_turn(chosen)
    if reply is None or better is None:
        raise Unusable(Reason.NO_MESSAGES, "a side without a reply")
    text = chosen[better].content
    place = len(history) + reply
    rating = Rating(place, "correction", -1.0, preferred=text) if text.strip() else Rating(place, "score", -1.0)
    return _draft(at, row, (*history, *rejected), rating)


def _without_beginning(
    history: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Both sides hold the whole chat: the request is what they have in common. A `prompt` beside them repeats it, but
    may have a system message more."""
    size = 0
    for one, other in zip(chosen, rejected, strict=False):
        if (one.role, one.content, one.tool_calls) != (other.role, other.content, other.tool_calls):
            break
        size += 1
    if size == len(chosen) == len(rejected):  # both replies are the same
        size -= 1
    while size and chosen[size - 1].role == "assistant":  # a turn that begins alike, with the same call
        size -= 1
    common = chosen[:size]
    system = history[:1] if history and history[0].role == "system" and common and common[0].role != "system" else ()
    return (*system, *common), chosen[size:], rejected[size:]


def _end_of_turn(messages: Sequence[Message]) -> int | None:
    """The place of the last reply before the user speaks."""
    place = None
    for index, message in enumerate(messages):
        if message.role == "user":
            break
        if message.role == "assistant":
            place = index
    return place


def _cut_before_reply(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The request, up to the last user's message, and the turn after it. Raises Unusable if there is no turn."""
    last = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1)
    if last + 1 == len(messages):
        raise Unusable(Reason.ROLES_OUT_OF_ORDER, "the messages end with the user: no preferred reply")
    return messages[: last + 1], messages[last + 1 :]


def _labelled(at: Place, row: Mapping[str, Any]) -> ConversationDraft:
    """The draft of a reply with a label."""
    messages = _request(row)
    if not has_any(row, ("messages", "conversations")):
        key = next((key for key in _COMPLETIONS if row.get(key) is not None), "completion")
        messages += _side(row.get(key), key)
    key = next((key for key in _LABELS if row.get(key) is not None), "label")
    label = row.get(key)
    is_liked = truth_of(label)
    if label is None:
        raise Unusable(Reason.BAD_CONTENT, "neither a rejected reply nor a label (true, false, 1, 0)")
    if is_liked is None:
        raise Unusable(Reason.BAD_CONTENT, f"{key} {short_form(label)} is not a label; allowed: true, false, 1, 0")
    places = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not places:
        raise Unusable(Reason.ROLES_OUT_OF_ORDER, f"a {key}, but no reply before it")
    return _draft(at, row, messages, Rating(places[-1], "thumb", 1.0 if is_liked else -1.0))


def _draft(at: Place, row: Mapping[str, Any], messages: tuple[Message, ...], rating: Rating) -> ConversationDraft:
    """Several replies to one request are rows of their own, so the judged reply belongs to the identity: in many files
    an id names the request."""
    name, reply = name_of(row.get("id")), messages[rating.reply_index]
    return ConversationDraft(
        at=at,
        messages=numbered(messages),
        source_id=None if name is None else f"{name}/{stable_hash(reply.content, reply.tool_calls)}",
        family=name,
        user=name_of(row.get("user", row.get("user_id"))),
        model=name_of(row.get("model")),
        language=name_of(row.get("language")),
        started_at=time_of(row.get("timestamp", row.get("created_at"))),
        ratings=(rating,),
        identity_until=rating.reply_index,
    )


def _request(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages before the replies; () if both sides hold them. Raises Unusable."""
    if has_request(row):
        return messages_of(entries_of(row, with_reply=False))
    value = next((row[key] for key in _HISTORIES if row.get(key) is not None), None)
    if value is None and isinstance(inner := structured(row.get("input")), Mapping):
        value = inner.get("messages")  # OpenAI
    elif value is None:
        value = inner
    value = structured(value)
    if isinstance(value, str):
        return messages_of(_spoken(value) or [{"role": "user", "content": value}])
    return () if value is None else messages_of([value] if isinstance(value, Mapping) else value)


def _side(value: Any, key: str) -> tuple[Message, ...]:
    """The messages of one side: a text, a message or several. Raises Unusable."""
    value = structured(value)
    if is_python_list(value):
        raise Unusable(Reason.BAD_CONTENT, f"{key} is {PYTHON_LIST}")
    if isinstance(value, str):
        return messages_of(_spoken(value) or [{"role": "assistant", "content": value}])
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not value:
        raise Unusable(Reason.NO_MESSAGES, f"{key} is not a reply: {short_form(value)}")
    messages = messages_of(value)
    if not messages:
        raise Unusable(Reason.NO_MESSAGES, f"{key} holds no message")
    return messages


def _spoken(text: str) -> list[dict[str, str]]:
    """The messages of a chat that is written as one text, as in hh-rlhf; [] if the text is not one."""
    if not text.startswith(("\n\nHuman:", "\n\nAssistant:")):
        return []
    pieces = _SPEAKERS.split(text)[1:]
    return [{"role": role, "content": said} for role, said in zip(pieces[::2], pieces[1::2], strict=True)]
