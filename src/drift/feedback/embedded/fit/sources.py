"""The labelled turns that the embedded labeller is fitted on and measured with, besides its own phrase book.

Gold labels of real chats, each with its turn in the logs and the fold of its conversation; and IARD (MIT), dialogues
about movies whose user turns carry intents (Cai and Chen, UMAP 2020), of which the expressed dissatisfaction is used.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from drift.errors import DataError
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.labeller import reactions
from drift.feedback.gold import GoldVerdict, read_gold
from drift.records import Conversation

FOLDS = 5


@dataclass(frozen=True, slots=True)
class GoldTurn:
    """`conversation`: the id that the log gave it."""

    conversation: str
    turn: Turn
    truth: GoldVerdict

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


TEST_FOLD = 0
MOVIE = re.compile(r"@?\d* ?<[^>]*>|@\d+")


@dataclass(frozen=True, slots=True)
class IardTurn:
    """`dissatisfied`: the user rejects, criticises or reformulates; `accepts`: they take the suggestion."""

    dialogue: str
    turn: Turn
    dissatisfied: bool
    accepts: bool

    @property
    def is_test(self) -> bool:
        """The dialogues that no fit and no choice may see."""
        return int(hashlib.sha256(self.dialogue.encode()).hexdigest(), 16) % FOLDS == TEST_FOLD


def read_iard(path: Path) -> list[IardTurn]:
    """Each user turn that directly follows the assistant. Raises DataError with file:line on a row of another shape."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Give --iard the file iard.jsonl.") from None
    turns: list[IardTurn] = []
    for number, line in enumerate(lines, 1):
        try:
            turns += _turns(orjson.loads(line))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}:{number}: not an IARD dialogue ({type(error).__name__}: {error}).") from None
    return turns


def _turns(row: dict[str, Any]) -> Iterator[IardTurn]:
    request, reply = "", None
    for turn in row["turns"]:
        text = MOVIE.sub("Movie", turn["text"]).replace("...", ". ")
        if turn["role"] == "assistant":
            reply = text
            continue
        if reply is not None:
            intents = turn["sub_intents"]
            dissatisfied = any(intent in ("REJ", "REF") or intent.startswith("CRI-") for intent in intents)
            yield IardTurn(row["dialogue"], Turn(text, reply, request), dissatisfied, "ACC" in intents)
        request, reply = text, None
