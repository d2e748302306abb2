"""Completions batch by batch, each batch written down as soon as it is done: what was made is not made again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift.progress import report_progress
from drift.records import Finish
from drift.rundir import Journal


@dataclass(frozen=True, slots=True)
class Generated:
    """`token_ids` include the end token that was produced (`stop`), so that training sees exactly these ids.

    None: a server has kept them to itself.
    """

    text: str
    token_ids: tuple[int, ...] | None
    finish: Finish


Run = Callable[[Sequence[int]], Iterator[tuple[int, list[Generated]]]]
"""Numbers of batches in; each of them with its completions out, as they are done."""


def make_durably(work: Path | None, plan: Sequence[Sequence[int]], keys: Sequence[str], run: Run) -> list[Generated]:
    """A completion for each key, in order. `plan`: rows to batches, which are the same as if nothing had been stopped.

    Batches that the journal in `work` holds are taken from there; without `work`, nothing is written down.
    """
    found: dict[int, Generated] = {}
    tokens = 0
    with _journal(work, [[keys[row] for row in batch] for batch in plan]) as journal:
        done = journal.done if journal else {}
        for number, content in done.items():
            found.update(zip(plan[number], map(_read, content), strict=True))
        for number, replies in run([number for number in range(len(plan)) if number not in done]):
            found.update(zip(plan[number], replies, strict=True))
            tokens += sum(len(reply.token_ids or ()) for reply in replies)
            # not written down: if this command is cut short, the next one asks for the batch again
            failed = any(reply.finish == "error" for reply in replies)
            if journal is None or (not failed and journal.append(number, replies)):
                report_progress(len(found), len(keys), tokens)
    report_progress(len(found), len(keys), tokens)
    return [found[row] for row in range(len(keys))]


def _journal(work: Path | None, plan: object) -> AbstractContextManager[Journal | None]:
    if work is None:
        return nullcontext()
    work.mkdir(parents=True, exist_ok=True)
    return Journal.open(work, plan)


def _read(row: Mapping[str, Any]) -> Generated:
    ids = row["token_ids"]
    return Generated(row["text"], None if ids is None else tuple(ids), row["finish"])
