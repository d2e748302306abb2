"""The figures of AlpacaEval 2: win rate, its standard error, and the length-controlled win rate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drift.errors import DataError
from drift.evals.alpaca_eval.annotations import BASELINE, INSTRUCTIONS, ModelAnnotations, read_annotations
from drift.evals.alpaca_eval.length_control import FOLDS, LengthControlReference, controlled_winrates, read_reference
from drift.progress import report_progress

OFFICIAL_ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"


@dataclass(frozen=True, slots=True)
class AlpacaEvalResult:
    """Rates in per cent. `n_total`: rows with a preference in [1, 2]; `n_unscored`: rows without one;
    `n_invalid`: rows whose preference is out of range. `not_comparable`: how this differs from the leaderboard.
    """

    model: str
    baseline: str
    win_rate: float
    standard_error: float | None
    length_controlled_winrate: float | None
    lc_standard_error: float | None
    n_total: int
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_unscored: int
    n_invalid: int
    not_comparable: tuple[str, ...]


def measure(annotations: ModelAnnotations, reference: LengthControlReference | None) -> AlpacaEvalResult:
    """Raises DataError if no row is scored, or if the difficulty of an instruction is unknown."""
    preferences = np.where(annotations.preferences == 0, 1.5, annotations.preferences)  # 0 is an old notation of a draw
    valid = (preferences >= 1) & (preferences <= 2)
    wins = preferences[valid] - 1
    if not len(wins):
        raise DataError(
            f"{annotations.model}: none of its {len(preferences)} annotations holds a preference from 1 to 2."
        )
    controlled = _length_controlled(annotations, np.where(valid, preferences - 1, np.nan), reference)
    return AlpacaEvalResult(
        model=annotations.model,
        baseline=annotations.baseline,
        win_rate=float(100 * wins.mean()),
        standard_error=_standard_error(wins),
        length_controlled_winrate=None if controlled is None else float(100 * controlled.mean()),
        lc_standard_error=None if controlled is None else _standard_error(controlled),
        n_total=len(wins),
        n_wins=int((wins > 0.5).sum()),
        n_wins_base=int((wins < 0.5).sum()),
        n_draws=int((wins == 0.5).sum()),
        n_unscored=int(np.isnan(preferences).sum()),
        n_invalid=int((~valid & ~np.isnan(preferences)).sum()),
        not_comparable=_not_comparable(annotations, reference),
    )


def _length_controlled(
    annotations: ModelAnnotations, wins: np.ndarray, reference: LengthControlReference | None
) -> np.ndarray | None:
    """float64 [N], or None where it cannot be computed. The baseline against itself is 1/2 by definition."""
    if annotations.is_baseline:
        return np.full(len(wins), 0.5)
    if reference is None or annotations.length_differences is None or len(wins) < FOLDS:
        return None
    difficulty = _difficulty(annotations, reference)
    return controlled_winrates(wins, annotations.length_differences, difficulty, reference)


def _difficulty(annotations: ModelAnnotations, reference: LengthControlReference) -> np.ndarray:
    unknown = [place for place in annotations.positions if place not in reference.difficulty]
    if unknown:
        raise DataError(
            f"{annotations.model}: {len(unknown)} of {len(annotations.positions)} rows, the first at position "
            f"{unknown[0]}, have no difficulty in {reference.files[0]}: the annotations are of other instructions."
        )
    return np.array([reference.difficulty[place] for place in annotations.positions])


def _standard_error(values: np.ndarray) -> float | None:
    """100 times the standard error of the mean (ddof 1); None for a single value."""
    return float(100 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _not_comparable(annotations: ModelAnnotations, reference: LengthControlReference | None) -> tuple[str, ...]:
    """Every difference from the leaderboard's protocol that the files show."""
    rows = len(annotations.preferences)
    checks: Sequence[tuple[bool, str]] = (
        (annotations.annotator is None, f"the annotations do not name their judge ({OFFICIAL_ANNOTATOR})"),
        (annotations.annotator not in (None, OFFICIAL_ANNOTATOR), f"the judge is {annotations.annotator}"),
        (annotations.baseline != BASELINE, f"the baseline is {annotations.baseline}, not {BASELINE}"),
        (rows != INSTRUCTIONS, f"{rows} instructions, not {INSTRUCTIONS}"),
        (annotations.length_differences is None, "no lengths, so no length-controlled win rate"),
        (reference is None, "no reference files, so no length-controlled win rate"),
        (
            reference is not None and not reference.official,
            f"reference files {' and '.join(reference.files if reference else ())} are not the original ones",
        ),
    )
    return tuple(reason for holds, reason in checks if holds)


@dataclass(frozen=True, slots=True)
class AlpacaEvalSummary:
    results: tuple[AlpacaEvalResult, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON: the figures of a single model at the top level, of several models under `models`."""
        models = {name: asdict(result) for name, result in zip(self._names(), self.results, strict=True)}
        return models[self._names()[0]] if len(models) == 1 else {"models": models}

    def _names(self) -> list[str]:
        """The model; with its baseline if the model was compared with several."""
        models = [result.model for result in self.results]
        return [r.model if models.count(r.model) == 1 else f"{r.model} vs {r.baseline}" for r in self.results]


def summarise_annotations(annotations: Path, reference: Path | None) -> AlpacaEvalSummary:
    """Raises DataError naming the file and row that is invalid."""
    models = read_annotations(annotations)
    files = read_reference(reference) if reference else None
    results = []
    for done, model in enumerate(models, 1):
        results.append(measure(model, files))
        report_progress(done, len(models))
    return AlpacaEvalSummary(tuple(results))
