"""Instruction files: `{instruction, input, output, history, system}` (Alpaca, LLaMA-Factory), and the older spelling of
ms-swift, `{query, response, history, system}`. `history` is a list of [request, reply]. They hold no judgements, but a
user's message may complain about the reply before it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import IN_METADATA, WHO, one_per_row, who
from drift.logs.draft import ConversationDraft, has_any, messages_of, structured
from drift.logs.files.rows import LogRow, Reject, Unusable, short_form
from drift.logs.unread import keys
from drift.records import Reason

_REQUESTS, _REPLIES = ("instruction", "query"), ("output", "response")

KEYS = keys(f"system history input {' '.join((*_REQUESTS, *_REPLIES, *WHO))}", metadata=keys(" ".join(IN_METADATA)))


def recognises(row: Mapping[str, Any]) -> bool:
    is_preference = has_any(row, ("chosen", "rejected", "kto_tag", "label", "rejected_response", "completions"))
    return has_request(row) and any(key in row for key in _REPLIES) and not is_preference


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    messages = messages_of(entries_of(row.value, with_reply=True))
    return ConversationDraft(at=row.at, messages=messages, identity_until=len(messages) - 1, **who(row.value))


def has_request(row: Mapping[str, Any]) -> bool:
    return has_any(row, _REQUESTS)


def entries_of(row: Mapping[str, Any], with_reply: bool) -> list[dict[str, Any]]:
    """The messages of a row as `{role, content}`: the system's, the history, the request and, if asked for, the reply.

    Raises Unusable.
    """
    system = row.get("system")
    entries = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    history = structured(row.get("history"))
    if history is not None and not isinstance(history, list):
        raise Unusable(Reason.BAD_CONTENT, f"history is not a list: {short_form(history)}")
    for turn in history or ():
        if not isinstance(turn, list) or len(turn) != 2:
            raise Unusable(Reason.BAD_CONTENT, f"a turn of the history is not [request, reply]: {short_form(turn)}")
        entries += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    request = next((row[key] for key in _REQUESTS if row.get(key) is not None), None)
    parts = [part for part in (request, row.get("input")) if part not in (None, "")]
    if not all(isinstance(part, str) for part in parts):
        raise Unusable(Reason.BAD_CONTENT, "the instruction or its input is not a text")
    entries.append({"role": "user", "content": "\n".join(parts)})
    if with_reply and (reply := next((row[key] for key in _REPLIES if row.get(key) is not None), None)) is not None:
        entries.append({"role": "assistant", "content": reply})
    return entries
