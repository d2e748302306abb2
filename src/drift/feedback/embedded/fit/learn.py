"""Fits the labeller's model on a pool, in two steps.

First linear scores of hashed words: `heard` from all sources, `plain` from the phrase book and IARD without relations,
`sat`, and the subtypes from the book. Then small boosted trees over these scores and the relations. Trees never learn
from a score that was fitted on the row itself: a row of fold h is scored by weights fitted without fold h. The
size of the trees and the calibration come from gold turns held out inside the training folds, so that a figure of fold
f (`held_out`) does not depend on fold f.
"""

import logging
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from drift.feedback.embedded.features import RELATION
from drift.feedback.embedded.fit.pool import BOOK, GOLD, IARD, Pool
from drift.feedback.embedded.fit.sources import FOLDS
from drift.feedback.embedded.model import INNER, LEAVES, VERDICTS, Model, Trees

STRENGTH = 3.0  # inverse regularisation of the linear scores
ROWS = 3000.0  # each source weighs as much as so many turns in a linear score
TREE_SHARES = {BOOK: 0.5, IARD: 2.0}  # weight of a source against gold in the trees
BOOK_ROWS = 2500

log = logging.getLogger("drift.feedback.embedded.fit")


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """How many trees, and how deep."""

    trees: int
    depth: int


GRID = (TreeSettings(60, 3), TreeSettings(100, 3), TreeSettings(120, 2))


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trees whose sum plus `offset` is calibrated log-odds."""

    trees: Trees
    offset: float


@dataclass
class Linears:
    """The linear scores of a pool's rows, by weights that did not see their fold; each weight is fitted once."""

    pool: Pool
    _fitted: dict[tuple[str, frozenset[int]], np.ndarray] = field(default_factory=dict)
    _columns: dict[tuple[str, int | None], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._related = self.pool.related

    def weights(self, name: str, without: frozenset[int] = frozenset()) -> np.ndarray:
        """float64 [columns + 1], the bias last, of `heard`, `plain` or `sat`, fitted `without` some folds."""
        if (name, without) not in self._fitted:
            rows = np.isin(self.pool.fold, list(without), invert=True)
            rows &= {"heard": True, "plain": self.pool.source != GOLD, "sat": self.pool.sat >= 0}[name]
            truth = self.pool.sat > 0 if name == "sat" else self.pool.dsat
            features = self.pool.turn_words if name == "plain" else self._related
            self._fitted[name, without] = learn_linear(features, truth, np.flatnonzero(rows), self.pool.source)
        return self._fitted[name, without]

    def scores(self, name: str, outer: int | None = None, asked: bool = False) -> np.ndarray:
        """float64 [n]. Rows of the fold `outer` and, one by one, of the other folds by weights that saw neither.

        `plain` sees no gold turn anyway: it has no outer fold. `asked`: of the requests instead of the turns.
        """
        outer = None if name == "plain" else outer
        key = ("asked" if asked else name, outer)
        if key not in self._columns:
            self._columns[key] = self._scores(name, outer, asked)
        return self._columns[key]

    def _scores(self, name: str, outer: int | None, asked: bool) -> np.ndarray:
        features = self.pool.request_words if asked else self.pool.turn_words if name == "plain" else self._related
        scores = np.zeros(len(self.pool.fold))
        for fold in range(FOLDS):
            rows = self.pool.fold == fold
            if name == "plain":
                unseen = np.flatnonzero(rows & (self.pool.source == GOLD))
                scores[unseen] = _score(features[unseen], self.weights(name))
                rows &= self.pool.source != GOLD
            chosen = np.flatnonzero(rows)
            without = frozenset({fold} if outer is None else {fold, outer})
            scores[chosen] = _score(features[chosen], self.weights(name, without))
        return scores

    def seen(self, outer: int | None) -> np.ndarray:
        """float32 [n, len(SEEN)]: what the trees look at."""
        scores = (self.scores("heard", outer), self.scores("plain"), self.scores("plain", asked=True))
        return np.column_stack((*scores, self.pool.relation)).astype(np.float32)


def learn_linear(features: csr_array, truth: np.ndarray, rows: np.ndarray, source: np.ndarray) -> np.ndarray:
    """float64 [columns + 1]: weights of a linear score, the bias last; each source counts the same."""
    counts = np.bincount(source[rows], minlength=3)
    weight = ROWS / counts[source[rows]]
    model = LogisticRegression(C=STRENGTH, solver="liblinear", tol=1e-2, max_iter=200, random_state=0)
    model.fit(features[rows], truth[rows], sample_weight=weight)
    return np.concatenate((np.ravel(model.coef_), np.ravel(model.intercept_)))


def _score(features: csr_array, weights: np.ndarray) -> np.ndarray:
    return features @ weights[:-1] + weights[-1]


def held_out(linears: Linears) -> np.ndarray:
    """float64 [gold turns]: p_dsat of each gold turn by a model that saw nothing of its fold, in the pool's order."""
    pool = linears.pool
    odds = np.zeros(len(pool.fold))
    for outer in range(FOLDS):
        rows = (pool.source == GOLD) & (pool.fold == outer)
        if rows.any():
            boosted = boost(linears, outer)
            odds[rows] = boosted.trees.sums(linears.seen(outer)[rows]) + boosted.offset
    return 1 / (1 + np.exp(-odds[pool.source == GOLD]))


def boost(linears: Linears, outer: int | None) -> Boosted:
    """Trees that saw no gold turn of the fold `outer`: chosen and calibrated inside the other folds, then refitted."""
    pool, values = linears.pool, linears.seen(outer)
    every = max((pool.source == BOOK).sum() // BOOK_ROWS, 1)
    rows = (pool.source != BOOK) | (np.arange(len(pool.source)) % every == 0)
    rows &= (pool.source != GOLD) | (pool.fold != outer)
    inner = {settings: _inner(pool, values, rows, settings) for settings in GRID}
    gold = rows & (pool.source == GOLD)
    losses = {settings: log_loss(pool.dsat[gold], 1 / (1 + np.exp(-odds[gold]))) for settings, odds in inner.items()}
    chosen = min(losses, key=losses.__getitem__)
    slope, offset = calibrate(inner[chosen][gold], pool.dsat[gold])
    log.info("without fold %s: %s, log loss %.4f", outer, chosen, losses[chosen])
    boosted = _grow(pool, values, rows, chosen)
    return Boosted(
        Trees(boosted.trees.columns, boosted.trees.thresholds, boosted.trees.leaves * np.float32(slope)),
        boosted.offset * slope + offset,
    )


def _inner(pool: Pool, values: np.ndarray, rows: np.ndarray, settings: TreeSettings) -> np.ndarray:
    """float64 [n]: log-odds of the gold rows, each by trees that saw nothing of its fold."""
    odds = np.zeros(len(rows))
    for fold in range(FOLDS):
        out = rows & (pool.source == GOLD) & (pool.fold == fold)
        if out.any():
            boosted = _grow(pool, values, rows & (pool.fold != fold), settings)
            odds[out] = boosted.trees.sums(values[out]) + boosted.offset
    return odds


def _grow(pool: Pool, values: np.ndarray, rows: np.ndarray, settings: TreeSettings) -> Boosted:
    counts = np.bincount(pool.source[rows], minlength=3)
    weights = np.ones(3)
    for source, share in TREE_SHARES.items():
        weights[source] = share * counts[GOLD] / max(counts[source], 1)
    model = GradientBoostingClassifier(
        n_estimators=settings.trees,
        max_depth=settings.depth,
        learning_rate=0.06,
        subsample=0.6,
        max_features=0.2,
        min_samples_leaf=6,
        random_state=0,
    )
    weight = weights[pool.source[rows]]
    model.fit(values[rows], pool.dsat[rows], sample_weight=weight)
    prior = np.average(pool.dsat[rows], weights=weight)
    return Boosted(_as_arrays(model), float(np.log(prior / (1 - prior))))


def _as_arrays(model: GradientBoostingClassifier) -> Trees:
    """Complete trees: a leaf above the last level sends everything left, to its own value."""
    number = len(model.estimators_)
    columns, thresholds = np.zeros((number, INNER), dtype=np.int16), np.full((number, INNER), np.inf, dtype=np.float32)
    leaves = np.zeros((number, LEAVES), dtype=np.float32)
    for i, tree in enumerate(estimator.tree_ for estimator in model.estimators_[:, 0]):
        places = {0: 0}  # of our nodes, the tree's
        for node in range(INNER + LEAVES):
            theirs = places[node]
            leaf = tree.children_left[theirs] < 0
            if node >= INNER:
                leaves[i, node - INNER] = model.learning_rate * tree.value[theirs, 0, 0]
                continue
            if not leaf:
                columns[i, node], thresholds[i, node] = tree.feature[theirs], _below(tree.threshold[theirs])
            children = (theirs, theirs) if leaf else (tree.children_left[theirs], tree.children_right[theirs])
            places[2 * node + 1], places[2 * node + 2] = children
    return Trees(columns, thresholds, leaves)


def _below(threshold: float) -> np.float32:
    """The largest float32 that is not above: for float32 values the comparison stays the same."""
    rounded = np.float32(threshold)
    return rounded if rounded <= threshold else np.nextafter(rounded, np.float32(-np.inf))


def calibrate(odds: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Slope and offset that make held-out scores log-odds (Platt)."""
    line = LogisticRegression(C=1e6).fit(odds[:, None], truth)
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def fit(linears: Linears) -> Model:
    """The model that ships: fitted on the whole pool, calibrated on turns held out."""
    pool = linears.pool
    slope, offset = calibrate(*_approval(linears))
    plain = np.concatenate((linears.weights("plain")[:-1], np.zeros(len(RELATION)), linears.weights("plain")[-1:]))
    sat = linears.weights("sat") * slope
    sat[-1] += offset
    linear = np.column_stack((linears.weights("heard"), plain, sat)).astype(np.float32)
    boosted = boost(linears, None)
    judged = np.flatnonzero((pool.source == BOOK) & (pool.dsat | (pool.sat > 0)))
    subtypes = zip(pool.subtypes[judged], pool.dsat[judged], strict=True)
    verdict = {name: VERDICTS[0] if dsat else VERDICTS[1] for name, dsat in subtypes}
    names = sorted(verdict, key=lambda name: (verdict[name], name))
    kinds = np.column_stack([learn_linear(pool.related, pool.subtypes == name, judged, pool.source) for name in names])
    return Model(
        pool.idf,
        linear,
        boosted.trees,
        boosted.offset,
        np.round(kinds, 2).astype(np.float32),
        tuple(map(str, names)),
        tuple(verdict[name] for name in names),
    )


def _approval(linears: Linears) -> tuple[np.ndarray, np.ndarray]:
    """Held-out scores and truth of approval, of gold turns."""
    rows = linears.pool.source == GOLD
    return linears.scores("sat")[rows], linears.pool.sat[rows] > 0
