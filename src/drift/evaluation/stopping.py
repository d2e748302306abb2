"""The stop rule: when to stop, and which checkpoint to keep. It needs no oracle.

`heldout_logps` watches fixed guided replies to held-out complaints (the stop split), sampled once from the warm start.
At some point, pushing disliked replies down pulls good ones down too: their likelihood falls. The stop split is small
and some of its replies are wrong, so the rule has two safeguards. It averages the likelihood per token, not the
log-prob: a wrong reply that the policy rightly unlearns can lower the likelihood only to zero, but a log-prob without
bound. And a fall counts only if it is larger than the standard error of the paired difference, over users
(`units_of`): what one of them likes is alike in all of their prompts.

`heldout_liked` watches held-out replies that users liked instead, in the same way. A model that guidance does not help
has no guided replies worth keeping likely.

Whatever the likelihoods say, the rule also ends a run if the share of finished replies to held-out prompts falls, or if
their length moves, by more than the limits in replies.py. The iterations before that one are candidates to keep.

DEVIATION: the paper runs a fixed number of iterations. With a fixed y- the gradient never vanishes, so later iterations
also push good replies down; the rule ends the run before that. `stop.rule: none` is the paper's behaviour.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drift.config import PolicySettings, StopSettings
from drift.evaluation.replies import MIN_COMMON, OF_DEFAULTS, Remedies, what_worsened
from drift.evaluation.results import Evaluation, read_evaluation
from drift.policy.model import load_policy, save_policy
from drift.records import Counts
from drift.statistics import standard_error, units_of


class WatchRule(NamedTuple):
    """A stop rule that watches likelihoods. To add one: an entry in WATCHED, and its name in config/training.py.

    `read`: the likelihood per token of each watched reply, by prompt id. `replies`: which replies these are. `fewest`:
    with fewer of them the standard error says little, and the rule never stops. `where`, `kind`: for the line that says
    so, where there are too few replies and of which kind.
    """

    read: Callable[[Evaluation], dict[str, float]]
    replies: str
    fewest: int
    where: str
    kind: str


def _of_the_stop_split(evaluation: Evaluation) -> dict[str, float]:
    each = evaluation.stop.each if evaluation.stop else ()
    return {pair.prompt_id: pair.likelihood for pair in each if pair.likelihood is not None}


def _of_liked_replies(evaluation: Evaluation) -> dict[str, float]:
    return evaluation.liked


WATCHED = {
    "heldout_logps": WatchRule(
        read=_of_the_stop_split, replies="guided replies", fewest=5, where="the stop split has", kind="disliked"
    ),
    # liked replies are as many as users give thanks, and they differ more than the toy worlds' guided replies
    "heldout_liked": WatchRule(
        read=_of_liked_replies,
        replies="liked replies",
        fewest=20,
        where="the held-out conversations have",
        kind="liked",
    ),
}
"""The rules that watch likelihoods, by the name in `stop.rule`."""


@dataclass(frozen=True, slots=True)
class Watched:
    """`likelihoods`: per token, of every watched reply: float64 [steps, replies]. `units`: of each reply, its user
    (`units_of`); None: each is one of its own."""

    likelihoods: NDArray[np.float64]
    units: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class StopVerdict:
    """Whether the run stops now. `why`: one line for the user."""

    stops: bool
    why: str


def should_stop(evaluations: Sequence[Path], settings: StopSettings, remedies: Remedies = OF_DEFAULTS) -> StopVerdict:
    """Apply the stop rule to the evaluations of the warm start and of every iteration so far.

    `remedies`: what the line advises where replies worsen (replies.remedies_of).
    """
    done = len(evaluations) - 1
    problem, cause = first_problem_of_replies(evaluations, remedies)
    rule = WATCHED.get(settings.rule)
    if rule is None:
        why = f"{_ran(done)} (stop.rule: {settings.rule}); the last policy is kept."
        return StopVerdict(False, f"{why} Warning: since iteration {problem}, {cause}" if problem else why)
    if problem is not None:
        best = _best_before(problem, watch(evaluations, settings))
        return StopVerdict(True, f"stopped after iteration {problem}: {cause} {_step(best).capitalize()} is kept.")
    watched = watch(evaluations, settings)
    if watched is None:
        few = f"{rule.where} fewer than {rule.fewest} {rule.kind} replies, too few for the stop rule"
        return StopVerdict(False, f"{_ran(done)}: {few}; the last policy is kept.")
    means = watched.likelihoods.mean(axis=1)
    best = best_step(watched.likelihoods)
    likelihoods = (
        f"held-out {rule.replies} ({len(watched.likelihoods[0])}) have a likelihood per token of {means[0]:#.3g} "
        "at the warm start"
    )
    if best:
        likelihoods += f", at best {means[best]:#.3g} after iteration {best}"
    if best != done:
        likelihoods += f", now {means[-1]:#.3g}"
    if stops_at(watched, settings.patience) == done:
        likelihoods += ", a fall larger than its standard error"
        return StopVerdict(True, f"stopped after iteration {done}: {likelihoods}; {_step(best)} is kept.")
    return StopVerdict(False, f"{_ran(done)}: {likelihoods}; {_step(best)} is kept.")


def _ran(done: int) -> str:
    return f"ran {done} iteration{'' if done == 1 else 's'}"


def _step(step: int) -> str:
    return f"iteration {step}" if step else "the warm start"


def unseen_replies(evaluations: Sequence[Path]) -> str:
    """A warning if too few held-out requests were answered to see whether the policy still ends its replies; empty if
    there are enough."""
    answered = [read_evaluation(path).replies for path in evaluations]
    fewest = min((each.prompts if each else 0 for each in answered), default=0)
    if fewest >= MIN_COMMON:
        return ""
    return (
        f"Warning: {fewest} held-out requests were answered, too few to see whether the policy still ends its replies: "
        "read some before you use it, or train on more chats."
    )


def first_problem_of_replies(evaluations: Sequence[Path], remedies: Remedies = OF_DEFAULTS) -> tuple[int | None, str]:
    """The first step whose replies are worse than the warm start's by more than the limits, and the cause in words.

    (None, "") if there is none.
    """
    start, *steps = (read_evaluation(path).replies for path in evaluations)
    for step, replies in enumerate(steps, 1):
        if start and replies and (cause := what_worsened(start, replies, remedies=remedies)):
            return step, cause
    return None, ""


def _best_before(problem: int | None, watched: Watched | None) -> int:
    """The step to keep among those before `problem`: the best watched one, or the last."""
    if watched is None:
        return (problem or 1) - 1
    return best_step(watched.likelihoods[:problem])


def watch(evaluations: Sequence[Path], settings: StopSettings) -> Watched | None:
    """What the rule watches; None if there are too few replies."""
    rule = WATCHED.get(settings.rule)
    if rule is None:
        return None
    read = [read_evaluation(path) for path in evaluations]
    by_prompt = [rule.read(evaluation) for evaluation in read]
    common = sorted(set.intersection(*(set(row) for row in by_prompt)))
    if len(common) < rule.fewest:
        return None
    likelihoods = np.array([[row[prompt_id] for prompt_id in common] for row in by_prompt])
    return Watched(likelihoods, units_of(read[-1].whose(common)))


def stops_at(watched: Watched, patience: int) -> int | None:
    """The first step at which the rule stops; None if it never does.

    It stops after `patience` steps in a row whose mean is below the best earlier mean by more than the standard error
    of the mean difference.
    """
    falls, steps = 0, watched.likelihoods
    for step in range(1, len(steps)):
        fall = steps[best_step(steps[:step])] - steps[step]
        falls = falls + 1 if fall.mean() > standard_error(fall, watched.units) else 0
        if falls == patience:
            return step
    return None


def step_kept(problem: int | None, watched: Watched | None, patience: int) -> int | None:
    """The step that the rule would have kept in a run that went on without it; None if it has no figures.

    `problem`: as from `first_problem_of_replies`; `watched`: as from `watch`. Both are of all steps, and the rule would
    have ended the run at whichever comes first.
    """
    if watched is None:
        return None if problem is None else problem - 1
    stop = stops_at(watched, patience)
    if problem is not None and (stop is None or problem <= stop):
        return best_step(watched.likelihoods[:problem])
    return best_step(watched.likelihoods[: None if stop is None else stop + 1])


def best_step(likelihoods: NDArray[np.float64]) -> int:
    """The step to keep; 0 is the warm start."""
    return int(likelihoods.mean(axis=1).argmax())


def keep_best(
    out: Path,
    policies: tuple[Path | str, ...],
    evaluations: tuple[Path, ...],
    settings: StopSettings,
    policy_settings: PolicySettings,
) -> Counts:
    """Write the policy to use: the best by the stop rule, or the last one without it. Iteration 0 is the warm start."""
    best = len(policies) - 1
    if settings.rule in WATCHED:
        problem, watched = first_problem_of_replies(evaluations)[0], watch(evaluations, settings)
        best = best if problem is None and watched is None else _best_before(problem, watched)
    chosen = policies[best]
    if isinstance(chosen, Path):
        shutil.copytree(chosen, out)
    else:
        save_policy(load_policy(chosen, policy_settings), out)
    return {"iteration": best}
