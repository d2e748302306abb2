"""The fit: deterministic, calibrated, blind to what is held out, and its weights run in the labeller."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from drift.feedback.embedded.book.expand import Book, PhraseExample, expand, read_book
from drift.feedback.embedded.features import Turn, features
from drift.feedback.embedded.fit import learn
from drift.feedback.embedded.fit.pool import GOLD, IARD, pool
from drift.feedback.embedded.fit.sources import GoldTurn, IardTurn
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.embedded.model import TurnScorer, save_model


@pytest.fixture(scope="module", autouse=True)
def few_trees():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "GRID", (learn.TreeSettings(10, 3), learn.TreeSettings(10, 2)))
        yield


@pytest.fixture(scope="module")
def examples() -> list[PhraseExample]:
    book = read_book()
    return expand(Book(book.patterns[::10], book.tasks[:6], book.fillings), 0)[::10]


def gold_turns(names: list[str]) -> list[GoldTurn]:
    """Made-up real turns; every fourth conversation complains."""
    said = ("It is not working yet {0}", "add a chart {0}", "thanks for {0}", "now sort by {0}")
    truths = ("DSAT", "NEUTRAL", "SAT", "NEUTRAL")
    return [
        GoldTurn(name, Turn(said[i % 4].format(name), "Here is the page.", "make a page"), truths[i % 4])
        for i, name in enumerate(names)
    ]


@pytest.fixture(scope="module")
def small(examples):
    turns = [(f"I did not like it {i}", True, False) if i % 3 else (f"sure {i}", False, i % 2 == 0) for i in range(60)]
    iard = [IardTurn(str(i), Turn(text, "Movie?", "hi"), *told) for i, (text, *told) in enumerate(turns)]
    return pool(examples, iard, gold_turns([f"chat {i}" for i in range(80)]), ["hello there", "do it again"])


@pytest.fixture(scope="module")
def linears(small):
    return learn.Linears(small)


@pytest.fixture(scope="module")
def model(linears):
    return learn.fit(linears)


def test_the_same_data_give_the_same_weights_and_they_run(small, model, tmp_path, chat):
    again = learn.fit(learn.Linears(small))
    assert np.array_equal(again.linear, model.linear)
    assert np.array_equal(again.trees.leaves, model.trees.leaves)
    save_model(tmp_path / "weights.npz", model)
    said = ["It is not working yet chat 3", "add a chart chat 5"]
    labels = EmbeddedLabeller(tmp_path / "weights.npz").label(
        [chat("make a page", "Here is the page.", t) for t in said]
    )
    assert [label.label for label in labels] == ["DSAT", "NEUTRAL"]


def test_the_linear_scores_of_the_fit_are_those_of_the_labeller(small, model, examples):
    batch = features([example.turn for example in examples[:50]])
    scored = TurnScorer(model).linear(batch)
    related, said = small.related[:50], small.turn_words[:50]
    assert scored[:, 0] == pytest.approx(related @ model.linear[:-1, 0] + model.linear[-1, 0], abs=1e-4)
    assert scored[:, 1] == pytest.approx(said @ model.linear[: said.shape[1], 1] + model.linear[-1, 1], abs=1e-4)


def test_the_trees_as_arrays_say_what_the_trees_say():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 6)).astype(np.float32).round(1)
    truth = values[:, 0] + values[:, 1] * values[:, 2] + rng.normal(size=500) > 0
    grown = GradientBoostingClassifier(n_estimators=20, max_depth=3, min_samples_leaf=40, random_state=0)
    grown.fit(values, truth)
    prior = np.log(truth.mean() / (1 - truth.mean()))
    trees = learn._as_arrays(grown)
    assert trees.sums(values) + prior == pytest.approx(grown.decision_function(values), abs=1e-5)


def test_calibration_makes_log_odds_of_scores():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(2 * scores - 1)))
    assert learn.calibrate(scores, truth) == pytest.approx((2.0, -1.0), abs=0.1)


def test_what_is_held_out_owes_nothing_to_its_own_labels(small, linears):
    """Turning all labels of one fold around leaves the model that scores this fold as it was, and no other."""
    turned = small.dsat.copy()
    turned[(small.source == GOLD) & (small.fold == 2)] ^= True
    other = learn.Linears(replace(small, dsat=turned))
    same, changed = ([learn.boost(each, fold) for each in (linears, other)] for fold in (2, 1))
    assert np.array_equal(same[0].trees.leaves, same[1].trees.leaves)
    assert same[0].offset == same[1].offset
    assert not np.array_equal(changed[0].trees.leaves, changed[1].trees.leaves)


def test_a_row_is_never_scored_by_weights_that_saw_its_fold(small, linears, monkeypatch):
    asked: list[frozenset[int]] = []
    monkeypatch.setattr(linears, "_columns", {})
    original = learn.Linears.weights

    def weights(self, name, without=frozenset()):
        asked.append(without)
        return original(self, name, without)

    monkeypatch.setattr(learn.Linears, "weights", weights)
    linears.scores("heard", 1)
    assert asked == [frozenset({fold, 1}) for fold in range(5)]
    assert (small.source == IARD).sum() == 60
