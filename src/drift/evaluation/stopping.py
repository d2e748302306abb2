"""When to stop, and which checkpoint to keep: no oracle needed.

`heldout_logps` watches the mean log-prob of fixed guided replies to held-out complaints (the stop split), sampled once
from the warm start: it falls when pushing the disliked replies down begins to pull good ones down too.
"""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from drift.config import PolicySettings, StopSettings
from drift.errors import DataError
from drift.evaluation.results import read_evaluation
from drift.policy.model import load_policy, save_policy
from drift.records import Counts


def should_stop(evaluations: Sequence[Path], settings: StopSettings) -> bool:
    """`evaluations`: of the warm start and of every iteration so far. True after `patience` falls in a row.

    Raises DataError if there is nothing to watch.
    """
    if settings.rule == "none" or len(evaluations) <= settings.patience:
        return False
    scores = [_score(path) for path in evaluations[-settings.patience - 1 :]]
    return all(after < before for before, after in pairwise(scores))


def keep_best(
    out: Path,
    policies: tuple[Path | str, ...],
    evaluations: tuple[Path, ...],
    settings: StopSettings,
    policy_settings: PolicySettings,
) -> Counts:
    """Write the policy to use: the latest, or under a stop rule the one with the best score. 0 is the warm start."""
    best = len(policies) - 1
    if settings.rule == "heldout_logps":
        best = max(range(len(policies)), key=lambda i: _score(evaluations[i]))
    chosen = policies[best]
    if isinstance(chosen, Path):
        shutil.copytree(chosen, out)
    else:
        save_policy(load_policy(chosen, policy_settings), out)
    return {"iteration": best}


def _score(evaluation: Path) -> float:
    """Mean log-prob of the watched replies, nats per reply."""
    stop = read_evaluation(evaluation).stop
    if stop is None:
        raise DataError(f"{evaluation}: the stop split holds no disliked reply to watch; set stop.rule=none.")
    return stop.logps_chosen
