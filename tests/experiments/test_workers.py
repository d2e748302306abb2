"""Nothing goes on computing for a command that is gone, not even after kill -9."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from drift.experiments.compare.run import end_with_parent

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=end_with_parent) as pool:
        busy = [pool.submit(time.sleep, 60) for _ in range(2)]
        pool.submit(os.getpid)
        print(*pool._processes, flush=True)
        time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Of a process that is no child of ours; one that is dead and not yet waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_when_their_command_is_killed(tmp_path: Path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    workers = [int(pid) for pid in command.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(1)  # both are past their start by now
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    deadline = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))
