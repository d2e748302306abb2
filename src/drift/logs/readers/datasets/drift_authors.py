"""The files of the DRIFT authors (github.com/cacayaya/DRIFT): one judged reply per row.

`prompt` (messages), `rejected` ([message]), `user_preference` ({role, content}: the user's reaction) and, in the seed
set, `chosen` ([message]: the reply that the user liked). The conversation is all of these in this order. Its identity
covers everything up to the judged reply, because several replies of one chat are separate rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, has, message_of, messages_of, name_of
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.unread import MESSAGE, keys
from drift.records import Message, Rating, Reason, Role

KEYS = keys("id", prompt=MESSAGE, rejected=MESSAGE, user_preference=MESSAGE, chosen=MESSAGE)


def recognises(row: Mapping[str, Any]) -> bool:
    """TRL's preference files also have `prompt`, `rejected` and `chosen`, but no `user_preference`."""
    is_judged = isinstance(row.get("prompt"), list) and has(row, "rejected")
    return is_judged and (has(row, "user_preference") or not has(row, "chosen"))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, lambda row: judged_draft(row, row.value.get("prompt")))


def judged_draft(row: LogRow, history: Any) -> ConversationDraft:
    """The draft of `history`, `rejected` and, if present, `user_preference` and `chosen`. Raises Unusable."""
    messages = list(messages_of(history))
    if messages and messages[-1].role == "assistant":
        raise Unusable(
            Reason.ROLES_OUT_OF_ORDER, "the prompt ends with a reply, so there is no request before `rejected`"
        )
    ratings = []
    parts: tuple[tuple[str, Role, float | None], ...] = (
        ("rejected", "assistant", -1.0),
        ("user_preference", "user", None),
        ("chosen", "assistant", 1.0),
    )
    judged = len(messages)
    for key, role, value in parts:
        if row.value.get(key) is None and key != "rejected":
            continue
        messages.append(_part(row.value.get(key), key, role, index=len(history) + len(messages) - judged))
        if value is not None:
            ratings.append(Rating(len(messages) - 1, "score", value))
    return ConversationDraft(
        at=row.at,
        messages=tuple(messages),
        source_id=name_of(row.value.get("id")),
        ratings=tuple(ratings),
        identity_until=judged,
    )


def _part(value: Any, key: str, role: Role, index: int) -> Message:
    """Read a message, or a list of one message. Raises Unusable."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        raise Unusable(Reason.NO_MESSAGES, f"{key} is not a message")
    message = message_of(value, index)
    if message.role != role:
        raise Unusable(Reason.ROLES_OUT_OF_ORDER, f"{key} has role {message.role}; allowed: {role}")
    return message
