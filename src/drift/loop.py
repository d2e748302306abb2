"""THE ALGORITHM (DRIFT, algorithm 1): a warm start, then K times sample, pair, train, evaluate.

Every stage is a function from files to a file: `run.stage(name, function, input=...)` makes RUN/name, or reuses what
an equal call made before. To change a stage, give another function. start.py makes what precedes the first iteration.
"""

from pathlib import Path

from drift.config import Config
from drift.errors import NothingToTrainOn
from drift.evaluation.evaluate import evaluate
from drift.evaluation.guidance import choose_guidance
from drift.evaluation.stopping import keep_best, should_stop, unseen_replies
from drift.evaluation.unlearned import find_unlearned
from drift.evaluation.utility import measure_improvement
from drift.gate.run import gate_failed, gate_iteration
from drift.pairs.defence import Defence
from drift.pairs.stages import build_pairs
from drift.policy.model import source_of
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.progress import report_note
from drift.records import Truth
from drift.rundir import RunDir, StageFolder, layout
from drift.scoring.feedback_reward import JudgedTurnSettings, fit_feedback_reward
from drift.scoring.stage import check_scorer, score_replies
from drift.start import begin, recipe_prompts
from drift.store import Store
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train


def drift(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> Path:
    """Train on what the users in `store` disliked; returns RUN/policy, the one to use.

    Only evaluation and the oracle scorers ever see `truth`. Raises NothingToTrainOn if neither the warm start nor
    the first iteration has anything to learn from; run.py adds the funnel to the message.
    """
    if cfg.recipe.scorer and not (run.iteration(1).path / layout.COMPLETIONS).exists():  # later, all may be scored
        judged = JudgedTurnSettings.of(cfg.labels, cfg.warm_start)
        check_scorer(cfg.recipe.scorer, cfg.policy.model, store, judged, truth)
    start = begin(cfg, run, store, truth)
    prompts = recipe_prompts(cfg, run, store, disliked=start.prompts)
    policy = warm = start.policy
    policies, evaluations, reward, completions = [policy], [start.evaluation], None, None

    for k in range(1, cfg.iterations + 1):
        it = run.iteration(k)
        reward = _feedback_reward(cfg, it, k, reward, policy, store)
        recipe = choose_guidance(cfg, run, k, policy, prompts, truth, reward)  # cfg.recipe with a share for `auto`
        if recipe.rules.samples and not (recipe.rules.once and completions):
            completions = it.stage(
                layout.COMPLETIONS, sample, policy=policy, prompts=prompts, sampling=cfg.sampling,
                fresh=FreshReplies.of(recipe), policy_settings=cfg.policy, iteration=k, seed=cfg.seed,
            )  # fmt: skip
        scores = _scores(cfg, it, policy, prompts, completions, truth, reward)
        unlearned = _unlearned(cfg, it, policy, warm, prompts)
        pairs = it.stage(
            layout.PAIRS, build_pairs, prompts=prompts, completions=completions, recipe=recipe,
            unfinished=cfg.sampling.unfinished, scores=scores, unlearned=unlearned, thinking=cfg.policy.thinking,
            defence=Defence.of(cfg.defence, store),
        )  # fmt: skip
        if cfg.recipe.rules.makes_pairs:
            _improvement(it, pairs, truth)
        # DEVIATION: the paper's reference is the policy at the iteration's start; against the warm start, later
        # iterations cannot drift away from it (docs/training.md, anchored loss)
        reference = warm if cfg.training.reference == "warm_start" else policy  # frozen for the iteration
        try:  # tokenising drops pairs, so an iteration without any shows here
            logps = it.stage(
                layout.REFERENCE, measure_reference, pairs=pairs,
                policies=(reference, policy, warm) if cfg.training.diagnostics else (reference,),
                settings=ReferenceSettings.of(cfg.training, cfg.policy),
            )  # fmt: skip
        except NothingToTrainOn as error:
            if k == 1 and not start.learned:
                raise
            last = f"iteration {k - 1}" if k > 1 else "the warm start"
            report_note(f"iteration {k} has no pair to learn from, so the run ends with {last}: {error}")
            break
        policy = it.stage(
            layout.POLICY, train, start=policy, reference=logps, pairs=pairs, settings=cfg.training,
            policy_settings=cfg.policy, seed=cfg.seed,
        )  # fmt: skip
        evaluation = it.stage(
            layout.EVALUATION, evaluate, policy=policy, held_out=start.held_out, settings=cfg.evaluation,
            sampling=cfg.sampling, policy_settings=cfg.policy, truth=truth, seed=cfg.seed,
        )  # fmt: skip
        if cfg.stop.rule == "gate" and _fails_gate(cfg, it, k, policy, warm, store):
            break  # before it is kept
        policies.append(policy)
        evaluations.append(evaluation)
        if should_stop(evaluations, cfg.stop).stops:
            break

    report_note(should_stop(evaluations, cfg.stop).why)
    if warning := unseen_replies(evaluations):
        report_note(warning)
    return run.stage(
        layout.POLICY, keep_best, policies=tuple(policies), evaluations=tuple(evaluations), settings=cfg.stop,
        policy_settings=cfg.policy,
    )  # fmt: skip


def _feedback_reward(
    cfg: Config, it: StageFolder, k: int, latest: Path | None, policy: Path | str, store: Store
) -> Path | None:
    """The reward that learns from the store's labels, of this or of an earlier iteration; None if it does not score."""
    scorer = cfg.recipe.scorer
    if scorer is None or scorer.name != "feedback":
        return None
    every = scorer.feedback.retrain_every
    if latest is not None and not (every and (k - 1) % every == 0):
        return latest
    start = source_of(scorer.model) if scorer.model else policy
    return it.stage(
        layout.FEEDBACK_REWARD, fit_feedback_reward, store=store, start=start,
        settings=scorer.feedback, policy_settings=cfg.policy, max_length=cfg.evaluation.max_length, seed=cfg.seed,
        which=JudgedTurnSettings.of(cfg.labels, cfg.warm_start),
    )  # fmt: skip


def _scores(
    cfg: Config,
    it: StageFolder,
    policy: Path | str,
    prompts: Path,
    completions: Path | None,
    truth: Truth | None,
    reward: Path | None,
) -> Path | None:
    """What the recipe's scorer says of the fresh replies; None if nothing scores."""
    if cfg.recipe.scorer is None or completions is None:
        return None
    return it.stage(
        layout.SCORES, score_replies, settings=cfg.recipe.scorer, policy=policy, replies=(prompts, completions),
        policy_settings=cfg.policy, max_length=cfg.evaluation.max_length, truth=truth, seed=cfg.seed, reward=reward,
    )  # fmt: skip


def _unlearned(cfg: Config, it: StageFolder, policy: Path | str, warm: Path | str, prompts: Path) -> Path | None:
    """The prompts whose disliked reply is unlearned and so retired; None if nothing retires."""
    if cfg.recipe.retire_below is None:
        return None
    return it.stage(
        layout.UNLEARNED, find_unlearned, policy=policy, warm=warm, prompts=prompts,
        retire_below=cfg.recipe.retire_below, policy_settings=cfg.policy, max_length=cfg.evaluation.max_length,
    )  # fmt: skip


def _fails_gate(cfg: Config, it: StageFolder, k: int, policy: Path, warm: Path | str, store: Store) -> bool:
    """Whether a guard shows a loss against the warm start; a note says which."""
    gate = it.stage(
        layout.GATE, gate_iteration, policy=policy, against=warm, store=store, policy_settings=cfg.policy,
        max_length=cfg.evaluation.max_length, iteration=k, seed=cfg.seed,
    )  # fmt: skip
    return gate_failed(gate, k)


def _improvement(it: StageFolder, pairs: Path, truth: Truth | None) -> None:
    """p_imp of theorem 1, where a truth is known. Nothing of it goes back into training."""
    if truth is not None and pairs.stat().st_size:
        it.stage(layout.IMPROVEMENT, measure_improvement, pairs=pairs, truth=truth)
