"""`--suite inspect_evals/NAME`: a task of inspect-evals (extra `gate`), run by inspect-ai on both models.

Its data sets come from a hub, and some of its tasks ask a judge: that is the task's own affair. A sample's score is
the first value of its first scorer, as a number: C and True are 1, I and False 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drift.endpoint.client import api_key
from drift.endpoint.options import JudgePricing, endpoint_settings
from drift.errors import DataError, PrerequisiteError
from drift.evals.replies import policy_source
from drift.evals.served import is_served
from drift.gate.paired import group_mean, mean_change
from drift.gate.results import GuardResult
from drift.gate.verdict import amount_result, levels_of, with_skipped

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


Scores = Mapping[str, float | None]
"""By sample and epoch; None: it has no score."""


def sample_scores(task: Any, source: str, folder: Path, limit: int, key_env: str | None = None) -> Scores:
    """The score of each sample. A finished log in `folder`, which is for this model alone, is read instead of asking
    again.

    `task`: a name of inspect-ai, or a Task. `key_env`: the variable that holds the key of a server. Raises DataError if
    inspect-ai cannot finish it, PrerequisiteError if the variable is not set.
    """
    from inspect_ai import eval as run_task  # pyright: ignore[reportMissingImports]
    from inspect_ai.log import list_eval_logs, read_eval_log  # pyright: ignore[reportMissingImports]

    logs = [read_eval_log(info) for info in list_eval_logs(str(folder))] if folder.is_dir() else []
    done = [log for log in logs if log.status == "success" and log.eval.config.limit == limit]
    if not done:
        done = run_task(task, model=_model(source, key_env), limit=limit, log_dir=str(folder), display="none")
    log = done[0]
    if log.status != "success":
        reason = log.error.message if log.error else log.status
        raise DataError(f"{task}: inspect-ai could not finish it on {source} ({reason}); its log is in {folder}.")
    return {
        f"{sample.id}/{sample.epoch}": score_value(next(iter(sample.scores.values())).value) if sample.scores else None
        for sample in log.samples or ()
    }


def score_value(value: object) -> float | None:
    """A score as a number; the first one of several. None if it is none."""
    if isinstance(value, Mapping):
        return score_value(next(iter(value.values()), None))
    if isinstance(value, list | tuple):
        return score_value(value[0] if value else None)
    if isinstance(value, str):
        return _WORDS.get(value)
    return float(value) if isinstance(value, bool | int | float) else None


def _model(source: str, key_env: str | None) -> Any:
    from inspect_ai.model import get_model  # pyright: ignore[reportMissingImports]

    if is_served(source):
        server = endpoint_settings(source, JudgePricing(key_env))
        key = api_key(server) or "none"  # inspect-ai wants one, also for a server that reads none
        return get_model(f"openai-api/drift/{server.model}", base_url=server.base_url, api_key=key)
    path = policy_source(source)
    return get_model("hf/local", model_path=path, tokenizer_path=path)


def measure_scores(name: str, scores: Sequence[Scores], margin: float, look: int, tests: int) -> GuardResult | None:
    """The change of the mean score over the samples that both models have; epochs of a sample count together. None with
    fewer than two samples."""
    old, new = ({key: score for key, score in side.items() if score is not None} for side in scores)
    common = sorted(old.keys() & new.keys())
    samples = [key.rpartition("/")[0] or key for key in common]
    if len(set(samples)) < 2:
        return None
    values = [old[key] for key in common], [new[key] for key in common]
    widest = max(1.0, max(map(max, values)) - min(map(min, values)))
    changes = [after - before for before, after in zip(*values, strict=True)]
    change = mean_change(changes, samples, levels_of(look, tests), widest)
    means = group_mean(values[0], samples), group_mean(values[1], samples)  # weighted as the change is
    result = amount_result(name, "amount", change, margin, means, look, tests, unit="sample")
    either = old.keys() | new.keys()
    skipped = {
        "scored for one model alone": len(either) - len(common),
        "scored for neither model": len((scores[0].keys() | scores[1].keys()) - either),
    }
    remedy = f"its logs beside gate.json say why; mend that, or leave it out: --without {name}"
    return with_skipped(result, skipped, remedy)
