"""THE ALGORITHM (DRIFT, algorithm 1): a warm start, then K times sample, pair, train, evaluate.

Every stage is a function from files to a file: `run.stage(name, function, inputs...)` makes RUN/name, or takes it as an
equal call has made it before. To change one stage, give another function.
"""

from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, RecipeSettings
from drift.errors import NothingToTrainOn
from drift.evaluation.evaluate import evaluate
from drift.evaluation.stopping import keep_best, should_stop
from drift.evaluation.unlearned import find_unlearned
from drift.evaluation.utility import measure_improvement
from drift.pairs.recipes import RECIPES
from drift.pairs.stages import build_pairs, find_heldout, find_liked, find_prompts, find_random, find_repairs
from drift.policy.model import source_of
from drift.policy.sampler import sample
from drift.progress import report_note
from drift.records import Truth
from drift.rundir import IterationDir, RunDir
from drift.scoring import score_replies
from drift.store import Store
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train


def drift(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> Path:
    """Train on what the users in `store` disliked; returns RUN/policy, the one to use.

    Only evaluation and the oracle scorers ever see `truth`. Raises DataError with the funnel if nothing is left to
    train on.
    """
    start = begin(cfg, run, store, truth)
    prompts = _prompts(cfg, run, store, start.prompts)
    policy = start.warm
    policies, evaluations = [policy], [start.evaluation]

    for k in range(1, cfg.iterations + 1):
        it = run.iteration(k)
        reference = start.warm if cfg.training.reference == "warm_start" else policy  # frozen for the iteration
        pairs = _pairs(cfg, it, prompts, policy, start.warm, truth, k)
        asked = (reference, policy, start.warm) if cfg.training.diagnostics else (reference,)
        frozen = _reference(cfg, it, asked, pairs, k)
        if frozen is None:  # nothing is left to learn
            break
        policy = it.stage("policy", train, policy, frozen, pairs, cfg.training, cfg.policy, cfg.seed)
        policies.append(policy)
        evaluations.append(_evaluation(cfg, it, policy, start.probes, truth))
        verdict = should_stop(evaluations, cfg.stop)
        if verdict.stops:
            break
    report_note(verdict.why)
    return run.stage("policy", keep_best, tuple(policies), tuple(evaluations), cfg.stop, cfg.policy)


@dataclass(frozen=True, slots=True)
class Start:
    """What stands before the first iteration; the same for every recipe on the same logs."""

    prompts: Path
    warm: Path | str
    probes: Path
    evaluation: Path


def begin(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> Start:
    """Find what the users disliked, train the warm start on what was mended to their liking, and measure it."""
    prompts = run.stage("data/prompts.jsonl", find_prompts, store, cfg.labels, "train")
    heldout = run.stage("data/heldout.jsonl", find_heldout, store, cfg.labels, prompts)
    repairs = run.stage("warm-start/pairs.jsonl", find_repairs, prompts)

    base = source_of(cfg.policy.model)
    warm = base
    if repairs.stat().st_size and cfg.warm_start.epochs:
        warm = _warm_start(cfg, run, base, repairs)

    # fixed held-out pairs to measure every policy by: one guided reply each, whatever the recipe
    once = RecipeSettings()
    replies = run.stage("heldout/completions.jsonl", sample, warm, heldout, cfg.sampling, once, cfg.policy, 0, cfg.seed)
    probes = run.stage("heldout/pairs.jsonl", build_pairs, heldout, replies, once, cfg.sampling)
    _evaluation(cfg, run, base, probes, truth, "base/evaluation.json")
    return Start(prompts, warm, probes, _evaluation(cfg, run, warm, probes, truth, "warm-start/evaluation.json"))


def _warm_start(cfg: Config, run: RunDir, base: Path | str, repairs: Path) -> Path | str:
    """The policy that learned the repairs; the base if none of them can be trained on: this stage is optional."""
    measured = ReferenceSettings.of(cfg.warm_start, cfg.policy)
    try:
        frozen = run.stage("warm-start/reference.safetensors", measure_reference, (base,), repairs, measured)
    except NothingToTrainOn as error:
        report_note(f"no warm start, the run begins with the base: {error}")
        return base
    return run.stage("warm-start/policy", train, base, frozen, repairs, cfg.warm_start, cfg.policy, cfg.seed)


def _prompts(cfg: Config, run: RunDir, store: Store, disliked: Path) -> Path:
    """The requests that the recipe asks for."""
    asked = RECIPES[cfg.recipe.name].prompts
    if asked == "liked":
        return run.stage("data/liked.jsonl", find_liked, store, "train")
    if asked == "random":
        return run.stage("data/random.jsonl", find_random, store, disliked, "train", cfg.seed)
    return disliked


def _pairs(
    cfg: Config, it: IterationDir, prompts: Path, policy: Path | str, warm: Path | str, truth: Truth | None, k: int
) -> Path:
    """Fresh replies, their scores if somebody scores, and the recipe's pairs out of both."""
    recipe, length = cfg.recipe, cfg.evaluation.max_length
    completions = scores = unlearned = None
    if RECIPES[recipe.name].samples:
        how = (cfg.sampling, recipe, cfg.policy)
        completions = it.stage("completions.jsonl", sample, policy, prompts, *how, k, cfg.seed)
        if recipe.scorer is not None:
            how = (policy, (prompts, completions), cfg.policy, length, truth, cfg.seed)
            scores = it.stage("scores.jsonl", score_replies, recipe.scorer, *how)
    if recipe.retire_below is not None:
        unlearned = it.stage(
            "unlearned.jsonl", find_unlearned, policy, warm, prompts, recipe.retire_below, cfg.policy, length
        )
    pairs = it.stage("pairs.jsonl", build_pairs, prompts, completions, recipe, cfg.sampling, scores, unlearned)
    if truth is not None and pairs.stat().st_size:
        it.stage("improvement.json", measure_improvement, pairs, truth)
    return pairs


def _reference(cfg: Config, it: IterationDir, asked: tuple[Path | str, ...], pairs: Path, k: int) -> Path | None:
    """The log-probs to train against; None if an iteration after the first has no pair left."""
    measured = ReferenceSettings.of(cfg.training, cfg.policy)
    try:
        return it.stage("reference.safetensors", measure_reference, asked, pairs, measured)
    except NothingToTrainOn as error:
        if k == 1:
            raise
        report_note(f"iteration {k} has nothing left to learn, so the run ends with those before: {error}")
        return None


def _evaluation(
    cfg: Config,
    place: RunDir | IterationDir,
    policy: Path | str,
    probes: Path,
    truth: Truth | None,
    name: str = "evaluation.json",
) -> Path:
    return place.stage(name, evaluate, policy, probes, cfg.evaluation, cfg.sampling, cfg.policy, truth, cfg.seed)
