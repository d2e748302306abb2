"""A Ray cluster for tests: nodes with their own ports and folder, ended with the block."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

OPTIONS = ("--block", "--disable-usage-stats", "--include-log-monitor=false", "--object-store-memory=80000000")


def ray_env() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "RAY_memory_monitor_refresh_ms": "0",  # it kills workers at 95 % of the machine, whoever uses it
        "RAY_worker_niceness": "0",  # by default 15: on a busy machine, workers would wait for all others
    }


def ray_start(*options: str) -> list[str]:
    """`ray start`, of the Python that runs the tests."""
    return [sys.executable, "-m", "ray.scripts.scripts", "start", *OPTIONS, *options]


def head(port: int, folder: str, *options: str) -> list[str]:
    return ray_start(
        "--head",
        f"--port={port}",
        "--include-dashboard=false",
        f"--temp-dir={folder}",
        *options,
    )


STARTS = 4
"""Ray gives a node 30 seconds to start, which is not always enough on a busy machine."""


@contextmanager
def running(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[None]:
    """A node, from when it says that it is there."""
    with tempfile.TemporaryFile() as output:
        for _ in range(STARTS):
            node = subprocess.Popen(
                command, env=ray_env() | dict(env or {}), stdout=output, stderr=output, start_new_session=True
            )
            while not (said := b"Ray runtime started" in read(output)) and node.poll() is None:
                time.sleep(0.1)
            if said:
                break
        else:
            raise AssertionError(read(output).decode())
        try:
            yield
        finally:
            node.terminate()
            try:
                node.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)


def read(output: IO[bytes]) -> bytes:
    return os.pread(output.fileno(), 2**20, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def one_node(*options: str) -> Iterator[str]:
    """The address of a cluster with two CPUs; its folder has a short name, for the names of its sockets."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp") as folder,
        running(head(port, folder, "--num-cpus=2", *options)),
    ):
        yield f"127.0.0.1:{port}"
