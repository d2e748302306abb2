"""A journal gives back every complete batch, whatever happened to the file."""

import errno
import threading
from pathlib import Path

import pytest

from drift import disk
from drift.progress import listening
from drift.rundir import Journal, RunDir, partial_work
from drift.rundir import journal as journal_module

PLAN = {"pieces": 4}


def fill(folder: Path, pieces: range, plan: object = PLAN) -> None:
    with Journal.open(folder, plan) as journal:
        for piece in pieces:
            if piece not in journal.done:
                journal.append(piece, {"text": f"réply {piece}\n", "ids": [piece, 2]})


def reopened(folder: Path, plan: object = PLAN) -> tuple[dict, list[str]]:
    notes: list[str] = []
    with listening(lambda *_: None, notes.append), Journal.open(folder, plan) as journal:
        return journal.done, notes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_pieces_of_several_commands_are_there(folder: Path):
    fill(folder, range(2))
    fill(folder, range(4))
    done, notes = reopened(folder)
    assert done == {piece: {"text": f"réply {piece}\n", "ids": [piece, 2]} for piece in range(4)}
    assert notes == ["Resuming: 4 batches already done"]


def test_a_shard_that_was_cut_at_any_byte_keeps_its_whole_lines(folder: Path):
    fill(folder, range(3))
    (shard,) = folder.glob("shard-*")
    whole = shard.read_bytes()
    for size in range(len(whole)):
        for other in folder.glob("shard-*"):
            other.unlink()
        shard.write_bytes(whole[:size])
        done, notes = reopened(folder)
        lines = whole[:size].count(b"\n")
        assert list(done) == list(range(lines))
        torn = size > 0 and not whole[:size].endswith(b"\n")
        assert (
            any("Repaired: the last" in line and "bytes of shard-0001.jsonl were incomplete" in line for line in notes)
            == torn
        )
        assert shard.read_bytes() == b"".join(whole.splitlines(keepends=True)[:lines])


def test_what_the_disk_never_wrote_is_not_taken_for_a_piece(folder: Path):
    fill(folder, range(3))
    (shard,) = folder.glob("shard-*")
    first, second, third = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(first + second.replace(b"ply", b"pla") + third)
    assert list(reopened(folder)[0]) == [0]
    shard.write_bytes(first + second + b"\0" * len(third))
    assert list(reopened(folder)[0]) == [0, 1]


def test_another_plan_begins_anew(folder: Path):
    fill(folder, range(3))
    done, notes = reopened(folder, {"pieces": 5})
    assert done == {}
    assert notes == ["Starting over: the work is now divided into other batches than before"]


power_cut_at: set[int] = set()  # read past the stage's inputs, as a power cut is


def count_up(out: Path, pieces: int) -> dict[str, int]:
    """Makes its pieces one by one; writes how many were there before."""
    with Journal.open(partial_work(out), pieces) as journal:
        for piece in range(pieces):
            if piece in power_cut_at:
                raise KeyboardInterrupt
            if piece not in journal.done:
                journal.append(piece, piece)
    out.write_text(str(len(journal.done)))
    return {}


def test_partial_work_comes_back_to_the_same_stage_and_to_no_other(tmp_path: Path):
    def run(pieces: int, stage: str = "data/count") -> str:
        with RunDir.open(tmp_path / "run", "", 0) as run:
            return run.stage(stage, count_up, pieces).read_text()

    for stage, pieces, before in [("data/count", 5, "3"), ("data/count", 6, "0"), ("data/other", 5, "0")]:
        power_cut_at.add(3)
        with pytest.raises(KeyboardInterrupt):
            run(5)
        power_cut_at.clear()
        assert run(pieces, stage) == before
        assert not (tmp_path / "run/.work").exists()
        (tmp_path / "run/data/count").unlink(missing_ok=True)


def test_a_piece_does_not_wait_for_the_next_one_to_reach_the_disk(folder: Path, monkeypatch):
    synced: list[int] = []
    reached = threading.Event()

    def fsync(number: int) -> None:
        synced.append(number)
        reached.set()

    monkeypatch.setattr(journal_module, "SYNC_SECONDS", 0.2)
    with Journal.open(folder, PLAN) as journal:
        monkeypatch.setattr(disk.os, "fsync", fsync)
        assert not journal.append(0, "quick")
        assert reached.wait(10)
    assert len(synced) == 2  # by itself, and at the end


def test_a_disk_that_fails_behind_ones_back_is_told_at_the_end(folder: Path, monkeypatch):
    reached = threading.Event()

    def fsync(number: int) -> None:
        reached.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    def one_piece() -> None:
        with Journal.open(folder, PLAN) as journal:
            monkeypatch.setattr(disk.os, "fsync", fsync)
            journal.append(0, "quick")
            assert reached.wait(10)

    monkeypatch.setattr(journal_module, "SYNC_SECONDS", 0.05)
    with pytest.raises(OSError, match="No space left"):
        one_piece()
