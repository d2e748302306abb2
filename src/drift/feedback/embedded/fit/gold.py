"""Reads gold labels of real chats: JSONL rows {conversation_id, message_index, label} about conversations of a log."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from drift.errors import DataError
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.labeller import reactions
from drift.records import Conversation

FOLDS = 5
Truth = Literal["DSAT", "SAT", "NEUTRAL"]


@dataclass(frozen=True, slots=True)
class GoldTurn:
    """`conversation`: the id that the log gave it."""

    conversation: str
    turn: Turn
    truth: Truth

    @property
    def fold(self) -> int:
        """0..FOLDS-1; turns of one conversation share it."""
        return fold_of(self.conversation)


def fold_of(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % FOLDS


def read_gold(path: Path, conversations: Iterable[Conversation]) -> list[GoldTurn]:
    """The undisputed labels, with their turns from the logs. `message_index` counts the log's own entries.

    Raises DataError with file:line on a row of another shape, or about a turn that is not in the conversations.
    """
    turns: dict[tuple[str | None, int | None], Turn] = {}
    for conversation in conversations:
        for reaction in reactions(conversation):
            place = conversation.messages[reaction.user_index].source_index
            turns[conversation.source_id, place] = reaction.turn
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Give --gold a JSONL file of labels.") from None
    found = []
    for number, line in enumerate(lines, 1):
        told = _told(f"{path}:{number}", line)
        key = (told["conversation_id"], told["message_index"])
        if told["label"] == "DISPUTED":
            continue
        if key not in turns:
            raise DataError(
                f"{path}:{number}: no user turn after a reply at message {key[1]} of conversation {key[0]!r}. "
                "Give the logs that these labels are about."
            )
        found.append(GoldTurn(key[0], turns[key], told["label"]))
    if not found:
        raise DataError(f"{path}: no undisputed label in it.")
    return found


def _told(at: str, line: bytes) -> Mapping[str, Any]:
    allowed = (*get_args(Truth), "DISPUTED")
    try:
        row = orjson.loads(line)
        if row["label"] not in allowed:
            raise DataError(f"{at}: label {row['label']!r}; allowed: {', '.join(allowed)}.")
        return {
            "conversation_id": str(row["conversation_id"]),
            "message_index": row["message_index"],
            "label": row["label"],
        }
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{at}: no gold label ({type(error).__name__}: {error}); "
            "a row has conversation_id, message_index and label."
        ) from None
