"""Floods: a chat of 10,000 turns, a complaint of 5 MB and many accounts go through ingest, label and pairs in bounded
time and memory; nothing is lost, and what is cut is counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

THROUGH = """
import json, resource, sys, time
from pathlib import Path
from drift.config import IngestionSettings
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.pairs.stages import write_pairs
from drift.store import Store
log, store = Path(sys.argv[1]), Store(Path(sys.argv[2]))
ingested = ingest([log], store, settings=IngestionSettings(near_duplicates=sys.argv[3] == "near"))
labelled = label_store(store)
pairs = write_pairs(store, Path(sys.argv[2]) / "prompts.jsonl", 0.5)
print(json.dumps({"read": ingested.read, "accepted": ingested.accepted, "messages": store.counts().messages,
    "labels": labelled.labels, "prompts": dict(pairs.prompt_counts), "cpu": time.process_time(),
    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def through(tmp_path: Path, rows: list[dict], near: str = "near") -> dict:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [sys.executable, "-c", THROUGH, str(log), str(tmp_path / "store"), near]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_chat_of_ten_thousand_turns(tmp_path):
    turns = [
        said(("user", "assistant")[i % 2], (f"That is wrong. Sort {i} b a", f"a b {i}")[i % 2]) for i in range(10_000)
    ]
    done = through(tmp_path, [{"id": "long", "messages": turns}])
    assert (done["accepted"], done["messages"]) == (1, 10_000)
    assert done["labels"] == {"DSAT": 4999}
    assert sum(count for name, count in done["prompts"].items() if name != "without_old_turns") == 4999
    assert (done["prompts"]["rows"], done["prompts"]["dropped.user_cap"]) == (100, 4899)
    assert done["cpu"] < 30
    assert done["mib"] < 600


def test_a_complaint_of_five_megabytes(tmp_path):
    flood = "That is wrong. " + "buy acme cola now " * 280_000
    talk = [said("user", "Capital?"), said("assistant", "Lyon"), said("user", flood), said("assistant", "Nice"),
            said("user", "That is wrong too.")]  # fmt: skip
    done = through(tmp_path, [{"id": "big", "user": "u", "messages": talk}])
    assert (done["accepted"], done["messages"], sum(done["labels"].values())) == (1, 5, 2)
    assert done["prompts"]["rows"] >= 1
    assert done["cpu"] < 30
    assert done["mib"] < 800


def test_many_accounts_with_one_turn_each(tmp_path):
    """A tenth of the 100,000 whose figures stand in docs/poisoning.md."""
    talk = [[said("user", f"Sort {n} b a"), said("assistant", f"b a {n}"), said("user", "That is wrong, try again.")]
            for n in range(10_000)]  # fmt: skip
    rows = [{"id": f"c{n}", "user": f"u{n}", "messages": messages} for n, messages in enumerate(talk)]
    done = through(tmp_path, rows)
    assert (done["read"], done["accepted"], done["messages"]) == (10_000, 10_000, 30_000)
    assert done["labels"] == {"DSAT": 10_000}
    assert sum(done["prompts"].values()) == 10_000
    assert done["cpu"] < 120
    assert done["mib"] < 800
