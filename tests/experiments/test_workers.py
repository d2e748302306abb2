"""Workers end with their command, even after kill -9: nothing goes on computing for a command that is gone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from drift.errors import DriftError
from drift.experiments.compare.run import _run_in_pool

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


def killed_by_the_system(_cell: Any, _folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_the_system_kills_is_one_line(tmp_path: Path):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        cells: list[Any] = ["a cell"]
        with pytest.raises(DriftError, match=r"a process that computed warm starts was killed, probably for lack of"):
            _run_in_pool(pool, killed_by_the_system, cells, tmp_path, "warm starts")
