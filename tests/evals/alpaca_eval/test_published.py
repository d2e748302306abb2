"""Our arithmetic against the leaderboard: numbers that we did not make, of every model whose annotations are here."""

import csv
from pathlib import Path

import numpy as np
import pytest

from drift.evals.alpaca_eval.annotations import read_annotations
from drift.evals.alpaca_eval.length_control import read_reference
from drift.evals.alpaca_eval.metrics import measure


@pytest.fixture(scope="module")
def folder(test_data) -> Path:
    return test_data / "eval" / "alpaca_eval"


@pytest.fixture(scope="module")
def published(folder) -> dict[str, dict[str, str]]:
    with (folder / "leaderboard.csv").open(encoding="utf-8") as rows:
        return {row["model"]: row for row in csv.DictReader(rows)}


def test_win_rate_and_standard_error_of_every_model(folder, published):
    files = sorted((folder / "annotations").glob("*.jsonl"))
    assert len(files) == len(published) == 28
    for file in files:
        (annotations,) = read_annotations(file)
        result, row = measure(annotations, None), published[file.stem]
        assert result.win_rate == pytest.approx(float(row["win_rate"]), abs=1e-6)
        assert result.standard_error == pytest.approx(float(row["standard_error"]), abs=1e-6)
        counts = (result.n_total, result.n_wins, result.n_wins_base, result.n_draws)
        assert counts == tuple(int(row[name]) for name in ("n_total", "n_wins", "n_wins_base", "n_draws"))


def length_controlled_errors(folder: Path, published: dict[str, dict[str, str]], names: list[str]) -> np.ndarray:
    reference = read_reference(folder)
    errors = []
    for name in names:
        (annotations,) = read_annotations(folder / "annotations" / f"{name}.jsonl")
        found = measure(annotations, reference).length_controlled_winrate
        assert found is not None
        errors.append(found - float(published[name]["length_controlled_winrate"]))
    return np.abs(errors)


def test_length_controlled_win_rate_of_a_few(folder, published):
    names = ["gpt4_1106_preview", "gpt4_gamed", "alpaca-7b_verbose", "claude", "FuseChat-Gemma-2-9B-Instruct"]
    assert length_controlled_errors(folder, published, names).max() < 0.2


@pytest.mark.slow
def test_length_controlled_win_rate_of_every_model(folder, published):
    errors = length_controlled_errors(folder, published, sorted(published))
    assert errors.max() < 0.2
    assert np.median(errors) < 0.01
