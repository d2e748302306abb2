import json

import pytest

from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.pairs.disliked import prompt_items
from drift.records import PromptItem
from drift.store import Store

ROWS = [
    {"instruction": "Name a fruit.", "completions": [
        {"response": "A car.", "overall_score": 2.0},
        {"response": "Apple.", "overall_score": 9.0},
        {"response": "Fruit.", "overall_score": 4.0},
    ]},
    {"prompt": "Name a colour.", "prompt_id": "x", "score_chosen": 8.5, "score_rejected": 7.0,
     "chosen": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}],
     "rejected": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blueish."}]},
    {"instruction": "Nobody scored this.", "completions": [{"response": "a", "overall_score": None}]},
]  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    path = tmp_path / "uf.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    store = Store(tmp_path / "store")
    done = ingest([path], store)
    assert (done.accepted, sum(done.quarantined.values())) == (2, 1)
    label_store(store)
    return store


def test_a_low_score_stands_in_for_dissatisfaction_and_a_high_one_for_a_repair(store):
    (item,) = [row for row in prompt_items(store.labelled(), 0.5) if isinstance(row, PromptItem)]
    assert item.prompt[-1].content == "Name a fruit."
    assert item.rejected
    assert item.preferred
    assert (item.rejected.content, item.preferred.content, item.complaint) == ("A car.", "Apple.", None)


def test_a_reply_that_is_merely_worse_is_not_disliked(store):
    labels = {label.label for _, labels in store.labelled() for label in labels}
    assert labels == {"DSAT", "SAT"}
    assert sum(label.label == "DSAT" for _, labels in store.labelled() for label in labels) == 1
