"""OpenAssistant (huggingface.co/datasets/OpenAssistant): trees of messages, one per row, or one message per row.

Each path from the prompt to a leaf is a conversation. Replies to one message are by different volunteers, so none is a
regeneration; readers ranked them. The best of a ranking is liked and the worst disliked, as scores; the others lie
between.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome
from drift.logs.draft import ConversationDraft, has, message_of, name_of, structured, time_of, truth_of
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, json_kind
from drift.logs.traces.gathering import gathered, in_time_order
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import keys
from drift.records import Rating, Reason

_ROLES = {"prompter": "user", "assistant": "assistant"}
_MAX_MESSAGES = 100_000

_MESSAGE = keys(
    "message_id parent_id user_id created_date text role lang message_tree_id deleted rank model_name replies"
)
KEYS = {**_MESSAGE, **keys("", prompt=_MESSAGE)}


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_message(row) or _is_tree(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return gathered(rows, group_of, _conversation, _alone)


def group_of(row: Mapping[str, Any]) -> str | None:
    return None if _is_tree(row) else name_of(row.get("message_tree_id"))


def id_of(row: Mapping[str, Any]) -> str | None:
    return name_of(row.get("message_id"))


def _is_message(row: Mapping[str, Any]) -> bool:
    return has(row, "message_id", "role") and "text" in row and bool({"parent_id", "message_tree_id"} & row.keys())


def _is_tree(row: Mapping[str, Any]) -> bool:
    prompt = structured(row.get("prompt"))
    return isinstance(prompt, Mapping) and "text" in prompt and ("replies" in prompt or "message_tree_id" in row)


def _alone(row: LogRow) -> Iterator[Outcome]:
    if not _is_tree(row.value):
        raise Unusable(Reason.NO_MESSAGES, "a message without a message_tree_id")
    entries = list(_flat(structured(row.value["prompt"])))
    yield from _paths(row.at, entries, name_of(row.value.get("message_tree_id")))


def _conversation(rows: list[LogRow]) -> Iterator[Outcome]:
    entries = in_time_order((row.value for row in rows), lambda entry: entry.get("created_date"))
    for outcome in _paths(rows[0].at, entries, name_of(rows[0].value.get("message_tree_id"))):
        yield replace(outcome, rows=0) if isinstance(outcome, Reject) else outcome


def _flat(prompt: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The messages of a tree, parents first, each with its parent's id."""
    waiting: list[tuple[Any, str | None]] = [(prompt, None)]
    for number in range(_MAX_MESSAGES):
        if not waiting:
            return
        entry, parent = waiting.pop()
        if not isinstance(entry, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"a message of the tree is {json_kind(entry)}")
        name = name_of(entry.get("message_id")) or f"#{number}"
        yield {**entry, "message_id": name, "parent_id": parent}
        replies = structured(entry.get("replies"))
        if isinstance(replies, list):
            waiting += [(reply, name) for reply in reversed(replies)]
    raise Unusable(Reason.TOO_LARGE, f"more than {_MAX_MESSAGES} messages in one tree")


def _paths(at: Place, entries: Sequence[Mapping[str, Any]], tree: str | None) -> Iterator[Outcome]:
    nodes = _nodes([entry for entry in entries if not truth_of(entry.get("deleted"))])
    language = next((name for entry in entries if (name := name_of(entry.get("lang")))), None)
    started = next((time for entry in entries if (time := time_of(entry.get("created_date")))), None)
    root = next((entry for entry in entries if entry.get("parent_id") is None), {})
    for outcome in paths(at, nodes, None, tree or next(iter(nodes), "")):
        if isinstance(outcome, ConversationDraft):
            user = name_of(root.get("user_id"))
            yield replace(outcome, language=language, started_at=started, user=user)
        else:
            yield outcome


def _nodes(entries: list[Mapping[str, Any]]) -> dict[str, Node]:
    names = {name for entry in entries if (name := name_of(entry.get("message_id")))}
    ranked = _ranked(entries)
    nodes: dict[str, Node] = {}
    for index, entry in enumerate(entries):
        name, role = name_of(entry.get("message_id")) or f"#{index}", entry.get("role")
        role = _ROLES.get(role, role) if isinstance(role, str) else role
        message = message_of(
            {"role": role, "content": entry.get("text"), "timestamp": entry.get("created_date")}, index
        )
        parent = name_of(entry.get("parent_id"))
        rating = _score(entry, ranked.get(parent, 0))
        # `seat` None: who wrote another reply did not see this one
        nodes[f"#{index}" if name in nodes else name] = Node(
            (message,),
            parent if parent in names and parent != name else None,
            name_of(entry.get("model_name")),
            (rating,) if rating is not None and message.role == "assistant" else (),
            seat=None,
        )
    connect(nodes, {})
    return nodes


def _ranked(entries: list[Mapping[str, Any]]) -> dict[str | None, int]:
    """How many replies to each message have a rank."""
    counts: dict[str | None, int] = {}
    for entry in entries:
        if _rank(entry) is not None:
            parent = name_of(entry.get("parent_id"))
            counts[parent] = counts.get(parent, 0) + 1
    return counts


def _rank(entry: Mapping[str, Any]) -> int | None:
    rank = entry.get("rank")
    rank = int(rank) if isinstance(rank, float) and rank.is_integer() else rank
    return rank if isinstance(rank, int) and not isinstance(rank, bool) and rank >= 0 else None


def _score(entry: Mapping[str, Any], count: int) -> Rating | None:
    """The rank among `count` replies on the scale from 1 (the best, rank 0) to -1."""
    rank = _rank(entry)
    if rank is None or count < 2:
        return None
    return Rating(0, "score", 1.0 - 2.0 * min(rank, count - 1) / (count - 1))
