"""The labeller's figures: what they count, and the bars on the real data."""

import numpy as np
import pytest

from drift.bench.label import (
    bench_label,
    gold_figures,
    interval,
    measure_gold,
    measure_iard,
    measure_speed,
    precision_at_recall,
    read_logs,
    reliability,
)
from drift.errors import DataError
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.fit.sources import GoldTurn
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.statistics import Share

CHATS = b"""[{"id": "a", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"},
    {"from": "human", "value": "That is wrong"}]}]"""


def test_speed_counts_judged_turns(tmp_path):
    path = tmp_path / "chats.json"
    path.write_bytes(CHATS)
    (conversation,) = read_logs(path)
    assert [message.role for message in conversation.messages] == ["user", "assistant", "user"]
    speeds, turns = measure_speed(EmbeddedLabeller(), [conversation] * 30)
    assert turns == 30
    assert min(speeds) > 0


def test_what_is_not_given_is_not_measured():
    result = bench_label(None, None)
    assert (result.turns_per_second, result.iard, result.gold) == (None, None, None)


def test_gold_needs_the_other_two(tmp_path):
    with pytest.raises(DataError, match="--gold needs --iard and --logs too"):
        bench_label(None, None, tmp_path / "gold.jsonl")


def test_another_shape_is_refused(tmp_path):
    path = tmp_path / "chats.json"
    path.write_bytes(b"[1]")
    with pytest.raises(DataError, match=r"chats.json"):
        bench_label(None, path)


def test_precision_at_a_recall_by_hand():
    truth, p_dsat = np.asarray([1, 0, 1, 1, 0, 0], dtype=bool), np.asarray([0.9, 0.8, 0.7, 0.7, 0.6, 0.1])
    assert precision_at_recall(truth, p_dsat, 0.3) == 1.0
    assert precision_at_recall(truth, p_dsat, 1 / 3) == 1.0
    assert precision_at_recall(truth, p_dsat, 0.5) == 0.75  # equal scores come together


def test_gold_figures_by_hand(monkeypatch):
    told = [GoldTurn(str(i % 4), Turn("t", "r", "q"), "DSAT" if i < 4 else "NEUTRAL") for i in range(16)]
    p_dsat = np.asarray([0.9, 0.8, 0.6, 0.3, 0.7, *[0.1] * 11])
    monkeypatch.setattr("drift.bench.label.RESAMPLES", 50)
    figures = gold_figures(told, p_dsat)
    assert (figures.turns, figures.dissatisfied) == (16, 4)
    assert (figures.auroc, figures.precision, figures.recall) == (pytest.approx(46.0 / 48, abs=1e-4), 0.75, 0.75)
    brier = (0.01 + 0.04 + 0.16 + 0.49 + 0.49 + 11 * 0.01) / 16
    assert figures.brier_skill == pytest.approx(1 - brier / (0.25 * 0.75), abs=1e-4)
    assert figures.auroc_interval[0] <= figures.auroc <= figures.auroc_interval[1]


def test_reliability_bins_hold_as_many_turns():
    p_dsat = np.linspace(0, 1, 10)
    assert reliability(p_dsat > 0.5, p_dsat, bins=2) == [
        (pytest.approx(0.2222), 0.0, 5),
        (pytest.approx(0.7778), 1.0, 5),
    ]


def test_intervals_have_four_digits():
    assert interval(Share(0.5, 1 / 3, 2 / 3)) == (0.3333, 0.6667)


@pytest.fixture(scope="module")
def on_iard(test_data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drift.bench.label.RESAMPLES", 100)  # of the interval, whose width no test looks at
        return measure_iard(EmbeddedLabeller(), test_data / "labels" / "iard.jsonl", seed=0)


def test_the_bars_on_iards_test_dialogues(on_iard):
    assert on_iard.dialogues == 64
    assert on_iard.f1 >= 0.70
    assert on_iard.auroc_interval[0] < on_iard.auroc < on_iard.auroc_interval[1]


def test_the_bar_of_auroc_on_iards_test_dialogues(on_iard):
    assert on_iard.auroc >= 0.91


@pytest.mark.slow
def test_the_bars_on_gold_labels_of_real_chats(test_data):
    logs = read_logs(test_data / "logs" / "sharegpt_real.json")
    found = measure_gold(test_data / "labels" / "sharegpt_gold.jsonl", test_data / "labels" / "iard.jsonl", logs)
    assert (found.turns, found.dissatisfied) == (581, 97)
    assert found.auroc >= 0.85
    assert found.precision_at_recall_35 >= 0.75
    assert found.brier_skill > 0
