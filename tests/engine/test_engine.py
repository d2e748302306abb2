"""Pieces of work in this process and in several: results, errors, deaths, resuming. On Ray: test_on_ray.py."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from drift.config import ClusterSettings, Config, dump_config, parse_config
from drift.engine import Local, Processes, current_engine, in_pieces, open_engine, using_engine
from drift.engine.engine import answer
from drift.errors import ConfigError, DataError, DriftError, PrerequisiteError
from drift.progress import listening
from engine import pieces
from engine.pieces import Square


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    with closing(Processes(2)) as engine:
        yield engine


def test_each_piece_is_done_once_by_other_processes(two: Processes):
    results = dict(two.each(pieces.slow_square, range(4)))
    assert {number: result.of for number, result in results.items()} == {0: 0, 1: 1, 2: 4, 3: 9}
    workers = {result.by for result in results.values()}
    assert len(workers) == 2
    assert os.getpid() not in workers


def test_no_pieces_give_nothing(two: Processes):
    assert list(two.each(pieces.square, [])) == []
    assert list(Local().each(pieces.square, [])) == []


def test_an_error_of_a_piece_is_the_commands_error(two: Processes):
    for engine in (two, Local()):
        with pytest.raises(DataError, match=r"^chats.jsonl:2: no messages. Leave the row out.$"):
            list(engine.each(pieces.refuse, range(4)))
    assert [result.of for _, result in two.each(pieces.square, [7])] == [49]  # and the engine goes on


def test_a_bug_in_a_piece_shows_its_trace(two: Processes):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(two.each(pieces.fault, [1]))


def test_trouble_with_files_names_the_node_of_a_cluster(tmp_path: Path):
    for work in (pieces.read, pieces.read_log):
        assert str(answer(work, tmp_path / "gone.jsonl", "host-2").error) == (
            f"node host-2 does not see {tmp_path}/gone.jsonl. Every node must see logs, store and run folder under the "
            "same path."
        )
    here = answer(pieces.read_log, tmp_path / "gone.jsonl").error
    assert str(here) == f"{tmp_path}/gone.jsonl: cannot read this file: No such file or directory."
    refused = answer(pieces.refuse, 2, "host-2").error
    assert str(refused) == "chats.jsonl:2: no messages. Leave the row out."  # wherever it was read
    full = answer(pieces.fill_the_disk, 1, "host-2").error
    assert str(full).startswith("node host-2: /tmp/run: the disk is full. Free some space")
    assert str(answer(pieces.fill_the_disk, 1).error).startswith("/tmp/run: the disk is full.")  # on this machine
    assert answer(pieces.fault, 1, "host-2").error is None  # a bug is a bug on any node


def test_a_dead_process_is_replaced(two: Processes, tmp_path: Path):
    results = dict(two.each(pieces.die_once, [(tmp_path, number) for number in range(3)]))
    assert {number: result.of for number, result in results.items()} == {0: 0, 1: 1, 2: 4}


def test_a_piece_that_always_kills_its_process_is_named():
    with closing(Processes(1, retries=3)) as engine:
        results = engine.each(pieces.die, [0, 1])
        assert next(results)[1].of == 0
        with pytest.raises(
            DriftError, match=r"^piece 1: its process died 3 times \(SIGKILL\)\. .*run the same command"
        ):
            next(results)


def _in_own_process(code: str) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)


def test_a_killed_process_says_nothing_beside_the_error():
    """What it leaves behind is removed without a word."""
    code = (
        "import sys\nfrom drift.engine import Processes\nfrom drift.errors import DriftError\n"
        "from engine import pieces\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        list(Processes(1, retries=1).each(pieces.die_with_a_lock, [1]))\n"
        "    except DriftError as error:\n"
        "        print(str(error).split('(')[0], file=sys.stderr)\n"
    )
    done = _in_own_process(code)
    assert (done.returncode, done.stderr.decode()) == (0, "piece 1: its process died 1 times \n")


def test_no_worker_outlives_a_killed_driver(tmp_path: Path):
    """It ends at once, also in the middle of a piece."""
    code = (
        "from drift.engine import Processes\nfrom engine import pieces\n"
        "if __name__ == '__main__':\n"
        "    two = Processes(2)\n"
        "    print(*[by.by for _, by in two.each(pieces.slow_square, [1, 2])], flush=True)\n"
        "    list(two.each(pieces.kill_driver, [1]))\n"
    )
    done = _in_own_process(code)
    workers = [Path("/proc") / pid for pid in done.stdout.decode().split()]
    assert done.returncode == -9
    assert len(workers) == 2  # an idle one, and one that is busy
    deadline = time.monotonic() + 5
    while any(worker.exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [worker for worker in workers if worker.exists()]


def test_each_model_has_a_gpu_of_its_own(two: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A replaced process gets the GPU of the dead one. No GPU is needed for this."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    with two.for_models(threads=1, gpus=2) as engine:
        assert engine.workers == 2
        results = [gpu for _, gpu in engine.each(pieces.gpu_of, range(6))]
    assert set(results) == {"3", "5"}


def test_a_model_over_several_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Also the only model is a worker's: the run's own process does not divide its models."""
    (tmp_path / "mark").touch()
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    with Processes(2, gpus_per_replica=2).for_models(threads=1, gpus=3) as engine:
        assert (engine.workers, engine.gpus) == (2, 2)
        assert [gpu for _, gpu in engine.each(pieces.gpu_of, [1])] == ["0,1"]
    with Processes(2, gpus_per_replica=2).for_models(None, 0, only=(7, 4, 2, 9, 1)) as engine:
        assert {gpu for _, gpu in engine.each(pieces.gpu_of, [1, 2])} == {"7,4", "2,9"}


def test_how_many_models_fit(two: Processes):
    """A model in a process takes its threads; one GPU, or fewer cores than two models need, is one process's work."""
    for threads, gpus, workers in ((1, 0, 2), (2, 0, 1), (8, 0, 1), (1, 1, 1), (8, 4, 4)):
        with two.for_models(threads, gpus) as engine:
            assert engine.workers == workers
    notes = list[str]()
    new = Processes(2)
    with listening(lambda *_: None, notes.append), new.for_models(2, 0), new.for_models(1, 1), new.for_models(2, 0):
        assert notes == [
            "The model works in this process alone, which uses 2 of 2 cores. In a new run, --set threads=1 gives every "
            "core a process with the model"
        ]
    with Local().for_models(1, 8) as engine:
        assert engine.workers == 1


def test_finished_pieces_are_not_done_again(tmp_path: Path):
    first = in_pieces(pieces.square, [3, 4], Square, tmp_path / "journal", "plan")
    again = in_pieces(pieces.fault, [3, 4], Square, tmp_path / "journal", "plan")  # would fail if it were called
    assert again == first
    with pytest.raises(ZeroDivisionError):  # another plan: everything is done again
        in_pieces(pieces.fault, [3, 4], Square, tmp_path / "journal", "other plan")


def test_pieces_that_were_finished_before_an_error_are_kept(tmp_path: Path):
    with pytest.raises(DataError):
        in_pieces(pieces.refuse, [1, 2, 3], Square, tmp_path / "journal", "plan")
    results = in_pieces(pieces.square, [100, 5, 3], Square, tmp_path / "journal", "plan")
    assert [result.of for result in results] == [1, 25, 9]  # the first one is of the first command


def test_the_engine_is_ambient():
    with closing(Processes(2)) as engine, using_engine(engine):
        assert current_engine() is engine
    assert isinstance(current_engine(), Local)


def test_no_engine_is_in_the_name_or_the_files_of_a_run():
    on_cluster = parse_config({"cluster": {"address": "10.0.0.1:6379"}}, "test")
    assert on_cluster.cluster.address == "10.0.0.1:6379"
    assert dump_config(on_cluster) == dump_config(Config())


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "head.example.org:6379", "[::1]:6379", "local"])
def test_addresses(address: str):
    assert parse_config({"cluster": {"address": address}}, "test").cluster.address == address


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        ({"address": "ray://10.0.0.1:10001"}, r"cluster.address: ray://10.0.0.1:10001 .* on a node of the cluster"),
        ({"address": "auto"}, "'auto' is no address of a cluster: allowed are `local` and HOST:PORT"),
        ({"address": "10.0.0.1"}, "allowed are `local` and HOST:PORT"),
        ({"address": "10.0.0.1:65536"}, r"HOST:PORT \(a port is 1 to 65535\)"),
        ({"address": "10.0.0.1:0"}, r"HOST:PORT \(a port is 1 to 65535\)"),
        ({"nodes": -1}, "cluster.nodes: .*, not -1"),
        ("local", "'local' is no group of settings: write cluster.address=local"),
        ({"retries": 0}, "cluster.retries: .*, not 0"),
        ({"gpus_per_replica": 0, "address": "local"}, "cluster.gpus_per_replica: .*, not 0"),
        ({"gpus_per_replica": 2}, "gpus_per_replica=2 is for models in worker processes: set cluster.address"),
    ],
)
def test_what_is_no_cluster_is_refused(cluster: object, why: str):
    with pytest.raises(ConfigError, match=why):
        parse_config({"cluster": cluster}, "test")


def test_without_ray_the_error_is_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(PrerequisiteError, match=r"ray is not installed: pip install 'drift-training\[ray\]'"),
        open_engine(ClusterSettings(address="127.0.0.1:1"), tmp_path),
    ):
        pass


def test_ray_is_not_imported_without_a_cluster(tmp_path: Path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom drift.config import ClusterSettings\n"
        "from drift.engine import open_engine\nimport drift.run, drift.cli\n"
        "for address in (None, 'local'):\n"
        "    with open_engine(ClusterSettings(address=address), Path('.')) as engine: print(engine.workers)\n"
        "print('ray' in sys.modules)\n"
    )
    done = _in_own_process(code)
    assert done.stdout.decode().split() == ["1", str(len(os.sched_getaffinity(0))), "False"]
