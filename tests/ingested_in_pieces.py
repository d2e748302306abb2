"""Logs ingested twice: by one process, and in pieces. The stores must be equal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drift.engine import Local, using_engine
from drift.logs.ingest import IngestSummary, ingest
from drift.store import Store


class InPieces(Local):
    """Pieces in this process, the last one first: no result may depend on their order."""

    workers = 2

    def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number in reversed(range(len(pieces))):
            yield number, work(pieces[number])


def both(
    tmp_path: Path, logs: Sequence[Path | str], *more: Sequence[Path | str], engine: Local | None = None, **options: Any
) -> list[Store]:
    """The logs in two stores, one ingestion after the other: in one process, and in pieces. Summaries are equal."""
    stores = [Store(tmp_path / "one"), Store(tmp_path / "pieces")]
    stores[1].add([])  # the same salt, and so the same users
    salt = (tmp_path / "pieces/manifest.json").read_bytes()
    stores[0].add([])
    (tmp_path / "one/manifest.json").write_bytes(salt)
    for each in (logs, *more):
        expected = ingest(each, stores[0], **options)
        with using_engine(engine or InPieces()):
            assert shown(ingest(each, stores[1], **options)) == shown(expected)
    assert rows(stores[1]) == rows(stores[0])
    assert stores[1].content_hash() == stores[0].content_hash()
    assert not (tmp_path / "pieces/.pieces").exists()
    return stores


def shown(summary: IngestSummary) -> dict[str, Any]:
    """Everything that a summary says, also what does not count when summaries are compared."""
    return asdict(summary)


def rows(store: Store) -> tuple[Any, ...]:
    return list(store.conversations()), list(store.quarantined())
