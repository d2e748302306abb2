"""`--cluster` as a user gives it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import command

CHAT = [
    {"role": "user", "content": "Sort these words: pear fig"},
    {"role": "assistant", "content": "pear fig"},
    {"role": "user", "content": "No, that is wrong. You did not sort them at all."},
]


def drift(*arguments: object) -> subprocess.CompletedProcess[str]:
    started = [sys.executable, "-m", "drift", *map(str, arguments)]
    return subprocess.run(started, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"id": str(number), "messages": CHAT}) + "\n" for number in range(5)))
    return path


def test_an_address_of_the_client_is_refused_before_anything_is_read(log: Path, tmp_path: Path):
    done = command.drift("ingest", log, "--store", tmp_path / "store", "--cluster", "ray://10.0.0.1:10001")
    assert done.returncode == 1
    assert "--cluster: cluster.address: ray://10.0.0.1:10001" in done.stderr
    assert "run drift on a node of the cluster" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="`local` takes one process per core")
def test_all_cores_give_the_files_of_one_process(log: Path, tmp_path: Path):
    summaries = []
    for name, where in (("one", ()), ("cores", ("--cluster", "local"))):
        out = tmp_path / f"{name}.jsonl"
        done = drift("pairs", log, "--store", tmp_path / name, "--out", out, "--json", *where)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        summaries.append(json.dumps(summary).replace(name, ""))
    assert summaries[0] == summaries[1]
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "cores.jsonl").read_bytes() != b""
