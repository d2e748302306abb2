"""Fits the weights of the embedded labeller: `python -m drift.feedback.embedded.fit --iard FILE`, deterministic.

Two sources: the project's phrase book, and IARD's training dialogues. How much each counts is chosen by
cross-validation: the held-out part of the book has other patterns and tasks, that of IARD other dialogues.
"""

import argparse
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from drift.feedback.embedded.book.expand import Book, Example, expand, read_book
from drift.feedback.embedded.features import BUCKETS, Features, Turn
from drift.feedback.embedded.iard import IardTurn, read_iard
from drift.feedback.embedded.labeller import VERDICTS, WEIGHTS, Model, bucket_values, save_model
from drift.records import Verdict

FOLDS = 4
MIXES = (1.0, 2.0, 3.0)
STRENGTHS = (1.0, 3.0, 6.0)


log = logging.getLogger("drift.feedback.embedded.fit")


@dataclass(frozen=True, slots=True)
class Sample:
    """Turns with the truth about one verdict. `from_book` bool [n]: where each comes from."""

    turns: list[Turn]
    truth: np.ndarray
    from_book: np.ndarray


@dataclass(frozen=True, slots=True)
class Settings:
    """`mix`: weight of all of IARD against all of the book; `strength`: inverse regularisation."""

    mix: float
    strength: float


@dataclass(frozen=True, slots=True)
class Fold:
    """What is learnt from and what is held out, with their features under the idf of the former."""

    train: Sample
    train_features: csr_array
    test: Sample
    test_features: csr_array


def sample(examples: Sequence[Example], iard: Sequence[IardTurn], verdict: Verdict) -> Sample:
    """Of IARD, acceptance says something about SAT; its other turns say only whether they are dissatisfied."""
    told = [turn for turn in iard if verdict == "DSAT" or turn.accepts or turn.dissatisfied]
    truth = [example.verdict == verdict for example in examples]
    truth += [turn.dissatisfied if verdict == "DSAT" else turn.accepts and not turn.dissatisfied for turn in told]
    turns = [example.turn for example in examples] + [turn.turn for turn in told]
    return Sample(turns, np.asarray(truth), np.arange(len(turns)) < len(examples))


def design(turns: Sequence[Turn], idf: np.ndarray) -> csr_array:
    """float64 [n, BUCKETS + relations]."""
    batch = Features().batch(turns)
    shape = (len(turns), BUCKETS)
    hashed = csr_array((bucket_values(batch, idf), (batch.owners, batch.buckets)), shape=shape)
    both = csr_array(hstack([hashed, csr_array(batch.relation.astype(np.float64))]))
    both.indices, both.indptr = both.indices.astype(np.int32), both.indptr.astype(np.int32)  # liblinear takes no others
    return both


def learn_idf(turns: Sequence[Turn]) -> np.ndarray:
    """float32 [BUCKETS], rounded as it will be stored."""
    batch = Features().batch(turns)
    seen = csr_array((np.ones(len(batch.buckets)), (batch.owners, batch.buckets)), shape=(len(turns), BUCKETS))
    found = np.bincount(seen.indices, minlength=BUCKETS)
    return (np.log((1 + len(turns)) / (1 + found)) + 1).astype(np.float16).astype(np.float32)


def learn(features: csr_array, data: Sample, settings: Settings) -> np.ndarray:
    """float64 [BUCKETS + relations + 1]: weights of a linear score, the bias last."""
    book, iard = data.from_book.sum(), (~data.from_book).sum()
    weight = np.where(data.from_book, 1.0, settings.mix * book / max(iard, 1))
    model = LogisticRegression(C=settings.strength, solver="liblinear", max_iter=500, random_state=0)
    model.fit(features, data.truth, sample_weight=weight)
    return np.concatenate((np.ravel(model.coef_), np.ravel(model.intercept_)))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores of turns by models that saw neither their pattern, task nor dialogue."""

    scores: np.ndarray
    truth: np.ndarray
    from_book: np.ndarray

    def auroc(self, book: bool) -> float:
        where = self.from_book == book
        return float(roc_auc_score(self.truth[where], self.scores[where]))


def folds(book: Book, iard: Sequence[IardTurn], verdict: Verdict, seed: int) -> list[Fold]:
    made = []
    for fold in range(FOLDS):
        train = sample(expand(book.fold(fold, FOLDS, False), seed), [t for t in iard if _fold(t) != fold], verdict)
        test = sample(expand(book.fold(fold, FOLDS, True), seed + 1), [t for t in iard if _fold(t) == fold], verdict)
        idf = learn_idf(train.turns)
        made.append(Fold(train, design(train.turns, idf), test, design(test.turns, idf)))
    return made


def cross_validate(made: Sequence[Fold], settings: Settings) -> HeldOut:
    scores = []
    for fold in made:
        weights = learn(fold.train_features, fold.train, settings)
        scores.append(fold.test_features @ weights[:-1] + weights[-1])
    truth, from_book = ([getattr(fold.test, name) for fold in made] for name in ("truth", "from_book"))
    return HeldOut(np.concatenate(scores), np.concatenate(truth), np.concatenate(from_book))


def calibrate(held_out: HeldOut, verdict: Verdict) -> tuple[float, float]:
    """Slope and offset that make held-out scores log-odds, each source counting half.

    So 0.5 is the even chance in logs where about a third of the turns complain (the book is richer in complaints than
    IARD is). SAT is calibrated on the book alone: IARD does not say which of its turns approve of something.
    """
    use = held_out.from_book if verdict == "SAT" else np.ones(len(held_out.truth), dtype=bool)
    weight = np.where(held_out.from_book, 1 / held_out.from_book.sum(), 1 / max((~held_out.from_book).sum(), 1))
    line = LogisticRegression(C=1e6).fit(
        held_out.scores[use, None], held_out.truth[use], sample_weight=weight[use] * 1e3
    )
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def choose(made: Sequence[Fold]) -> Settings:
    """The settings under which the worse of the two sources fares best, by held-out AUROC."""
    worse: dict[Settings, float] = {}
    for settings in map(Settings, *zip(*product(MIXES, STRENGTHS), strict=True)):
        held_out = cross_validate(made, settings)
        values = held_out.auroc(True), held_out.auroc(False)
        log.info("%s: AUROC book %.4f, IARD %.4f", settings, *values)
        worse[settings] = min(values)
    return max(worse, key=worse.__getitem__)


def fit(book: Book, iard: Sequence[IardTurn], seed: int, chosen: Settings | None = None) -> Model:
    """`iard`: training dialogues only. Without `chosen`, each verdict gets the settings that cross-validation likes."""
    examples = expand(book, seed)
    idf = learn_idf([*(example.turn for example in examples), *(turn.turn for turn in iard)])
    rows = []
    for verdict in VERDICTS:
        made = folds(book, iard, verdict, seed)
        settings = chosen or choose(made)
        held_out = cross_validate(made, settings)
        slope, offset = calibrate(held_out, verdict)
        _report(verdict, settings, held_out, held_out.scores * slope + offset >= 0)
        data = sample(examples, iard, verdict)
        rows.append(learn(design(data.turns, idf), data, settings) * slope)
        rows[-1][-1] += offset
    told = [example for example in examples if example.verdict != "NEUTRAL"]
    features = design([example.turn for example in told], idf)
    names = sorted({(example.verdict, example.subtype) for example in told})
    kinds = [_learn_subtype(features, told, name) for _, name in names]
    stacked = (np.stack(rows).astype(np.float32), np.stack(kinds).astype(np.float32))
    return Model(idf, *stacked, tuple(name for _, name in names), tuple(verdict for verdict, _ in names))


def _learn_subtype(features: csr_array, told: Sequence[Example], name: str) -> np.ndarray:
    truth = np.asarray([example.subtype == name for example in told])
    data = Sample([example.turn for example in told], truth, np.ones(len(told), dtype=bool))
    return np.round(learn(features, data, Settings(mix=1.0, strength=3.0)), 2)


def _report(verdict: Verdict, settings: Settings, held_out: HeldOut, decided: np.ndarray) -> None:
    log.info("%s: %s", verdict, settings)
    for name, where in (("book", held_out.from_book), ("IARD", ~held_out.from_book)):
        f1 = f1_score(held_out.truth[where], decided[where])
        log.info("%s held out, %s: AUROC %.4f, F1 at 0.5 %.4f", verdict, name, held_out.auroc(name == "book"), f1)


def _fold(turn: IardTurn) -> int:
    """Folds inside the training dialogues; another hash than the one that sets the test dialogues apart."""
    return int(hashlib.md5(turn.dialogue.encode()).hexdigest(), 16) % FOLDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--iard", type=Path, required=True, help="iard.jsonl")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    iard = [turn for turn in read_iard(arguments.iard) if not turn.is_test]
    save_model(arguments.out, fit(read_book(), iard, arguments.seed))


if __name__ == "__main__":
    main()
