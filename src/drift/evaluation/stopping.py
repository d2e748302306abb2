"""When to stop, and which checkpoint to keep: no oracle needed.

`heldout_logps` watches fixed guided replies to held-out complaints (the stop split), sampled once from the warm start.
Pushing disliked replies down begins at some point to pull good ones down too: then they lose likelihood. Two cares,
because a stop split is small and some of its replies are wrong. What is averaged is the likelihood per token, which a
wrong reply that the policy rightly unlearns can lower only to zero, and not without bound as its log-prob. And a fall
counts only if it is larger than its own standard error, the replies being the same before and after.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift.config import PolicySettings, StopSettings
from drift.evaluation.results import PreferenceResult, read_evaluation
from drift.policy.model import load_policy, save_policy
from drift.records import Counts

FEWEST = 5
"""Watched replies below which a standard error says nothing."""


@dataclass(frozen=True, slots=True)
class StopVerdict:
    """`why`: one line for whoever gave the command."""

    stops: bool
    why: str


def should_stop(evaluations: Sequence[Path], settings: StopSettings) -> StopVerdict:
    """`evaluations`: of the warm start and of every iteration so far."""
    done = len(evaluations) - 1
    if settings.rule == "none":
        return StopVerdict(False, f"ran {done} iterations (stop.rule none): the last policy is kept.")
    watched = watch(evaluations)
    if watched is None:
        return StopVerdict(
            False,
            f"ran {done} iterations: the stop split holds fewer than {FEWEST} disliked replies to watch, so the "
            "last policy is kept.",
        )
    means = watched.mean(axis=1)
    best = best_step(watched)
    told = (
        f"held-out guided replies ({watched.shape[1]}) have a likelihood per token of {means[0]:.3f} at the warm "
        f"start, at best {means[best]:.3f} after iteration {best}"
    )
    if stops_at(watched, settings.patience) == done:
        told = f"{told}, now {means[-1]:.3f}, a fall beyond its standard error"
        return StopVerdict(True, f"stopped after iteration {done}: {told}; iteration {best} is kept.")
    return StopVerdict(False, f"ran {done} iterations: {told}; iteration {best} is kept.")


def watch(evaluations: Sequence[Path]) -> NDArray[np.float64] | None:
    """Likelihood per token of every watched reply: float64 [steps, replies]; None for fewer than FEWEST replies."""
    found = [_likelihoods(read_evaluation(path).stop) for path in evaluations]
    common = sorted(set.intersection(*(set(row) for row in found)))
    if len(common) < FEWEST:
        return None
    return np.array([[row[prompt_id] for prompt_id in common] for row in found])


def stops_at(watched: NDArray[np.float64], patience: int) -> int | None:
    """The first step that ends `patience` steps in a row that lie below the best before them by more than the standard
    error of the mean difference; None if there is none."""
    falls = 0
    for step in range(1, len(watched)):
        lost = watched[best_step(watched[:step])] - watched[step]
        falls = falls + 1 if lost.mean() > lost.std(ddof=1) / np.sqrt(len(lost)) else 0
        if falls == patience:
            return step
    return None


def best_step(watched: NDArray[np.float64]) -> int:
    """The step to keep; 0 is the warm start."""
    return int(watched.mean(axis=1).argmax())


def keep_best(
    out: Path,
    policies: tuple[Path | str, ...],
    evaluations: tuple[Path, ...],
    settings: StopSettings,
    policy_settings: PolicySettings,
) -> Counts:
    """Write the policy to use: the latest, or under a stop rule the best by what it watches. 0 is the warm start."""
    watched = watch(evaluations) if settings.rule == "heldout_logps" else None
    best = len(policies) - 1 if watched is None else best_step(watched)
    chosen = policies[best]
    if isinstance(chosen, Path):
        shutil.copytree(chosen, out)
    else:
        save_policy(load_policy(chosen, policy_settings), out)
    return {"iteration": best}


def _likelihoods(stop: PreferenceResult | None) -> dict[str, float]:
    each = stop.each if stop else ()
    return {pair.prompt_id: pair.likelihood for pair in each if pair.likelihood is not None}
