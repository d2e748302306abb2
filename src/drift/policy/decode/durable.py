"""Completions batch by batch, each batch written to the journal as soon as it is done, so that a run can resume."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift.progress import part_of, report_progress
from drift.records import Finish, ToolCall, tool_calls_of
from drift.rundir import Journal


@dataclass(frozen=True, slots=True)
class Generated:
    """A completion. `token_ids` include the sampled end token (`stop`), so that training sees exactly these ids.

    They are None if a server did not return them. `reasoning`, `tool_calls`: what is not part of the answer's text.
    """

    text: str
    token_ids: tuple[int, ...] | None
    finish: Finish
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


RunBatches = Callable[[Sequence[int]], Iterator[tuple[int, list[Generated]]]]
"""Batch numbers in; each with its completions out, as batches are done."""


def make_durably(
    work: Path | None, plan: Sequence[Sequence[int]], keys: Sequence[str], run: RunBatches
) -> list[Generated]:
    """A completion for each key, in order. `plan`: the rows of each batch, the same in a resumed run.

    Batches in the journal of the folder `work` are not run again; without `work`, there is no journal.
    """
    completions: dict[int, Generated] = {}
    tokens = 0
    with _journal(work, [[keys[row] for row in batch] for batch in plan]) as journal:
        done = journal.done if journal else {}
        for number, content in done.items():
            completions.update(zip(plan[number], map(_read, content), strict=True))
        report_progress(len(completions), len(keys))
        batches = run([number for number in range(len(plan)) if number not in done])
        while True:
            with part_of(len(keys), len(completions), tokens):  # a batch may take minutes, and tells how far it is
                number, replies = next(batches, (None, []))
            if number is None:
                break
            completions.update(zip(plan[number], replies, strict=True))
            tokens += sum(len(reply.token_ids or ()) for reply in replies)
            # a batch with failures is not written: if this command is stopped, the next one runs the batch again
            failed = any(reply.finish == "error" for reply in replies)
            if journal is None or (not failed and journal.append(number, replies)):
                report_progress(len(completions), len(keys), tokens)
    report_progress(len(completions), len(keys), tokens)
    return [completions[row] for row in range(len(keys))]


def _journal(work: Path | None, plan: object) -> AbstractContextManager[Journal | None]:
    if work is None:
        return nullcontext()
    work.mkdir(parents=True, exist_ok=True)
    return Journal.open(work, plan)


def _read(row: Mapping[str, Any]) -> Generated:
    ids = row["token_ids"]
    calls = tool_calls_of(row.get("tool_calls", ()))
    return Generated(row["text"], None if ids is None else tuple(ids), row["finish"], row.get("reasoning"), calls)
