"""What the pieces of an ingestion know, and the files that each of them writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from drift.config import IngestionSettings
from drift.disk import new_file
from drift.logs.ingestion.outcomes import Ingestion
from drift.records import write_jsonl
from drift.store import Forgotten, PieceWriter


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What every piece needs to know. `folder`: for what the pieces write. `ranges`: of ids, a power of two."""

    folder: Path
    ranges: int
    salt: str
    this_write: int
    stored: tuple[Path, ...]
    form: str | None
    source: str | None
    settings: IngestionSettings
    forgotten: Forgotten

    def file(self, number: int, kind: str) -> Path:
        """The file of this kind that the piece of this number writes."""
        return self.folder / f"{number:05d}.{kind}"


@contextmanager
def written_by(job: IngestJob, number: int, ingestion: Ingestion) -> Iterator[PieceWriter]:
    """A writer for the conversations and notes of a piece. At the end of the block its files are complete."""
    noting = bool(job.settings.require_consent)
    with (
        TemporaryDirectory(prefix="drift-piece-", dir=job.folder) as spill,
        new_file(job.file(number, "runs")) as runs,
        new_file(job.file(number, "notes")) as notes,
    ):
        with runs.open("wb") as runs_out, notes.open("wb") as notes_out:
            writer = PieceWriter(job.salt, runs_out, notes_out, job.ranges, Path(spill), noting)
            yield writer
            writer.close()
        if noting:
            with new_file(job.file(number, "ids")) as ids:
                write_jsonl(ids, (sorted(writer.ids), sorted(ingestion.refused)))
