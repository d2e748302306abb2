"""The length-controlled win rate: what the model would win if its replies were as long as the baseline's.

p(model beats baseline) = sigmoid(theta + phi tanh(dlen / std(dlen)) + gamma d_x), fitted per model with an L1 penalty
(arXiv 2404.04475, eq. 2); dlen = characters of the baseline minus those of the model, d_x = how hard instruction x is.
The original fits with two fixed files: the difficulty of each instruction, and annotations of gamed baselines.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from drift.errors import DataError
from drift.evals.files import read_text

DIFFICULTY, GAMED = "instruction_difficulty", "df_gamed"
OFFICIAL = {f"{DIFFICULTY}.csv", f"{GAMED}.csv"}


@dataclass(frozen=True, slots=True)
class LengthControlReference:
    """`difficulty`: by position. Of the gamed rows (G, 1610 in the original): `gamed_preference` float64 [G] in [0, 1],
    `gamed_length` float64 [G], standardised length difference, and `gamed_difficulty` float64 [G].
    """

    difficulty: dict[int, float]
    gamed_preference: np.ndarray
    gamed_length: np.ndarray
    gamed_difficulty: np.ndarray
    files: tuple[str, ...]

    @property
    def official(self) -> bool:
        """Do the files have the names of the original ones?"""
        return set(self.files) == OFFICIAL


def read_reference(folder: Path) -> LengthControlReference:
    """Reads `instruction_difficulty*.csv` and `df_gamed*.csv`. Raises DataError naming what is missing or wrong."""
    difficulty_file, gamed_file = _only(folder, DIFFICULTY), _only(folder, GAMED)
    difficulty = _columns(difficulty_file, ("", DIFFICULTY))
    gamed = _columns(gamed_file, ("preference", "std_delta_len", DIFFICULTY))
    return LengthControlReference(
        difficulty={int(place): value for place, value in zip(difficulty[""], difficulty[DIFFICULTY], strict=True)},
        gamed_preference=gamed["preference"],
        gamed_length=gamed["std_delta_len"],
        gamed_difficulty=gamed[DIFFICULTY],
        files=(difficulty_file.name, gamed_file.name),
    )


def _only(folder: Path, stem: str) -> Path:
    """The only file of that name; the original's name wins."""
    matching = sorted(folder.glob(f"{stem}*.csv"))
    exact = [path for path in matching if path.name in OFFICIAL]
    if len(exact or matching) == 1:
        return (exact or matching)[0]
    problem = f"{len(matching)} files match" if matching else "there is no"
    raise DataError(f"{folder}: {problem} {stem}*.csv; the length-controlled win rate needs one (--reference DIR).")


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Numeric columns by name; "" is the first column, whatever its name (the index that pandas wrote)."""
    rows = list(csv.reader(io.StringIO(read_text(path))))
    header, values = (rows[0], rows[1:]) if rows else ([], [])
    missing = [name for name in names if name and name not in header]
    if missing or not values:
        raise DataError(f"{path}:1: needs the column {missing[0]!r}." if missing else f"{path}: holds no rows.")
    places = {name: header.index(name) if name else 0 for name in names}
    try:
        return {name: np.array([float(row[place]) for row in values if row]) for name, place in places.items()}
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: a number is missing or invalid: {error}.") from None


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
    `length_differences` in characters (NaN where there is no reply) and `difficulty`, both float64 [N].
    """
    with_reply = length_differences[~np.isnan(length_differences)]
    spread = with_reply.std(ddof=1) if len(with_reply) > 1 else 0.0  # not centred, as in the original
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
