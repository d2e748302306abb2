"""AlpacaEval's figures from small files whose numbers can be worked out by hand."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.errors import DataError
from drift.evals.alpaca_eval.annotations import ModelAnnotations, read_annotations
from drift.evals.alpaca_eval.length_control import LengthControlReference, controlled_winrates, read_reference
from drift.evals.alpaca_eval.metrics import measure, summarise_annotations

RNG = np.random.default_rng(0)
REFERENCE = LengthControlReference(
    difficulty={i: float(d) for i, d in enumerate(RNG.normal(size=60))},
    gamed_preference=RNG.uniform(size=20),
    gamed_length=RNG.normal(size=20),
    gamed_difficulty=RNG.normal(size=20),
    files=("instruction_difficulty.csv", "df_gamed.csv"),
)


def write(path: Path, rows: list[dict], array: bool = False) -> Path:
    text = json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows)  # writes NaN as pandas does
    path.write_text(text, encoding="utf-8")
    return path


def annotated(preferences: list[float], lengths: list[float] | None = None, model: str = "m") -> ModelAnnotations:
    return ModelAnnotations(
        model=model,
        baseline="gpt4_1106_preview",
        annotator=None,
        preferences=np.array(preferences, dtype=float),
        length_differences=None if lengths is None else np.array(lengths, dtype=float),
        positions=tuple(range(len(preferences))),
    )


def test_by_hand():
    """0 is a draw, 2.5 is dropped, NaN is unscored: mean(0, .5, 1, .5) = 1/2, sem = sqrt(1/6) / 2."""
    result = measure(annotated([1, 0, 2, 1.5, 2.5, math.nan]), None)
    assert (result.win_rate, result.n_total, result.n_unscored, result.n_invalid) == (50, 4, 1, 1)
    assert result.standard_error == pytest.approx(100 * math.sqrt(1 / 6) / 2)
    assert (result.n_wins, result.n_wins_base, result.n_draws) == (1, 1, 2)
    assert result.length_controlled_winrate is None


def test_nothing_scored_is_an_error_and_no_low_score():
    with pytest.raises(DataError, match="none of its 2 annotations"):
        measure(annotated([math.nan, 3]), None)


def test_the_baseline_is_at_50_under_length_control():
    result = measure(annotated([1.5] * 10, model="gpt4_1106_preview"), REFERENCE)
    assert (result.length_controlled_winrate, result.lc_standard_error) == (50, 0)


def test_unscored_rows_are_predicted_but_not_fitted():
    wins = RNG.uniform(size=60)
    wins[7] = np.nan
    lengths = RNG.normal(size=60) * 300
    difficulty = np.array(list(REFERENCE.difficulty.values()))
    predicted = controlled_winrates(wins, lengths, difficulty, REFERENCE)
    assert predicted.shape == (60,)
    assert np.isfinite(predicted).all()
    fitted = np.linalg.lstsq(
        np.column_stack([np.ones(60), difficulty]), np.log(predicted / (1 - predicted)), rcond=None
    )[1]
    assert fitted == pytest.approx(0, abs=1e-12)  # logit = theta + gamma d, the length is gone


def test_a_reply_that_never_came_has_no_length(tmp_path):
    """It is in no spread of lengths; the other rows are fitted as if it were not there."""
    wins, lengths = RNG.uniform(size=60), RNG.normal(size=60) * 300
    rows = [{"preference": 1 + w, "len_1": 1000, "len_2": 1000 - d} for w, d in zip(wins, lengths, strict=True)]
    lost = {"preference": None, "output_1": "x" * 9000, "output_2": None}
    (annotations,) = read_annotations(write(tmp_path / "a.jsonl", [*rows[:-1], lost]))
    assert annotations.length_differences is not None
    assert np.isnan(annotations.length_differences).nonzero()[0].tolist() == [59]
    difficulty = np.array(list(REFERENCE.difficulty.values()))
    predicted = controlled_winrates(annotations.preferences - 1, annotations.length_differences, difficulty, REFERENCE)
    others = controlled_winrates(wins[:-1], lengths[:-1], difficulty[:-1], REFERENCE)
    assert predicted[:-1] == pytest.approx(others, abs=1e-12)
    assert 0 < predicted[-1] < 1
    (scored_without,) = read_annotations(write(tmp_path / "b.jsonl", [*rows[:-1], lost | {"preference": 1.5}]))
    assert scored_without.length_differences is None


def test_no_deprecated_call():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        result = measure(annotated(list(1 + RNG.uniform(size=60)), list(RNG.normal(size=60))), REFERENCE)
    assert result.length_controlled_winrate is not None


def test_equal_lengths_do_not_divide_by_zero():
    result = measure(annotated(list(1 + RNG.uniform(size=60)), [100.0] * 60), REFERENCE)
    assert 0 < (result.length_controlled_winrate or -1) < 100


@given(st.lists(st.floats(1, 2), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_swapping_the_sides_turns_the_rate_round(preferences):
    one, other = measure(annotated(preferences), None), measure(annotated([3 - p for p in preferences]), None)
    assert one.win_rate + other.win_rate == pytest.approx(100)
    assert one.standard_error == pytest.approx(other.standard_error, abs=1e-9)
    assert 0 <= one.win_rate <= 100


def test_public_files_have_texts_nan_and_several_models(tmp_path):
    texts = {"instruction": "a", "output_1": "1234", "generator_1": "b", "output_2": "12"}
    judged = (("x", 2.0), ("x", float("nan")), ("y", 1), ("y", None))
    rows = [texts | {"generator_2": generator, "preference": preference} for generator, preference in judged]
    for array in (True, False):
        models = read_annotations(write(tmp_path / f"{array}.json", rows, array))
        assert [m.model for m in models] == ["x", "y"]
        assert models[0].length_differences is not None
        assert models[0].length_differences.tolist() == [2, 2]
        assert [m.positions for m in models] == [(0, 1), (0, 1)]
    plain = summarise_annotations(tmp_path / "True.json", None).plain()
    assert {name: figures["win_rate"] for name, figures in plain["models"].items()} == {"x": 100, "y": 0}


def test_an_index_in_the_file_places_the_rows(tmp_path):
    rows = [{"preference": 1.5, "index": i, "len_1": 1, "len_2": 1} for i in (3, 1, 2)]
    assert read_annotations(write(tmp_path / "a.jsonl", rows))[0].positions == (3, 1, 2)


def test_bad_input_names_file_row_and_value(tmp_path):
    bad = write(tmp_path / "a.jsonl", [{"preference": 1}, {"preference": "often"}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: preference: .*'often'"):
        read_annotations(bad)
    with pytest.raises(DataError, match=r"there is no instruction_difficulty\*\.csv"):
        read_reference(tmp_path)
    (tmp_path / "instruction_difficulty.csv").write_text(",instruction_difficulty\n0,0.5\n")
    (tmp_path / "df_gamed.csv").write_text("model,index\nm,0\n")
    with pytest.raises(DataError, match="needs the column 'preference'"):
        read_reference(tmp_path)
    few = LengthControlReference(
        {0: 0.0}, *[REFERENCE.gamed_length] * 3, files=("instruction_difficulty.csv", "df_gamed.csv")
    )
    with pytest.raises(DataError, match="5 of 6 rows, the first at position 1"):
        measure(annotated([1.5] * 6, [1.0] * 6), few)


def test_what_is_not_the_official_protocol_is_said():
    reasons = measure(annotated([1, 2]), None).not_comparable
    assert [r for r in reasons if "judge" in r]
    assert "2 instructions, not 805" in reasons
