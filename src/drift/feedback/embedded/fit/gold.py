"""Gold labels as training examples: each with its turn out of the logs, and the fold that its conversation is in."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drift.errors import DataError
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.labeller import reactions
from drift.feedback.gold import Truth, read_gold
from drift.records import Conversation

FOLDS = 5


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


def gold_turns(path: Path, conversations: Iterable[Conversation]) -> list[GoldTurn]:
    """The undisputed rows of a gold file, with their turns from the logs.

    Raises DataError with file:line on a row that is not a gold row, or whose turn is not in the conversations.
    """
    turns: dict[tuple[str | None, int | None], Turn] = {}
    for conversation in conversations:
        for reaction in reactions(conversation):
            place = conversation.messages[reaction.user_index].source_index
            turns[conversation.source_id, place] = reaction.turn
    undisputed: list[GoldTurn] = []
    for place, row in read_gold(path):
        if row.label == "DISPUTED":
            continue
        source_id, index = row.turn
        if (source_id, index) not in turns:
            raise DataError(
                f"{place}: conversation {source_id!r} has no user turn after a reply at message {index}. "
                "Give the logs that these labels are about."
            )
        undisputed.append(GoldTurn(str(source_id), turns[source_id, index], row.label))
    if not undisputed:
        raise DataError(f"{path}: holds no undisputed label. Give --gold a file with DSAT, SAT or NEUTRAL rows.")
    return undisputed
