"""A full disk, a read-only one, and a clock that jumps: one line each, and the same command goes on afterwards."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import drift
from drift.rundir import RunDir, list_runs, load_run

CHAT = [
    {"role": "user", "content": "Sort: pear fig"},
    {"role": "assistant", "content": "pear fig"},
    {"role": "user", "content": "No, that is wrong. You did not sort them."},
    {"role": "assistant", "content": "fig pear"},
]


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A file system of its own, 256 kB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None or not mounted(place, "size=256k", "-t", "tmpfs", "tmpfs"):
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)


def mounted(place: Path, options: str, *source: str) -> bool:
    return subprocess.run(["mount", *source, place, "-o", options], capture_output=True, check=False).returncode == 0


def test_a_full_disk_is_one_line_and_the_same_command_goes_on_when_there_is_room(tmp_path, small):
    log = tmp_path / "log.jsonl"
    with log.open("w", encoding="utf-8") as out:
        for n in range(2000):
            noise = os.urandom(200).hex()  # or it would be compressed away
            out.write(json.dumps({"id": f"{n}", "messages": [*CHAT, {"role": "user", "content": noise}]}) + "\n")
    done = drift("ingest", log, "--store", small / "store")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "the disk is full. Free some space and run the same command again" in done.stderr
    assert mounted(small, "remount,size=64m")
    done = drift("ingest", log, "--store", small / "store", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["accepted"] == 2000


def test_a_read_only_disk_is_one_line(tmp_path, small):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"id": "a", "messages": CHAT}) + "\n", encoding="utf-8")
    assert mounted(small, "remount,ro")
    ingested = drift("ingest", log, "--store", small / "store")
    for done in (ingested, drift("pairs", "--store", small, "--out", small / "p.jsonl")):
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "read-only" in ingested.stderr


def test_a_run_on_a_full_disk_is_no_finished_run(small):
    def fill(out: Path) -> dict[str, int]:
        out.write_bytes(os.urandom(1 << 20))
        return {}

    with pytest.raises(OSError, match="No space left"), RunDir.open(small / "run", "a: 1\n", 1) as run:
        run.stage("big", fill)
    assert load_run(small / "run").state.state in ("failed", "interrupted")
    assert mounted(small, "remount,size=64m")
    with RunDir.open(small / "run", "a: 1\n", 1) as run:
        assert run.stage("big", fill).stat().st_size == 1 << 20


def test_a_clock_that_jumps_back_redoes_nothing_and_makes_no_negative_times(tmp_path, monkeypatch):
    def write(out: Path) -> dict[str, int]:
        out.write_text("x", encoding="utf-8")
        return {}

    told: list[str] = []
    with RunDir.open(tmp_path / "runs/one", "a: 1\n", 1) as run:
        run.stage("one", write)
    monkeypatch.setattr("drift.rundir.run._now", lambda: "1969-12-31T23:59:59.000+00:00")
    os.utime(tmp_path / "runs/one/one", (0, 0))
    with RunDir.open(tmp_path / "runs/one", "a: 1\n", 1, lambda name, event, _: told.append(event)) as run:
        run.stage("one", write)
    assert told == ["reused"]
    (view,) = list_runs(tmp_path / "runs")
    assert view.state.state == "done"
    assert all(stage.wall_seconds >= 0 for stage in view.stages)
