"""Prompts out of a labelled store in pieces, for several processes: the file that one process writes.

Map (`find_candidates`): the candidates of one range of conversations, with a row for each that says what it repeats and
whose it is. Reduce: one process reads these rows in the order of the ids and copies the candidates that stay.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from drift.config import LabelSettings
from drift.disk import new_file
from drift.engine import in_pieces
from drift.pairs.disliked import STAGE, LabelReliability, PromptCandidate, candidates, first_of_each
from drift.records import Counts, Drop, Reason, Split, json_of
from drift.store import Store


@dataclass(frozen=True, slots=True)
class CandidatesOfRange:
    """How many candidates and drops a range of conversations has."""

    candidates: int
    drops: int


@dataclass(frozen=True, slots=True)
class PromptJob:
    """What every piece needs to know. `folder`: for what the pieces write."""

    folder: Path
    min_p_dsat: float
    split: Split | None
    reliability: LabelReliability

    def items(self, number: int) -> Path:
        return self.folder / f"{number:05d}.items"

    def rows(self, number: int) -> Path:
        return self.folder / f"{number:05d}.rows"


def write_prompts_in_pieces(
    out: Path, store: Store, settings: LabelSettings, split: Split | None, reliability: LabelReliability
) -> Counts:
    """Write the PromptItems of a split, or of all, with the current engine; the counts are those of `write_kept`."""
    ranges = [store.within(ids) for ids in store.id_ranges()]
    drops: Counter[str] = Counter()
    count = 0
    with store.pieces("prompts", settings.model_dump(mode="json"), split, sorted(reliability.include)) as folder:
        job = PromptJob(folder, settings.min_p_dsat, split, reliability)
        work = partial(find_candidates, job)
        in_pieces(work, list(enumerate(ranges)), CandidatesOfRange, folder / "journal", len(ranges))
        with out.open("wb") as lines:
            rows = (row for number in range(len(ranges)) for row in _read(job, number))
            for row in first_of_each(rows, settings.max_per_user):
                if isinstance(row, Drop):
                    drops[f"dropped.{row.reason}"] += 1
                else:
                    lines.write(row)
                    count += 1
    return {"rows": count, **drops}


def find_candidates(job: PromptJob, piece: tuple[int, Store]) -> CandidatesOfRange:
    """Map: write the candidates of one range of conversations, and a row for each of them and for each drop."""
    number, store = piece
    repeats = frozenset(repeat.conversation_id for repeat in store.repeats())
    counts: Counter[bool] = Counter()
    with (
        new_file(job.items(number)) as items_path,
        new_file(job.rows(number)) as rows_path,
        items_path.open("wb") as items,
        rows_path.open("wb") as rows,
    ):
        for row in candidates(store.labelled(job.split), job.min_p_dsat, job.reliability, repeats):
            counts[isinstance(row, Drop)] += 1
            if isinstance(row, Drop):
                note = (row.row_id, row.reason.value, None, None)
            else:
                note = (row.prompt_id, None, row.content, row.user_key)
                items.write(json_of(row.item, orjson.OPT_APPEND_NEWLINE))
            rows.write(orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE))
    return CandidatesOfRange(counts[False], counts[True])


def _read(job: PromptJob, number: int) -> Iterator[PromptCandidate[bytes] | Drop]:
    """The rows of a range; the item of a candidate is its line."""
    with job.items(number).open("rb") as items, job.rows(number).open("rb") as rows:
        for line in rows:
            prompt_id, reason, content, user_key = orjson.loads(line)
            if reason is not None:
                yield Drop(prompt_id, STAGE, Reason(reason))
            else:
                yield PromptCandidate(prompt_id, content, user_key, items.readline())
