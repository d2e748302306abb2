"""Reads IARD (MIT): dialogues about movies in which every user turn carries intents (Cai and Chen, UMAP 2020). The
embedded labeller is fitted and measured on its expressed dissatisfaction."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from drift.errors import DataError
from drift.feedback.embedded.features import Turn

FOLDS, TEST_FOLD = 5, 0
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
