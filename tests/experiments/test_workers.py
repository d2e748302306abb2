"""Workers of a comparison say what they do, and end with their command, even after kill -9."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drift import progress
from drift.errors import DataError, DriftError
from drift.experiments.compare.workers import Workers, workers
from drift.progress import listening

PROGRAM = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from drift.engine import end_with_parent

def begin(folder):
    end_with_parent()
    Path(folder, str(os.getpid())).touch()

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=begin, initargs=(folder,)) as pool:
        busy = [pool.submit(time.sleep, 600) for _ in range(2)]
        pool.submit(os.getpid)
        while len(list(folder.iterdir())) < 2:  # the start takes long on a busy machine: each worker loads torch
            time.sleep(0.05)
        print(*pool._processes, flush=True)
        time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """For a process that is not our child. A dead one that nobody has waited for yet counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_workers_end_when_their_command_is_killed(tmp_path: Path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "workers").mkdir()
    arguments = [sys.executable, tmp_path / "program.py", tmp_path / "workers"]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    workers = [int(pid) for pid in command.stdout.readline().split()]
    assert len(workers) == 2
    assert all(map(is_alive, workers))
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    deadline = time.monotonic() + 60  # far less than the workers' own 600 seconds
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def cell(seed: int) -> Any:
    return SimpleNamespace(name=f"embedded-seed-{seed}", arm="drift_paper", seed=seed)


def killed_by_the_system(_cell: Any, _folder: Path, _on_stage: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_the_system_kills_is_one_line(tmp_path: Path):
    message = r"a process that computed warm starts was killed, probably for lack of"
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool,
        pytest.raises(DriftError, match=message),
    ):
        Workers(pool, 1).run(killed_by_the_system, [cell(1)], tmp_path, "warm starts")


CHATTY = """
import time
from drift import progress

progress.HEARTBEAT_SECONDS = 0.01

def work(cell, folder, on_stage):
    if cell.seed == 4:  # all of it was done before
        return
    on_stage("iteration-1/policy", "running", {})
    step = f"{cell.seed} steps, not more, moved iteration-1 by -0.{cell.seed}"
    progress.report_note(f"{step}, drift 0.1+{cell.seed}1a3c364b.")
    progress.report_progress(1, 4)
    time.sleep(0.2)
"""


def test_the_command_reports_the_notes_and_the_progress_of_its_workers(tmp_path: Path, monkeypatch):
    (tmp_path / "chatty.py").write_text(CHATTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", progress.HEARTBEAT_SECONDS)  # undoes what that module sets
    notes: list[str] = []
    counts: list[tuple[int, int, int]] = []
    with listening(lambda *count: counts.append(count), notes.append), workers(1) as pool:
        pool.run(importlib.import_module("chatty").work, [cell(4), cell(1), cell(2), cell(3)], tmp_path, "cells")
    assert [note for note in notes if "moved" in note] == [
        "embedded-seed-1, drift_paper: 1 steps, not more, moved iteration-1 by -0.1, drift 0.1+11a3c364b.",
        "2 more times: N steps, not more, moved iteration-N by N, drift N+N.",
    ]
    for seed in (1, 2, 3):
        begins = f"embedded-seed-{seed}, drift_paper, iteration-1/policy: 1 of 4"
        assert any(note.startswith(begins) for note in notes)
    assert "cells: 4 done, 1 of them by an earlier command" in notes
    assert counts[0] == (0, 4, 0)
    assert counts[-1] == (3, 3, 0)  # what was done before says nothing about how long the others take


FAILING = """
import time
from pathlib import Path
from drift.errors import DataError

def work(cell, folder, on_stage):
    (folder / f"began-{cell.seed}").touch()
    if cell.seed == 1:
        raise DataError("not one pair was made.")
    deadline = time.monotonic() + 60
    while not (folder / "told").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if cell.seed == 2:
        raise DataError("no server answers.")
"""


def test_the_first_error_names_its_cell_and_is_told_before_the_others_end(tmp_path: Path, monkeypatch):
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    notes: list[str] = []

    def hear(note: str) -> None:
        notes.append(note)
        (tmp_path / "told").touch()

    work, cells = importlib.import_module("failing").work, [cell(seed) for seed in (1, 2, 3, 4)]
    with (
        listening(lambda *_: None, hear),
        pytest.raises(DataError, match=r"^embedded-seed-1, drift_paper: not one pair was made\.$"),
        workers(2) as pool,
    ):
        pool.run(work, cells, tmp_path, "cells")
    began = {path.name for path in tmp_path.glob("began-*")}
    assert notes[0].startswith("failed, so no other cell begins; the command ends after embedded-seed-2, drift_paper")
    assert notes[0].endswith(": embedded-seed-1, drift_paper: not one pair was made.")
    assert notes[1:] == ["failed too: embedded-seed-2, drift_paper: no server answers."]
    assert began == {"began-1", "began-2"}


INTERRUPTED = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from drift.experiments.compare.workers import workers

def work(cell, folder, on_stage):
    (folder / "began").touch()
    time.sleep(600)

if __name__ == "__main__":
    try:
        with workers(2) as pool:
            from interrupted import work  # by a name that a worker can import
            pool.run(work, [SimpleNamespace(name="seed-1", arm="a")] * int(sys.argv[2]), Path(sys.argv[1]), "cells")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
"""


@pytest.mark.parametrize(("everywhere", "cells"), [(True, 2), (False, 1)], ids=["Ctrl-C", "kill -INT"])
def test_an_interrupted_command_ends_at_once_and_without_a_traceback(tmp_path: Path, everywhere: bool, cells: int):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    arguments = [sys.executable, tmp_path / "interrupted.py", tmp_path, str(cells)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )  # the second worker still loads torch when the first one begins
    deadline = time.monotonic() + 120
    while not (tmp_path / "began").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (os.killpg if everywhere else os.kill)(command.pid, signal.SIGINT)
    _, told = command.communicate(timeout=60)
    assert told == "interrupted\n"
