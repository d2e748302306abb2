"""Fits the weights of the embedded labeller: `python -m drift.feedback.fit --iard FILE` (a minute, deterministic).

Two sources: the project's phrase book, and IARD's training dialogues. How much each counts is chosen by cross-validation in which
the held-out part of the book has other patterns and other tasks, and the held-out part of IARD other dialogues.
"""

import argparse
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from drift.feedback.book.expand import Book, Example, expand, read_book
from drift.feedback.embedded import VERDICTS, WEIGHTS, Model, bucket_values, save_model
from drift.feedback.features import BUCKETS, Features, Turn
from drift.feedback.iard import IardTurn, read_iard
from drift.records import Verdict

FOLDS = 4
MIXES = (0.5, 1.0, 2.0, 3.0)
STRENGTHS = (3.0, 6.0, 12.0)
RELATION_SCALE = 1.0  # keeps a relation's weight as dear to the regulariser as an n-gram's

log = logging.getLogger("drift.feedback.fit")


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
class Score:
    """A linear score: idf float32 [BUCKETS], weights float64 [BUCKETS + relations + 1], the bias last."""

    idf: np.ndarray
    weights: np.ndarray

    def __call__(self, turns: Sequence[Turn]) -> np.ndarray:
        return design(turns, self.idf) @ self.weights[:-1] + self.weights[-1]

    def calibrated(self, slope: float, offset: float) -> np.ndarray:
        weights = self.weights * slope
        weights[-1] += offset
        return weights


def sample(examples: Sequence[Example], iard: Sequence[IardTurn], verdict: Verdict) -> Sample:
    """Of IARD, acceptance says something about SAT; its other turns say only whether they are dissatisfied."""
    told = [turn for turn in iard if verdict == "DSAT" or turn.accepts or turn.dissatisfied]
    truth = [example.verdict == verdict for example in examples]
    truth += [turn.dissatisfied if verdict == "DSAT" else turn.accepts and not turn.dissatisfied for turn in told]
    turns = [example.turn for example in examples] + [turn.turn for turn in told]
    return Sample(turns, np.asarray(truth), np.arange(len(turns)) < len(examples))


def design(turns: Sequence[Turn], idf: np.ndarray) -> csr_matrix:
    """float64 [n, BUCKETS + relations], the relations scaled back from the space they are fitted in."""
    batch = Features().batch(turns)
    shape = (len(turns), BUCKETS)
    hashed = csr_matrix((bucket_values(batch, idf), (batch.owners, batch.buckets)), shape=shape)
    return hstack([hashed, csr_matrix(batch.relation.astype(np.float64))]).tocsr()


def learn_idf(turns: Sequence[Turn]) -> np.ndarray:
    batch = Features().batch(turns)
    seen = csr_matrix((np.ones(len(batch.buckets)), (batch.owners, batch.buckets)), shape=(len(turns), BUCKETS))
    found = np.bincount(seen.indices, minlength=BUCKETS)
    return (np.log((1 + len(turns)) / (1 + found)) + 1).astype(np.float16).astype(np.float32)


def learn(data: Sample, settings: Settings, idf: np.ndarray | None = None) -> Score:
    idf = learn_idf(data.turns) if idf is None else idf
    scale = np.ones(design(data.turns[:1], idf).shape[1])
    scale[BUCKETS:] = RELATION_SCALE
    book, iard = data.from_book.sum(), (~data.from_book).sum()
    weight = np.where(data.from_book, 1.0, settings.mix * book / max(iard, 1))
    model = LogisticRegression(C=settings.strength, solver="liblinear", max_iter=500, random_state=0)
    model.fit(design(data.turns, idf).multiply(scale).tocsr(), data.truth, sample_weight=weight)
    return Score(idf, np.append(model.coef_[0] * scale, model.intercept_[0]))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores of turns by models that saw neither their pattern, task nor dialogue."""

    scores: np.ndarray
    truth: np.ndarray
    from_book: np.ndarray

    def auroc(self, book: bool) -> float:
        where = self.from_book == book
        return float(roc_auc_score(self.truth[where], self.scores[where]))


def cross_validate(book: Book, iard: Sequence[IardTurn], verdict: Verdict, settings: Settings, seed: int) -> HeldOut:
    scores, truth, from_book = [], [], []
    for fold in range(FOLDS):
        train = sample(expand(book.fold(fold, FOLDS, False), seed), [t for t in iard if _fold(t) != fold], verdict)
        test = sample(expand(book.fold(fold, FOLDS, True), seed + 1), [t for t in iard if _fold(t) == fold], verdict)
        scores.append(learn(train, settings)(test.turns))
        truth.append(test.truth)
        from_book.append(test.from_book)
    return HeldOut(np.concatenate(scores), np.concatenate(truth), np.concatenate(from_book))


def calibrate(held_out: HeldOut, verdict: Verdict) -> tuple[float, float]:
    """Slope and offset that make held-out scores log-odds, each source counting half.

    SAT is calibrated on the book alone: IARD does not say which of its turns approve of something.
    """
    use = held_out.from_book if verdict == "SAT" else np.ones(len(held_out.truth), dtype=bool)
    weight = np.where(held_out.from_book, 1 / held_out.from_book.sum(), 1 / max((~held_out.from_book).sum(), 1))[use]
    line = LogisticRegression(C=1e6).fit(held_out.scores[use, None], held_out.truth[use], sample_weight=weight * 1e3)
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def choose(book: Book, iard: Sequence[IardTurn], verdict: Verdict, seed: int) -> Settings:
    """The settings under which the worse of the two sources fares best, by held-out AUROC."""
    best, result = 0.0, Settings(MIXES[0], STRENGTHS[0])
    for mix, strength in product(MIXES, STRENGTHS):
        held_out = cross_validate(book, iard, verdict, Settings(mix, strength), seed)
        values = held_out.auroc(True), held_out.auroc(False)
        log.info("%s, mix %.1f, strength %4.1f: AUROC book %.4f, IARD %.4f", verdict, mix, strength, *values)
        if min(values) > best:
            best, result = min(values), Settings(mix, strength)
    return result


def fit(book: Book, iard: Sequence[IardTurn], chosen: dict[Verdict, Settings], seed: int) -> Model:
    """`iard`: training dialogues only."""
    examples = expand(book, seed)
    idf = learn_idf([*(example.turn for example in examples), *(turn.turn for turn in iard)])
    rows = []
    for verdict, settings in chosen.items():
        held_out = cross_validate(book, iard, verdict, settings, seed)
        slope, offset = calibrate(held_out, verdict)
        _report(verdict, held_out, held_out.scores * slope + offset >= 0)
        rows.append(learn(sample(examples, iard, verdict), settings, idf).calibrated(slope, offset))
    told = [example for example in examples if example.verdict != "NEUTRAL"]
    names = sorted({(example.verdict, example.subtype) for example in told})
    kinds = [_learn_subtype(told, name, chosen["DSAT"], idf) for _, name in names]
    stacked = (np.stack(rows).astype(np.float32), np.stack(kinds).astype(np.float32))
    return Model(idf, *stacked, tuple(name for _, name in names), tuple(verdict for verdict, _ in names))


def _learn_subtype(told: Sequence[Example], name: str, settings: Settings, idf: np.ndarray) -> np.ndarray:
    truth = np.asarray([example.subtype == name for example in told])
    data = Sample([example.turn for example in told], truth, np.ones(len(told), dtype=bool))
    return np.round(learn(data, settings, idf).weights, 2)


def _report(verdict: Verdict, held_out: HeldOut, decided: np.ndarray) -> None:
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
    book = read_book()
    chosen = {verdict: choose(book, iard, verdict, arguments.seed) for verdict in VERDICTS}
    log.info("chosen: %s", chosen)
    save_model(arguments.out, fit(book, iard, chosen, arguments.seed))


if __name__ == "__main__":
    main()
