"""The steps of the loop that depend on settings: what scores replies, what retires pairs, the gate, and how a run ends.

Each makes its stages only if the settings ask for them.
"""

from collections.abc import Sequence
from pathlib import Path

from drift.config import Config, RecipeSettings
from drift.errors import NothingToTrainOn
from drift.evaluation.guidance import both_ways, compare_guidance, in_words, pick_prompts, trial_scorer
from drift.evaluation.replies import remedies_of
from drift.evaluation.results import read_trial
from drift.evaluation.stopping import keep_best, should_stop, unseen_replies
from drift.evaluation.unlearned import find_unlearned
from drift.evaluation.utility import measure_improvement
from drift.gate.run import gate_failed, gate_iteration
from drift.policy.model import source_of
from drift.policy.sampler import sample
from drift.progress import report_note
from drift.records import Truth
from drift.rundir import RunDir, StageFolder, layout
from drift.scoring.feedback_reward import JudgedTurnSettings, fit_feedback_reward
from drift.scoring.scorers import check_scorer
from drift.scoring.stage import score_replies
from drift.store import Store


def check_before_work(cfg: Config, run: RunDir, store: Store, truth: Truth | None) -> None:
    """Raises DriftError if the recipe's scorer lacks what it needs. A note says where the loss needs another reference.

    A scorer is asked only before the first replies: later the scores may all be on disk, and its server gone.
    """
    loss = cfg.training.loss
    if loss in ("anchored", "anchored_hinge") and cfg.iterations > 1 and cfg.training.reference == "iteration":
        report_note(
            f"Warning: with training.reference: iteration, training.loss: {loss} sets its targets anew in every "
            "iteration, so the disliked replies are pushed down without end. Set training.reference: warm_start"
        )
    if cfg.recipe.scorer and not (run.iteration(1).path / layout.COMPLETIONS).exists():
        judged = JudgedTurnSettings.of(cfg.labels, cfg.warm_start)
        check_scorer(cfg.recipe.scorer, cfg.policy.model, store, judged, truth)


def feedback_reward(
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


def choose_guidance(
    cfg: Config, run: RunDir, k: int, policy: Path | str, prompts: Path, truth: Truth | None, reward: Path | None
) -> RecipeSettings:
    """The recipe of iteration `k`, with a share in place of `guided_share: auto`; any other recipe as it is.

    The stages are kept and resumed like any other, in RUN/guidance-`k`. A note says what was measured.
    """
    recipe = cfg.recipe
    if recipe.guided_share != "auto":
        return recipe
    folder, scorer = run.folder(layout.guidance(k)), trial_scorer(recipe)
    asked = folder.stage(
        layout.TRIAL_PROMPTS, pick_prompts, prompts=prompts, count=recipe.guidance_prompts, seed=cfg.seed, iteration=k
    )
    completions = folder.stage(
        layout.COMPLETIONS, sample, policy=policy, prompts=asked, sampling=cfg.sampling,
        fresh=both_ways(recipe.guidance), policy_settings=cfg.policy, iteration=k, seed=cfg.seed,
    )  # fmt: skip
    scored = folder.stage(
        layout.SCORES, score_replies, settings=scorer, policy=policy, replies=(asked, completions),
        policy_settings=cfg.policy, max_length=cfg.evaluation.max_length, truth=truth, seed=cfg.seed, reward=reward,
    )  # fmt: skip
    measured = folder.stage(
        layout.GUIDANCE, compare_guidance, prompts=asked, completions=completions, scores=scored,
        guidance=recipe.guidance, scorer=scorer.name, iteration=k,
    )  # fmt: skip
    trial = read_trial(measured)
    report_note(in_words(trial))
    return recipe.model_copy(update={"guided_share": trial.guided_share})


def scores(
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


def unlearned(cfg: Config, it: StageFolder, policy: Path | str, warm: Path | str, prompts: Path) -> Path | None:
    """The prompts whose disliked reply is unlearned and so retired; None if nothing retires."""
    if cfg.recipe.retire_below is None:
        return None
    return it.stage(
        layout.UNLEARNED, find_unlearned, policy=policy, warm=warm, prompts=prompts,
        retire_below=cfg.recipe.retire_below, policy_settings=cfg.policy, max_length=cfg.evaluation.max_length,
    )  # fmt: skip


def improvement(cfg: Config, it: StageFolder, pairs: Path, truth: Truth | None) -> None:
    """p_imp of theorem 1, of a recipe that makes pairs, where a truth is known. Nothing of it goes into training."""
    if cfg.recipe.rules.makes_pairs and truth is not None and pairs.stat().st_size:
        it.stage(layout.IMPROVEMENT, measure_improvement, pairs=pairs, truth=truth)


def note_no_pairs(k: int, error: NothingToTrainOn) -> None:
    """A note that iteration `k` has nothing to learn from, and what the run ends with."""
    last = f"iteration {k - 1}" if k > 1 else "the warm start"
    report_note(f"iteration {k} has no pair to learn from, so the run ends with {last}: {error}")


def fails_gate(cfg: Config, it: StageFolder, k: int, policy: Path, warm: Path | str, store: Store) -> bool:
    """With `stop.rule: gate`, whether a guard shows a loss against the warm start; a note says which."""
    if cfg.stop.rule != "gate":
        return False
    gate = it.stage(
        layout.GATE, gate_iteration, policy=policy, against=warm, store=store, policy_settings=cfg.policy,
        max_length=cfg.evaluation.max_length, iteration=k, seed=cfg.seed,
    )  # fmt: skip
    return gate_failed(gate, k)


def keep(cfg: Config, run: RunDir, policies: Sequence[Path | str], evaluations: Sequence[Path]) -> Path:
    """RUN/policy, the best of the warm start and the iterations; notes say why the run ended and which one that is."""
    report_note(should_stop(evaluations, cfg.stop, remedies_of(cfg.recipe, cfg.training.loss)).why)
    if warning := unseen_replies(evaluations):
        report_note(warning)
    return run.stage(
        layout.POLICY, keep_best, policies=tuple(policies), evaluations=tuple(evaluations), settings=cfg.stop,
        policy_settings=cfg.policy,
    )  # fmt: skip
