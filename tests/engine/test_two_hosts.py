"""Faults on a Ray cluster of two hosts: network namespaces of this machine (hosts.py), without root.

Each test ends with the content that one process makes, or with one line that says what is wrong.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from drift.bench.ingest import write_log
from drift.logs.ingest import ingest
from drift.store import Store
from engine.cluster import head, ray_env, ray_start, running
from engine.hosts import Host, Wire, wired

pytest.importorskip("ray", reason="ray is not installed: pip install 'drift-training[ray]'")
pytestmark = pytest.mark.slow

KEEPALIVE = {"RAY_grpc_client_keepalive_time_ms": "5000", "RAY_grpc_client_keepalive_timeout_ms": "5000"}
DRIVER = Path(__file__).with_name("driver.py")
PORT = 6379
WAITS_FOR_ONE_NODE = """
import logging, sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
while sum(node["Alive"] for node in ray.nodes()) > 1:
    time.sleep(0.5)
"""


class Cluster:
    """The head with one core on the first host. `folder`: that Ray keeps on each host for itself."""

    def __init__(self, stack: ExitStack, wire: Wire, folder: Path) -> None:
        self.stack, self.wire, self.folder = stack, wire, folder
        self.head = Host(wire, [folder])
        self.address = f"{self.head.address}:{PORT}"
        command = head(PORT, str(folder), f"--node-ip-address={self.head.address}", "--num-cpus=1")
        stack.enter_context(running(self.head.command(*command), KEEPALIVE))

    @contextmanager
    def joined(self, *own: Path, **env: str) -> Iterator[Host]:
        """A new host with one core, killed at the end if it lives. `own`: folders that it has for itself.

        Then it waits until Ray has noticed: a node that Ray believes to be alive is asked before any work.
        """
        host = Host(self.wire, [self.folder, *own])
        command = ray_start(f"--address={self.address}", f"--node-ip-address={host.address}", "--num-cpus=1")
        self.stack.enter_context(running(host.command(*command), KEEPALIVE | env))
        try:
            yield host
        finally:
            host.kill()
            waits = self.head.command(sys.executable, "-c", WAITS_FOR_ONE_NODE, self.address)
            subprocess.run(waits, env=ray_env(), check=True, timeout=240)

    def drive(self, log: Path, store: Path) -> subprocess.Popen[str]:
        """Start driver.py on the head."""
        command = self.head.command(sys.executable, str(DRIVER), str(log), str(store), self.address)
        env = ray_env() | KEEPALIVE
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp"))
        try:
            started = Cluster(stack, stack.enter_context(wired()), Path(folder))
        except OSError as error:
            pytest.skip(f"this machine has no namespaces of users, networks and processes: {error}")
        yield started


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of about 60 pieces."""
    folder = tmp_path_factory.mktemp("log")
    write_log(folder / "log.jsonl", 2000, seed=1)
    ingest([folder / "log.jsonl"], Store(folder / "one-process"))
    return folder / "log.jsonl"


def expected(log: Path) -> str:
    return Store(log.parent / "one-process").content_hash()


def wait_for_pieces(store: Path, count: int, driver: subprocess.Popen[str]) -> None:
    """Until so many pieces are noted as done."""
    deadline = time.monotonic() + 120
    while sum(file.read_bytes().count(b"\n") for file in store.glob(".pieces/ingest-*/read/shard-*.jsonl")) < count:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The command itself, which `nsenter` waits for."""
    (command,) = psutil.Process(process.pid).children()
    return command


def test_a_killed_driver_goes_on_and_a_second_one_is_refused(cluster: Cluster, log: Path, tmp_path: Path):
    store = tmp_path / "store"
    driver = cluster.drive(log, store)
    wait_for_pieces(store, 5, driver)
    command_of(driver).suspend()  # it must not end before the second one tries
    _, refused = cluster.drive(log, store).communicate(timeout=120)
    assert "is writing here" in refused
    command_of(driver).kill()
    driver.send_signal(signal.SIGCONT)  # nsenter stops with its command
    driver.wait(60)
    out, notes = cluster.drive(log, store).communicate(timeout=300)
    assert out.strip() == expected(log), notes
    assert "batches already done" in notes


@pytest.mark.parametrize("dies", ["host", "raylet"])
def test_a_host_that_dies(cluster: Cluster, log: Path, tmp_path: Path, dies: str):
    with cluster.joined() as host:
        driver = cluster.drive(log, tmp_path / "store")
        wait_for_pieces(tmp_path / "store", 5, driver)
        if dies == "host":
            host.kill()
        else:
            subprocess.run(host.command("pkill", "-KILL", "raylet"), check=True)
        out, notes = driver.communicate(timeout=300)
    assert out.strip() == expected(log), notes
    assert f"on Ray: 2 nodes: {cluster.head.name} (1 core), {host.name} (1 core)" in notes


def test_a_cut_wire(cluster: Cluster, log: Path, tmp_path: Path):
    with cluster.joined() as host:
        driver = cluster.drive(log, tmp_path / "store")
        wait_for_pieces(tmp_path / "store", 5, driver)
        host.cut()
        out, notes = driver.communicate(timeout=300)
    assert out.strip() == expected(log), notes


def test_a_host_that_does_not_see_the_store(cluster: Cluster, log: Path, tmp_path: Path):
    (tmp_path / "shared").mkdir()
    with cluster.joined(tmp_path / "shared") as host:
        out, said = cluster.drive(log, tmp_path / "shared" / "store").communicate(timeout=120)
    assert not out
    assert f"error: node {host.name}-" in said
    assert f"does not see {tmp_path / 'shared'} as this one does" in said


def test_a_host_that_does_not_see_the_logs(cluster: Cluster, log: Path, tmp_path: Path):
    (tmp_path / "logs").mkdir()
    own = Path(shutil.copy(log, tmp_path / "logs"))
    with cluster.joined(tmp_path / "logs") as host:
        out, said = cluster.drive(own, tmp_path / "store").communicate(timeout=300)
    assert not out
    assert f"error: node {host.name} does not see {own}" in said


def test_a_host_with_other_code(cluster: Cluster, log: Path, tmp_path: Path):
    source = Path(__file__).parents[2] / "src"
    shutil.copytree(source, tmp_path / "src", ignore=shutil.ignore_patterns("checkpoints", "__pycache__"))
    with (tmp_path / "src" / "drift" / "turns.py").open("a") as code:
        code.write("# other\n")
    with cluster.joined(PYTHONPATH=str(tmp_path / "src")) as host:
        out, said = cluster.drive(log, tmp_path / "store").communicate(timeout=120)
    assert not out
    assert f"error: node {host.name}-" in said
    assert "runs other code" in said
