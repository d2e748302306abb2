"""`drift eval alpaca-eval --annotations`: the figures of every model in a file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drift.evaluation.alpaca_eval.annotations import read_annotations
from drift.evaluation.alpaca_eval.metrics import AlpacaEvalResult, measure
from drift.evaluation.alpaca_eval.reference import read_reference
from drift.progress import report_progress


@dataclass(frozen=True, slots=True)
class AlpacaEvalSummary:
    results: tuple[AlpacaEvalResult, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON: the figures of a single model at the top, of several under `models`."""
        models = {name: asdict(result) for name, result in zip(self._names(), self.results, strict=True)}
        return models[self._names()[0]] if len(models) == 1 else {"models": models}

    def _names(self) -> list[str]:
        """The model, and its baseline where one model was set against several."""
        models = [result.model for result in self.results]
        return [r.model if models.count(r.model) == 1 else f"{r.model} vs {r.baseline}" for r in self.results]


def summarise_annotations(annotations: Path, reference: Path | None) -> AlpacaEvalSummary:
    """Raises DataError naming the file and row that cannot be used."""
    models = read_annotations(annotations)
    files = read_reference(reference) if reference else None
    results = []
    for done, model in enumerate(models, 1):
        results.append(measure(model, files))
        report_progress(done, len(models))
    return AlpacaEvalSummary(tuple(results))
