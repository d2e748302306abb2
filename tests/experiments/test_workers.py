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
from drift.errors import DriftError
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
        Workers(pool).run(killed_by_the_system, [cell(1)], tmp_path, "warm starts")


CHATTY = """
import time
from drift import progress

progress.HEARTBEAT_SECONDS = 0.01

def work(cell, folder, on_stage):
    on_stage("iteration-1/policy", "running", {})
    progress.report_note(f"{cell.seed} steps at {cell.seed}e-05 moved the margin by -0.{cell.seed}")
    progress.report_progress(1, 4)
    time.sleep(0.2)
"""


def test_the_command_reports_the_notes_and_the_progress_of_its_workers(tmp_path: Path, monkeypatch):
    (tmp_path / "chatty.py").write_text(CHATTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", progress.HEARTBEAT_SECONDS)  # undoes what that module sets
    notes: list[str] = []
    with listening(lambda *_: None, notes.append), workers(1) as pool:
        pool.run(importlib.import_module("chatty").work, [cell(1), cell(2), cell(3)], tmp_path, "cells")
    assert [note for note in notes if "moved" in note] == [
        "embedded-seed-1, drift_paper: 1 steps at 1e-05 moved the margin by -0.1",
        "2 more notes like this one: N steps at N moved the margin by N",
    ]
    for seed in (1, 2, 3):
        beginning = f"embedded-seed-{seed}, drift_paper, iteration-1/policy: 1 of 4"
        assert any(note.startswith(beginning) for note in notes)
    assert "cells: 3 done" in notes
