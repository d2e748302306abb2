"""`--suite inspect_evals/NAME`: a task of inspect-evals (extra `gate`), run by inspect-ai on both models.

Its data sets come from a hub, and some of its tasks ask a judge: that is the task's own affair. A sample's score is
the first value of its first scorer, as a number: C and True are 1, I and False 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drift.endpoint.options import endpoint_settings
from drift.errors import DataError, PrerequisiteError
from drift.evals.replies import policy_source
from drift.gate.paired import mean_change
from drift.gate.results import GuardResult
from drift.gate.verdict import amount_result, levels_of

PREFIX = "inspect_evals/"
_WORDS: Mapping[str, float] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def check_installed(name: str) -> None:
    """Raises PrerequisiteError without the extra `gate`."""
    try:
        import inspect_ai  # noqa: F401  # pyright: ignore[reportMissingImports]
        import inspect_evals  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise PrerequisiteError(
            f"--suite {name}: {error.name} is missing; install it: pip install 'drift-training[gate]'"
        ) from None


def sample_scores(task: Any, source: str, folder: Path, limit: int) -> dict[str, float]:
    """The score of each sample by its id. A finished log in `folder` is read instead of asking again.

    `task`: a name of inspect-ai, or a Task. Raises DataError if inspect-ai cannot finish it.
    """
    from inspect_ai import eval as run_task  # pyright: ignore[reportMissingImports]
    from inspect_ai.log import list_eval_logs, read_eval_log  # pyright: ignore[reportMissingImports]

    logs = [read_eval_log(info) for info in list_eval_logs(str(folder))] if folder.is_dir() else []
    done = [log for log in logs if log.status == "success" and log.eval.config.limit == limit]
    if not done:
        done = run_task(task, model=_model(source), limit=limit, log_dir=str(folder), display="none")
    log = done[0]
    if log.status != "success":
        reason = log.error.message if log.error else log.status
        raise DataError(f"{task}: inspect-ai could not finish it on {source} ({reason}); its log is in {folder}.")
    scores = {}
    for sample in log.samples or ():
        value = score_value(next(iter((sample.scores or {}).values())).value) if sample.scores else None
        if value is not None:
            scores[f"{sample.id}/{sample.epoch}"] = value
    return scores


def score_value(value: object) -> float | None:
    """A score as a number; the first one of several. None if it is none."""
    if isinstance(value, Mapping):
        return score_value(next(iter(value.values()), None))
    if isinstance(value, list | tuple):
        return score_value(value[0] if value else None)
    if isinstance(value, str):
        return _WORDS.get(value)
    return float(value) if isinstance(value, bool | int | float) else None


def _model(source: str) -> Any:
    from inspect_ai.model import get_model  # pyright: ignore[reportMissingImports]

    if source.startswith(("http://", "https://")):
        server = endpoint_settings(source)
        return get_model(f"openai-api/drift/{server.model}", base_url=server.base_url, api_key="none")
    path = policy_source(source)
    return get_model("hf/local", model_path=path, tokenizer_path=path)


def measure_scores(
    name: str, scores: Sequence[Mapping[str, float]], margin: float, look: int, tests: int
) -> GuardResult | None:
    """The change of the mean score over the samples that both models have. None with fewer than two."""
    old, new = scores
    common = sorted(old.keys() & new.keys())
    if len(common) < 2:
        return None
    change = mean_change([new[key] - old[key] for key in common], None, levels_of(look, tests))
    means = sum(old[key] for key in common) / len(common), sum(new[key] for key in common) / len(common)
    skipped = len(old.keys() | new.keys()) - len(common)
    result = amount_result(name, "amount", change, margin, means, look, tests)
    return result.filled(skipped={"scored for one model alone": skipped} if skipped else {})
