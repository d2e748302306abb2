"""LMArena and MT-Bench: two conversations side by side and a vote; and the log of FastChat's own server.

Each side is a conversation. The vote is a thumb on its last reply: up for the side that won, down for the side that
lost, down for both if both were bad; a tie says nothing about either.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import ConversationDraft, has, has_any, messages_of, name_of, structured, time_of, truth_of
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.judgements import no_reply
from drift.logs.traces.texts import first_name
from drift.logs.unread import MESSAGE, keys
from drift.records import Rating, Reason, stable_hash

_VOTES = {
    "model_a": (1.0, -1.0), "model_b": (-1.0, 1.0), "a": (1.0, -1.0), "b": (-1.0, 1.0), "left": (1.0, -1.0),
    "right": (-1.0, 1.0), "leftvote": (1.0, -1.0), "rightvote": (-1.0, 1.0), "both_bad": (-1.0, -1.0),
    "bothbad": (-1.0, -1.0), "tie (bothbad)": (-1.0, -1.0), "bothbad_vote": (-1.0, -1.0), "upvote": (1.0, 0.0),
    "downvote": (-1.0, 0.0), "tie": (0.0, 0.0), "tievote": (0.0, 0.0),
}  # fmt: skip
_USERS = ("judge", "judge_hash", "user_id", "ip")
_IDS = ("question_id", "id", "conversation_pair_id")

KEYS = keys(
    "model_a model_b winner vote winner_model_a winner_model_b winner_tie prompt response_a response_b turn language"
    f" tstamp timestamp type models model {' '.join((*_USERS, *_IDS))}",
    conversation_a=MESSAGE,
    conversation_b=MESSAGE,
    conv_metadata={},
    states=keys("model_name messages offset system_message"),
    state=keys("model_name messages offset system_message"),
)


def recognises(row: Mapping[str, Any]) -> bool:
    is_pair = any(
        first in row and second in row and has_any(row, (first, second))
        for first, second in (("conversation_a", "conversation_b"), ("response_a", "response_b"))
    )
    return (is_pair and bool(row.keys() & {"winner", "winner_model_a", "vote", "model_a"})) or _is_vote(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _sides)


def _is_vote(row: Mapping[str, Any]) -> bool:
    return has(row, "tstamp") and isinstance(row.get("type"), str) and bool(row.keys() & {"states", "state"})


def _sides(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    if _is_vote(value) and value["type"] not in _VOTES:
        kind = value["type"][:40]
        yield Reject(row.at, Reason.NOT_A_CHAT, f"a record of type {kind}")
        return
    verdicts, name = _verdicts(value), first_name(value, names=_IDS)
    sides = list(_conversations(value))
    if not sides:
        raise Unusable(Reason.NO_MESSAGES, "no conversation on either side")
    # One question is judged by many people: each vote is a conversation of its own.
    votes = [part for key in ("turn", "judge", "judge_hash", "model_a", "model_b") if (part := name_of(value.get(key)))]
    family = None if name is None else f"{name}/{stable_hash(*votes)}" if votes else name
    metadata = structured(value.get("conv_metadata"))
    about = ConversationDraft(
        at=row.at,
        messages=(),
        user=first_name(value, metadata, names=_USERS),
        language=name_of(value.get("language")),
        started_at=time_of(value.get("tstamp", value.get("timestamp"))),
        family=family,
        root=name,
    )
    unused: list[Reject] = []
    for (side, model, entries), verdict in zip(sides, verdicts, strict=False):
        messages = messages_of(entries)
        replies = [place for place, message in enumerate(messages) if message.role == "assistant"]
        ratings = (Rating(replies[-1], "thumb", verdict),) if replies and verdict else ()
        unused += [] if replies or not verdict else [no_reply(row.at)]
        source_id = None if family is None else f"{family}/{side}"
        last = len(messages) - 1  # the two sides begin alike
        yield replace(about, messages=messages, ratings=ratings, model=model, source_id=source_id, identity_until=last)
    yield from unused


def _verdicts(row: Mapping[str, Any]) -> tuple[float, float]:
    """The judgement of each side; 0 for none. Raises Unusable if the vote is an unknown word."""
    columns = [row.get(f"winner_{name}") for name in ("model_a", "model_b", "tie")]
    if any(column is not None for column in columns):
        chosen = [name for name, column in zip(("model_a", "model_b", "tie"), columns, strict=True) if truth_of(column)]
        return _VOTES[chosen[0]] if chosen else (0.0, 0.0)
    vote = next((row[key] for key in ("winner", "vote") if row.get(key) is not None), row.get("type"))
    if vote is None:
        return 0.0, 0.0
    verdicts = _VOTES.get(vote.strip().lower()) if isinstance(vote, str) else None
    if verdicts is None:
        raise Unusable(Reason.BAD_CONTENT, f"an unknown vote; allowed: {', '.join(_VOTES)}")
    return verdicts


def _conversations(row: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    """Each side with its model and its messages."""
    if has_any(row, ("response_a", "response_b")):
        prompts = _listed(row.get("prompt"))
        for side in "ab":
            yield side, name_of(row.get(f"model_{side}")), _turns(prompts, _listed(row.get(f"response_{side}")))
        return
    if has_any(row, ("conversation_a", "conversation_b")):
        for side in "ab":
            yield side, name_of(row.get(f"model_{side}")), row.get(f"conversation_{side}")
        return
    states = structured(row.get("states")) or [row.get("state")]
    models = structured(row.get("models")) or [row.get("model")]
    for place, state in enumerate(map(structured, states if isinstance(states, list) else [])):
        if isinstance(state, Mapping):
            given = models[place] if isinstance(models, list) and place < len(models) else None
            yield "ab"[place % 2], name_of(state.get("model_name")) or name_of(given), _of_state(state)


def _listed(value: Any) -> list[Any]:
    value = structured(value)
    return value if isinstance(value, list) else [value]


def _turns(prompts: list[Any], replies: list[Any]) -> list[dict[str, Any]]:
    """The messages of a side whose requests and replies stand in two lists. A reply that failed is null."""
    turns: list[dict[str, Any]] = []
    for place, prompt in enumerate(prompts):
        turns.append({"role": "user", "content": prompt})
        if place < len(replies) and replies[place] is not None:
            turns.append({"role": "assistant", "content": replies[place]})
    return turns


def _of_state(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages that a server of FastChat kept: `[role, text]`, of which the first `offset` are its own examples."""
    entries, offset = structured(state.get("messages")), state.get("offset")
    entries = entries if isinstance(entries, list) else []
    begin = offset if isinstance(offset, int) and offset > 0 else 0
    turns: list[dict[str, Any]] = []
    system = state.get("system_message")
    if isinstance(system, str) and system.strip():
        turns.append({"role": "system", "content": system})
    for entry in entries[begin:]:
        if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None:
            parts = entry[1][0] if isinstance(entry[1], list) and entry[1] else entry[1]
            turns.append({"role": entry[0], "content": parts})
    return turns
