"""What tests of readers share: rows in, conversations and refusals out, through recognition as the command does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.logs.files.rows import Reject
from drift.logs.reading import Reading, read_logs
from drift.records import Conversation


@dataclass(frozen=True)
class Outcome:
    """What was read. `formats`: those that were recognised, in the order of the files."""

    conversations: list[Conversation]
    rejects: list[Reject]
    formats: list[str]
    merged: int

    @property
    def only(self) -> Conversation:
        (conversation,) = self.conversations
        return conversation

    @property
    def reasons(self) -> list[str]:
        return [reject.reason.value for reject in self.rejects]

    def texts(self, place: int = 0) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in self.conversations[place].messages]


def outcome_of(files: Sequence[Path], format_name: str | None = None) -> Outcome:
    reading = Reading()
    found = list(read_logs(list(files), format_name, None, str, reading))
    conversations = [one for one in found if isinstance(one, Conversation)]
    rejects = [one for one in found if isinstance(one, Reject)]
    return Outcome(conversations, rejects, list(reading.formats.values()), reading.merged)


@pytest.fixture
def read(tmp_path) -> Callable[..., Outcome]:
    """Reads rows (or, by file name, the rows of several files) as a log; `format_name` skips recognition."""

    def one(*rows: Any, format_name: str | None = None, **files: list[Any]) -> Outcome:
        named = files or {"log": list(rows)}
        written = []
        for name, inside in named.items():
            written.append(tmp_path / f"{name}.jsonl")
            written[-1].write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in inside))
        return outcome_of(written, format_name)

    return one


@pytest.fixture
def read_files() -> Callable[..., Outcome]:
    """Reads files as they are."""
    return lambda *files: outcome_of(files)
