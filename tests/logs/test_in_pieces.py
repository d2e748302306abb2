"""Ingestion in pieces gives the store that one process gives: the same rows, counts, notes and hashes."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.bench.ingest import write_log
from drift.config import IngestionSettings
from drift.engine import Local, Processes, using_engine
from drift.errors import DataError
from drift.logs.files.sections import cut_into_sections
from drift.logs.ingest import ingest
from drift.logs.ingestion import pieces
from drift.store import Store, ranges_for
from ingested_in_pieces import InPieces, both


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 40_000)
    monkeypatch.setattr(pieces, "RANGE_BYTES", 50_000)


def error_of(log: Path, store: Path, engine: Local) -> str | None:
    try:
        with using_engine(engine):
            ingest([log], Store(store))
    except DataError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 240 kB of chats, with broken rows, a repeated and a grown chat, and blank lines."""
    path = tmp_path_factory.mktemp("log") / "chats.jsonl"
    write_log(path, 60, seed=1)
    lines = path.read_bytes().splitlines()
    grown = orjson.loads(lines[3])
    grown["messages"] += [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Now this."}]
    lines[50:50] = [b'{"id": "broken', b"", b"", b'{"id": "empty", "messages": []}']
    lines.append(orjson.dumps(grown))
    lines.insert(1, b'{"messages": "none"}')
    path.write_bytes(b"\n".join(lines))
    return path


def test_a_file_is_cut_at_its_lines(log: Path):
    sections = cut_into_sections(log, 40_000)
    assert len(sections) > 3
    assert b"".join(log.read_bytes()[one.start : one.stop] for one in sections) == log.read_bytes()
    assert all(log.read_bytes()[one.start - 1 : one.start] == b"\n" for one in sections[1:])
    whole = list(cut_into_sections(log, 10**6) or [])
    assert whole == []  # one piece is enough


def test_one_large_file(tmp_path: Path, log: Path):
    one, in_pieces = both(tmp_path, [log])
    assert len(list((one.path / "conversations").iterdir())) == 1
    assert len(list((in_pieces.path / "conversations").iterdir())) == 8
    lines = [note.line for note in in_pieces.quarantined()]
    assert lines == [2, 52, 55]  # counted from the start of the file


def test_growth_over_several_ingestions(tmp_path: Path, log: Path):
    lines = log.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_bytes(b"".join(lines[:60]))
    second.write_bytes(b"".join(lines[40:]))
    stores = both(tmp_path, [first], [second], [first, second])
    assert stores[1].read_up_to() == stores[0].read_up_to() == 2


def test_a_store_of_one_process_goes_on_in_pieces_and_back(tmp_path: Path, log: Path):
    halves = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    lines = log.read_bytes().splitlines(keepends=True)
    halves[0].write_bytes(b"".join(lines[:60]))
    halves[1].write_bytes(b"".join(lines[60:]))
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    ingest([halves[0]], store)
    with using_engine(InPieces()):
        ingest([halves[1]], store)
        ingest([halves[0]], other)
    ingest([halves[1]], other)
    assert store.content_hash() == other.content_hash()


@pytest.mark.slow
def test_logs_of_every_format(tmp_path: Path):
    """What belongs together is read together; counts of mixed formats differ in nothing but the order of notes."""
    seeds = Path(__file__).parent / "seeds"
    for number, file in enumerate(sorted(path for path in seeds.rglob("*") if path.is_file())):
        folder = tmp_path / str(number)
        (folder / "both").mkdir(parents=True)
        errors = [error_of(file, folder / "one", Local()), error_of(file, folder / "pieces", InPieces())]
        assert errors[0] == errors[1]
        if errors[0] is None:
            both(folder / "both", [file])


def test_packed_files_and_arrays_are_whole_pieces(tmp_path: Path, log: Path):
    chats = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b'{"id":"chat')]
    packed, array = tmp_path / "chats.jsonl.gz", tmp_path / "more.json"
    packed.write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, chats[:40]))))
    array.write_bytes(orjson.dumps(chats[30:]))
    assert cut_into_sections(packed, 1000) == cut_into_sections(array, 1000) == []
    both(tmp_path, [packed, array, log])


def test_consent_that_is_given_and_taken_back(tmp_path: Path):
    """The last version decides, in whichever piece it is."""
    chat = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4 " * 400}]}
    order = {"a": "yes no", "b": "no yes", "c": "yes yes", "d": "no no"}
    filler = [{**chat, "id": f"filler-{number}", "consent": "yes"} for number in range(60)]
    first = [{**chat, "id": name, "consent": given.split()[0]} for name, given in order.items()]
    last = [{**chat, "id": name, "consent": given.split()[1]} for name, given in order.items()]
    log = tmp_path / "chats.jsonl"
    log.write_bytes(b"\n".join(map(orjson.dumps, [*first, *filler, *last])))
    settings = IngestionSettings(require_consent={"consent": "yes"})
    stores = both(tmp_path, [log], settings=settings)
    assert {chat.source_id for chat in stores[1].conversations()} - {f["id"] for f in filler} == {"b", "c"}


def test_an_error_in_a_piece_leaves_the_store_as_it_was_and_is_resumed(tmp_path: Path, log: Path):
    class Interrupted(InPieces):
        def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            yield from list(super().each(work, pieces[:2]))
            raise KeyboardInterrupt

    store, done = Store(tmp_path / "store"), list[int]()

    class Counting(InPieces):
        def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            done.append(len(pieces))
            return super().each(work, pieces)

    with pytest.raises(KeyboardInterrupt), using_engine(Interrupted()):
        ingest([log], store)
    assert store.size() == 0
    with using_engine(Counting()):
        ingest([log], store)
    expected = Store(tmp_path / "expected")
    ingest([log], expected)
    assert done[0] == len(cut_into_sections(log, 40_000)) - 2
    assert store.content_hash() == expected.content_hash()


def test_several_processes(tmp_path: Path, log: Path):
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    ingest([log], one, settings=IngestionSettings(near_duplicates=True))
    with closing(Processes(2)) as engine, using_engine(engine):
        ingest([log], two, settings=IngestionSettings(near_duplicates=True))
    assert one.content_hash() == two.content_hash()
    assert list(one.repeats()) == list(two.repeats())


@pytest.mark.parametrize(("size", "ranges"), [(0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (80, 8), (10**9, 4096)])
def test_ranges_are_powers_of_two(size: int, ranges: int):
    assert ranges_for(size, 10) == ranges
