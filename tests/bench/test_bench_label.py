"""The labeller's figures: what they count, and the bars on the real data."""

import pytest

from drift.bench.label import bench_label, measure_iard, measure_speed, read_sharegpt
from drift.errors import DataError
from drift.feedback.embedded.labeller import EmbeddedLabeller

CHATS = b"""[{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"},
    {"from": "human", "value": "That is wrong"}, {"from": "stranger", "value": "x"}]}]"""


def test_speed_counts_judged_turns(tmp_path):
    path = tmp_path / "chats.json"
    path.write_bytes(CHATS)
    (conversation,) = read_sharegpt(path)
    assert [message.role for message in conversation.messages] == ["user", "assistant", "user"]
    speed, turns = measure_speed(EmbeddedLabeller(), [conversation] * 30)
    assert turns == 30
    assert speed > 0


def test_what_is_not_given_is_not_measured():
    result = bench_label(None, None)
    assert (result.turns_per_second, result.iard) == (None, None)


@pytest.mark.parametrize("content", [b"{", b"[1]", b'[{"messages": []}]'])
def test_another_shape_is_refused(tmp_path, content):
    path = tmp_path / "chats.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"chats.json: no ShareGPT file"):
        bench_label(None, path)


@pytest.fixture(scope="module")
def on_iard(test_data):
    return measure_iard(EmbeddedLabeller(), test_data / "labels" / "iard.jsonl", seed=0)


def test_the_bar_of_auroc_on_iards_test_dialogues(on_iard, test_data):
    assert on_iard.dialogues == 64
    assert on_iard.auroc >= 0.90
    assert on_iard.auroc_interval[0] < on_iard.auroc < on_iard.auroc_interval[1]
    assert on_iard == measure_iard(EmbeddedLabeller(), test_data / "labels" / "iard.jsonl", seed=0)


@pytest.mark.xfail(strict=True, reason="measured 0.695 [0.606, 0.779]: docs/LOG.md")
def test_the_bar_of_f1_on_iards_test_dialogues(on_iard):
    assert on_iard.f1 >= 0.70
