"""The engine on a real Ray cluster of one node, with its own ports and folder. Skips if ray is not installed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drift.bench.ingest import write_log
from drift.config import ClusterSettings, IngestionSettings
from drift.engine import current_engine, open_engine
from drift.errors import DataError, DriftError, PrerequisiteError
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.pairs.stages import write_pairs
from drift.store import Store
from engine import pieces
from engine.cluster import one_node

pytest.importorskip("ray", reason="ray is not installed: pip install 'drift-training[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with one_node() as address:
        yield address


def prompts_of(log: Path, folder: Path) -> tuple[Any, ...]:
    """Everything that `drift pairs LOG` makes."""
    store, prompts = Store(folder / "store"), folder / "prompts.jsonl"
    ingest([log], store, settings=IngestionSettings(near_duplicates=True))
    labelled, written = label_store(store), write_pairs(store, prompts, 0.5)
    near = (store.path / "near_duplicates.jsonl").read_bytes()
    return store.content_hash(), store.label_hash(), near, prompts.read_bytes(), labelled, written.prompt_counts


@pytest.mark.slow
def test_pieces_errors_deaths_and_prompts_out_of_logs(cluster: str, tmp_path: Path):
    """One test, because a cluster takes seconds to start and to connect to."""
    log = tmp_path / "log.jsonl"
    write_log(log, 300, seed=1)
    Store(tmp_path / "here" / "store").add([])  # one salt for both stores: the users' keys depend on it
    shutil.copytree(tmp_path / "here", tmp_path / "on-ray")
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
        found = prompts_of(log, tmp_path / "on-ray")
        assert not list(tmp_path.glob(".drift-nodes-*"))
    expected = prompts_of(log, tmp_path / "here")
    assert found == expected
    assert expected[-1]["rows"] > 10


def test_no_cluster_at_the_address(tmp_path: Path):
    with (
        pytest.raises(PrerequisiteError, match=r"cluster.address 127.0.0.1:1: no Ray cluster answers .*ray start"),
        open_engine(ClusterSettings(address="127.0.0.1:1"), tmp_path),
    ):
        pass
