"""The engine on a real Ray cluster of one node, with its own ports and folder. Skips if ray is not installed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drift.config import ClusterSettings
from drift.engine import current_engine, open_engine
from drift.errors import DataError, DriftError, PrerequisiteError
from drift.logs.ingest import ingest
from drift.store import Store
from engine import pieces

pytest.importorskip("ray", reason="ray is not installed: pip install 'drift-training[ray]'")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster with two CPUs; its folder has a short name, for the names of its sockets."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp") as folder:
        command = [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}"),
            *("--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"),
            "--object-store-memory=80000000",
        ]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "RAY_memory_monitor_refresh_ms": "0",  # it kills workers at 95 % of the machine, whoever uses it
        }
        head = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            assert head.stdout is not None
            output: list[str] = []
            started = any("Ray runtime started" in (output.append(line) or line) for line in head.stdout)
            assert started, "".join(output)
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            try:
                head.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)


@pytest.mark.slow
def test_pieces_errors_deaths_and_a_whole_ingestion(cluster: str, tmp_path: Path):
    """One test, because a cluster takes seconds to start and to connect to."""
    with open_engine(ClusterSettings(address=cluster, retries=2), tmp_path) as engine:
        assert current_engine() is engine
        assert engine.workers == 2
        results = dict(engine.each(pieces.square, range(6)))
        assert {number: result.of for number, result in results.items()} == {n: n**2 for n in range(6)}
        assert os.getpid() not in {result.by for result in results.values()}
        with pytest.raises(DataError, match=r"^chats.jsonl:2: no messages. Leave the row out.$"):
            list(engine.each(pieces.refuse, range(4)))
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            list(engine.each(pieces.fault, [1]))
        marks = tmp_path / "marks"
        marks.mkdir()
        again = dict(engine.each(pieces.die_once, [(marks, number) for number in range(2)]))
        assert {number: result.of for number, result in again.items()} == {0: 0, 1: 1}
        with pytest.raises(DriftError, match="piece 1: its process died 2 times"):
            list(engine.each(pieces.die, [0, 1]))
        log = tmp_path / "chats.jsonl"
        log.write_text(
            "".join(
                f'{{"id": "{n}", "messages": [{{"role": "user", "content": "{n}+1?"}}, '
                f'{{"role": "assistant", "content": "{n + 1}"}}]}}\n'
                for n in range(50)
            )
        )
        ingest([log], Store(tmp_path / "on-ray"))
        assert not list(tmp_path.glob(".drift-nodes-*"))
    ingest([log], Store(tmp_path / "here"))
    assert Store(tmp_path / "on-ray").content_hash() == Store(tmp_path / "here").content_hash()


def test_no_cluster_at_the_address(tmp_path: Path):
    with (
        pytest.raises(PrerequisiteError, match=r"cluster.address 127.0.0.1:1: no Ray cluster answers .*ray start"),
        open_engine(ClusterSettings(address="127.0.0.1:1"), tmp_path),
    ):
        pass
