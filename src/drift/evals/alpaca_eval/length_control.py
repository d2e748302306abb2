"""The length-controlled win rate: what the model would win if its replies were as long as the baseline's.

p(model beats baseline) = sigmoid(theta + phi tanh(dlen / std(dlen)) + gamma d_x), fitted per model with an L1 penalty
(arXiv 2404.04475, eq. 2); dlen = characters of the baseline minus those of the model, d_x = how hard instruction x is.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from drift.evals.alpaca_eval.reference import LengthControlReference

GAMED_WEIGHT = 0.1
"""Lambda 0.2, shared by the two gamed baselines."""
STRENGTHS = np.logspace(-4, 4, 10)
FOLDS = 5
SEED = 123
TINY = 1e-15


@dataclass(frozen=True, slots=True)
class Training:
    """The rows of the regression (R): `features` float64 [R, 3] (length, difficulty, theta), `wins` float64 [R], the
    probability that the model wins, `weights` float64 [R].
    """

    features: np.ndarray
    wins: np.ndarray
    weights: np.ndarray


def controlled_winrates(
    wins: np.ndarray, length_differences: np.ndarray, difficulty: np.ndarray, reference: LengthControlReference
) -> np.ndarray:
    """p(model beats baseline) of every instruction at equal length, float64 [N].

    `wins`: float64 [N] in [0, 1], NaN where unscored (left out of the fit, predicted all the same);
    `length_differences` in characters and `difficulty`, both float64 [N].
    """
    spread = length_differences.std(ddof=1)  # not centred, as in the original
    lengths = np.tanh(length_differences / spread) if spread > 0 else np.zeros_like(length_differences)
    own = np.column_stack([lengths, difficulty, np.ones_like(lengths)])
    scored = ~np.isnan(wins)
    gamed = np.column_stack(
        [np.tanh(reference.gamed_length), reference.gamed_difficulty, np.zeros_like(reference.gamed_length)]
    )
    training = Training(
        features=np.vstack([gamed, own[scored]]),
        wins=np.concatenate([reference.gamed_preference, wins[scored]]),
        weights=np.concatenate([np.full(len(gamed), GAMED_WEIGHT), np.ones(int(scored.sum()))]),
    )
    _, gamma, theta = fit(training)
    return 1 / (1 + np.exp(-(theta + gamma * difficulty)))


def fit(training: Training) -> np.ndarray:
    """phi, gamma, theta at the penalty that 5-fold cross-validation likes best; a row stays whole within its fold."""
    rows = len(training.wins)
    features = np.vstack([training.features, training.features])
    outcome = np.repeat([1, 0], rows)
    share = np.concatenate([training.wins, 1 - training.wins])
    weights = np.concatenate([training.weights, training.weights])
    group = np.tile(np.arange(rows), 2)

    def coefficients(strength: float, chosen: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=strength, l1_ratio=1, solver="liblinear", fit_intercept=False, random_state=SEED)
        model.fit(features[chosen], outcome[chosen], sample_weight=(share * weights)[chosen])
        return model.coef_[0]

    def held_out(strength: float, train: np.ndarray, test: np.ndarray) -> float:
        """Mean weighted log-likelihood of the true shares."""
        p = 1 / (1 + np.exp(-features[test] @ coefficients(strength, train)))
        p = np.clip(p, TINY, 1 - TINY)
        true = np.where(outcome[test] == 1, share[test], 1 - share[test])
        return float(np.mean(weights[test] * (true * np.log(p) + (1 - true) * np.log(1 - p))))

    folds = list(GroupKFold(FOLDS).split(features, outcome, group))
    scores = [np.mean([held_out(strength, *fold) for fold in folds]) for strength in STRENGTHS]
    return coefficients(STRENGTHS[int(np.argmax(scores))], np.arange(len(features)))
