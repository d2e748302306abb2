"""Fits the labeller of other languages: `python -m drift.feedback.embedded.fit.multilingual`, deterministic.

It learns from the phrase books of these languages and from a part of the English one: people mix languages, and paste
code and error messages whatever they speak.
"""

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from drift.feedback.embedded.book import read_sections
from drift.feedback.embedded.book.expand import expand, read_book
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.multilingual import LANGUAGES, WEIGHTS, ForeignModel, foreign_features, save_foreign
from drift.records import Verdict

RENDITIONS = 24
SECTIONS: dict[str, Verdict] = {"dissatisfied": "DSAT", "satisfied": "SAT", "neutral": "NEUTRAL"}
BASE_RATES = (97 / 581, 23 / 581)
"""Shares of DSAT and SAT among the gold turns of real English chats."""
LONG = 0.12  # share of the turns with pasted text
ENGLISH_PART = 4  # one in so many of the examples of the English phrase book
STRENGTH, FOLDS = 3.0, 5
_CHOICE, _SLOT = re.compile(r"\{([^{}]*)\}"), re.compile(r"<([a-z]+)>")


@dataclass(frozen=True, slots=True)
class ForeignExample:
    """A rendered line of a phrase book. `line`: which one, for folds."""

    turn: Turn
    verdict: Verdict
    language: str
    line: int


def examples_in(language: str, seed: int = 0) -> Iterator[ForeignExample]:
    """The phrase book of one language, rendered. The same seed gives the same examples."""
    writer = _Writer(read_sections(f"languages/{language}.txt"), random.Random(f"{language} {seed}"))
    lines = [(section, line) for section in SECTIONS for line in writer.book[section]]
    for number, (section, line) in enumerate(lines):
        for _ in range(RENDITIONS):
            yield ForeignExample(writer.turn(SECTIONS[section], line), SECTIONS[section], language, number)


def examples(seed: int = 0) -> Iterator[ForeignExample]:
    """What the model is fitted on."""
    for language in LANGUAGES:
        yield from examples_in(language, seed)
    for each in expand(read_book(), seed)[::ENGLISH_PART]:
        yield ForeignExample(each.turn, each.verdict, "en", each.pattern)


class _Writer:
    """Writes turns in one language; every random choice comes from one generator."""

    def __init__(self, book: dict[str, list[str]], rng: random.Random):
        self.book = book
        self.rng = rng

    def turn(self, verdict: Verdict, line: str) -> Turn:
        """A line alone, or beside another one of its kind; approval also before the next request."""
        request = self.write(self.rng.choice(self.book["request"]))
        text = self.write(line, request if verdict == "DSAT" else None)
        dice = self.rng.random()
        if verdict == "DSAT" and dice < 0.3:
            more = request if dice < 0.1 else self.write(self.rng.choice(self.book["dissatisfied"]), request)
            text = f"{text} {more}"
        elif verdict == "SAT" and dice < 0.35:
            text = f"{text} {self.write(self.rng.choice(self.book['satisfied' if dice < 0.15 else 'neutral']))}"
        elif verdict == "NEUTRAL" and dice < 0.15:
            text = f"{text} {self.write(self.rng.choice(self.book['neutral']))}"
        text = self.roughen(text)
        if self.rng.random() < LONG:
            parts = [text, self.pasted()]
            text = "\n".join(parts if self.rng.random() < 0.65 else parts[::-1])
        return Turn(text, "", request)

    def pasted(self) -> str:
        """Some sentences, as people copy them in."""
        return " ".join(self.write("<text>") for _ in range(self.rng.randint(1, 6)))

    def write(self, line: str, request: str | None = None) -> str:
        """Choices made and slots filled, a slot with a line of its section, <request> with the one that is given."""
        while match := _CHOICE.search(line):
            line = line[: match.start()] + self.rng.choice(match[1].split("|")) + line[match.end() :]
        while match := _SLOT.search(line):
            name = match[1]
            filled = request if name == "request" and request else self.write(self.rng.choice(self.book[name]))
            line = line[: match.start()] + filled + line[match.end() :]
        return " ".join(line.split())

    def roughen(self, text: str) -> str:
        """Typed in a hurry: small letters, no mark at the end, or one more."""
        if self.rng.random() < 0.3:
            text = text.lower()
        if self.rng.random() < 0.3:
            text = text.rstrip(".!。！")
        return text + self.rng.choice(("!", "...", "!!", "。")) if self.rng.random() < 0.05 else text


def fit_foreign(rows: Sequence[ForeignExample]) -> ForeignModel:
    """One linear score each for dissatisfaction and approval, calibrated on lines that the score did not see."""
    features = foreign_features([row.turn for row in rows])
    features.indices, features.indptr = features.indices.astype(np.int32), features.indptr.astype(np.int32)
    fold = np.asarray([row.line % FOLDS for row in rows])
    columns = []
    for verdict, base in zip(("DSAT", "SAT"), BASE_RATES, strict=True):
        truth = np.asarray([row.verdict == verdict for row in rows])
        odds = np.zeros(len(rows))
        for each in range(FOLDS):
            model = _linear().fit(features[fold != each], truth[fold != each])
            odds[fold == each] = model.decision_function(features[fold == each])
        slope, offset = _calibrated(odds, truth, base)
        model = _linear().fit(features, truth)
        columns.append((model.coef_[0] * slope, model.intercept_[0] * slope + offset))
    weights, bias = zip(*columns, strict=True)
    return ForeignModel(np.stack(weights, axis=1).astype(np.float32), np.asarray(bias))


def _linear() -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, solver="liblinear", tol=1e-2, random_state=0)


def _calibrated(odds: np.ndarray, truth: np.ndarray, base: float) -> tuple[float, float]:
    """Slope and offset that make held-out scores log-odds where the share `base` is true (Platt)."""
    weight = np.where(truth, base / truth.mean(), (1 - base) / (1 - truth.mean()))
    line = LogisticRegression(C=1e6).fit(odds[:, None], truth, sample_weight=weight)
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    save_foreign(parser.parse_args().out, fit_foreign(list(examples())))


if __name__ == "__main__":
    main()
