"""When to stop, and which checkpoint to keep: no oracle needed.

`heldout_logps` watches the mean log-prob of fixed guided replies to held-out complaints (the stop split), sampled once
from the warm start: it falls when pushing the disliked replies down begins to pull good ones down too.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from drift.config import PolicySettings, StopSettings
from drift.evaluation.results import read_evaluation
from drift.policy.model import load_policy, save_policy
from drift.records import Counts


@dataclass(frozen=True, slots=True)
class StopVerdict:
    """`why`: one line for whoever gave the command."""

    stops: bool
    why: str


def should_stop(evaluations: Sequence[Path], settings: StopSettings) -> StopVerdict:
    """`evaluations`: of the warm start and of every iteration so far. Stops after `patience` falls in a row."""
    done = len(evaluations) - 1
    if settings.rule == "none":
        return StopVerdict(False, f"ran all {done} iterations (stop.rule none): the last policy is kept.")
    scores = [_score(path) for path in evaluations]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return StopVerdict(
            False, f"ran all {done} iterations: the stop split holds no disliked reply to watch, so the last is kept."
        )
    best = known.index(max(known))
    watched = f"held-out log-prob {known[0]:.2f} nats at the warm start, best {known[best]:.2f} after iteration {best}"
    recent = known[-settings.patience - 1 :]
    if len(recent) > settings.patience and all(after < before for before, after in pairwise(recent)):
        return StopVerdict(
            True, f"stopped after iteration {done}: {watched}, now {known[-1]:.2f}; iteration {best} is kept."
        )
    return StopVerdict(False, f"ran all {done} iterations: {watched}; iteration {best} is kept.")


def keep_best(
    out: Path,
    policies: tuple[Path | str, ...],
    evaluations: tuple[Path, ...],
    settings: StopSettings,
    policy_settings: PolicySettings,
) -> Counts:
    """Write the policy to use: the latest, or under a stop rule the one with the best score. 0 is the warm start."""
    best = len(policies) - 1
    scores = [_score(path) for path in evaluations] if settings.rule == "heldout_logps" else []
    known = [score for score in scores if score is not None]
    if known and len(known) == len(scores):
        best = known.index(max(known))
    chosen = policies[best]
    if isinstance(chosen, Path):
        shutil.copytree(chosen, out)
    else:
        save_policy(load_policy(chosen, policy_settings), out)
    return {"iteration": best}


def _score(evaluation: Path) -> float | None:
    """Mean log-prob of the watched replies, nats per reply; None where there is nothing to watch."""
    stop = read_evaluation(evaluation).stop
    return None if stop is None else stop.logps_chosen
