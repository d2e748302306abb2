"""The fit: deterministic, calibrated, and its weights run in the labeller."""

import numpy as np
import pytest

from drift.feedback.embedded import fit
from drift.feedback.embedded.book.expand import expand, read_book
from drift.feedback.embedded.features import Features, Turn
from drift.feedback.embedded.iard import IardTurn
from drift.feedback.embedded.labeller import EmbeddedLabeller, bucket_values, logits, save_model


@pytest.fixture(scope="module")
def small():
    """A small part of the book, and made-up dialogues."""
    turns = [(f"I did not like it {i}", True, False) if i % 3 else (f"sure {i}", False, i % 2 == 0) for i in range(60)]
    iard = [IardTurn(str(i), Turn(text, "Movie?", "hi"), *told) for i, (text, *told) in enumerate(turns)]
    return read_book().fold(0, 10, True), iard


def test_the_same_data_give_the_same_weights_and_they_run(small, tmp_path, chat):
    first, second = (fit.fit(*small, seed=0, chosen=fit.Settings(1.0, 3.0)) for _ in range(2))
    assert np.array_equal(first.verdicts, second.verdicts)
    assert np.array_equal(first.subtypes, second.subtypes)
    save_model(tmp_path / "weights.npz", first)
    labels = EmbeddedLabeller(tmp_path / "weights.npz").label([chat("hi", "Movie?", "I did not like it")])
    assert [label.label for label in labels] == ["DSAT"]


def test_calibration_makes_log_odds_of_scores():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(2 * scores - 1)))
    slope, offset = fit.calibrate(fit.HeldOut(scores, truth, np.arange(20_000) % 2 == 0), "DSAT")
    assert (slope, offset) == pytest.approx((2.0, -1.0), abs=0.1)


def test_the_score_of_the_fit_is_the_score_of_the_labeller(small):
    model = fit.fit(*small, seed=0, chosen=fit.Settings(1.0, 3.0))
    turns = [example.turn for example in expand(small[0], 5)[:50]]
    batch = Features().batch(turns)
    fitted = fit.design(turns, model.idf) @ model.verdicts[0, :-1] + model.verdicts[0, -1]
    scored = logits(batch, bucket_values(batch, model.idf), model.verdicts)[:, 0]
    assert scored == pytest.approx(fitted, abs=1e-4)
