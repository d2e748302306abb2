"""The engine on a real Ray cluster of one node, with its own ports and folder. Skips if ray is not installed."""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drift.bench.ingest import write_log
from drift.config import ClusterSettings, IngestionSettings, PolicySettings, SamplingSettings
from drift.engine import current_engine, dispatch, open_engine
from drift.errors import DataError, DriftError, PrerequisiteError
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.pairs.stages import write_pairs
from drift.policy.logps import reply_logps
from drift.policy.model import cpu_threads, load_policy
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.policy.spread import policy_for_pieces
from drift.progress import listening
from drift.records import ChatMessage, Counts, Finish, PromptItem, write_jsonl
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
def test_pieces_errors_deaths_and_prompts_out_of_logs(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One test, because a cluster takes seconds to start and to connect to."""
    log = tmp_path / "log.jsonl"
    write_log(log, 300, seed=1)
    Store(tmp_path / "here" / "store").add([])  # one salt for both stores: the users' keys depend on it
    shutil.copytree(tmp_path / "here", tmp_path / "on-ray")
    notes, host = list[str](), socket.gethostname()
    with (
        listening(lambda *_: None, notes.append),
        open_engine(ClusterSettings(address=cluster, retries=2), tmp_path) as engine,
    ):
        assert notes == [f"on Ray: 1 node: {host} (2 cores)"]
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
        with pytest.raises(DriftError, match=rf"piece 1: its process died 2 times \(.*, on node {host}\)"):
            list(engine.each(pieces.die, [0, 1]))
        monkeypatch.setattr(dispatch, "_LATE_SECONDS", 1.0)
        late_marks = tmp_path / "late"
        late_marks.mkdir()
        assert len(list(engine.each(pieces.last_is_late, [(late_marks, number) for number in range(4)]))) == 4
        late = rf"piece 3 is late \(\d+ s on node {host}; others took \d+ s\): a second worker gets it too"
        assert any(re.fullmatch(late, note) for note in notes), notes
        found = prompts_of(log, tmp_path / "on-ray")
        assert not list(tmp_path.glob(".drift-nodes-*"))
    expected = prompts_of(log, tmp_path / "here")
    assert found == expected
    assert expected[-1]["rows"] > 10


@pytest.mark.slow
def test_workers_with_models_die_and_sample(cluster: str, tiny_policy: Path, tmp_path: Path):
    """Actors: what dies is done again, and completions are the bytes of one process."""
    prompts, fresh = tmp_path / "prompts.jsonl", FreshReplies(samples=2)
    turns = ((ChatMessage("user", f"question {n} " + "why " * n),) for n in range(6))
    write_jsonl(prompts, (PromptItem(f"p{n}", f"c{n}", 1, asked, "train") for n, asked in enumerate(turns)))
    marks = tmp_path / "marks"
    marks.mkdir()

    def sampled(out: Path) -> tuple[Counts, bytes]:
        settings = SamplingSettings(max_new_tokens=8, batch_tokens=256)
        counts = sample(out, tiny_policy, prompts, settings, fresh, PolicySettings(), 1, 7)
        return counts, out.read_bytes()

    asked = [(ChatMessage("user", f"question {n}"),) for n in range(4)]
    given: list[tuple[ChatMessage, Finish]] = [(ChatMessage("assistant", "yes " * n), "stop") for n in range(4)]
    replies = asked, given
    with cpu_threads(1):
        expected = sampled(tmp_path / "here.jsonl")
        logps = reply_logps(load_policy(tiny_policy, PolicySettings()), *replies, 300)
        with open_engine(ClusterSettings(address=cluster, retries=2), tmp_path) as engine:
            with engine.for_models(threads=1, gpus=0) as models:
                assert models.workers == 2
                again = dict(models.each(pieces.die_once, [(marks, number) for number in range(2)]))
                assert {number: result.of for number, result in again.items()} == {0: 0, 1: 1}
                with pytest.raises(DriftError, match="piece 1: its process died 2 times"):
                    list(models.each(pieces.die, [0, 1]))
            with (
                pytest.raises(PrerequisiteError, match="no node of the cluster has the 3 cores"),
                engine.for_models(3, 0),
            ):
                pass
            assert sampled(tmp_path / "on-ray.jsonl") == expected
            with policy_for_pieces(tiny_policy, PolicySettings()) as policy:
                assert reply_logps(policy, *replies, 300) == logps


def test_no_cluster_at_the_address(tmp_path: Path):
    with (
        pytest.raises(PrerequisiteError, match=r"cluster.address 127.0.0.1:1: no Ray cluster answers .*ray start"),
        open_engine(ClusterSettings(address="127.0.0.1:1"), tmp_path),
    ):
        pass
