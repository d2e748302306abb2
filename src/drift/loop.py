"""THE ALGORITHM (DRIFT, algorithm 1): a warm start, then K times sample, pair, train, evaluate.

Every stage is a function from files to a file: `run.stage(name, function, inputs...)` makes RUN/name, or takes it as an
equal call has made it before. To change one stage, give another function.
"""

from pathlib import Path

from drift.config import Config, RecipeSettings
from drift.evaluation.evaluate import evaluate
from drift.evaluation.stopping import keep_best, should_stop
from drift.evaluation.utility import Truth
from drift.pairs.stages import build_pairs, find_heldout, find_prompts, find_repairs
from drift.policy.model import source_of
from drift.policy.sampler import sample
from drift.rundir import RunDir
from drift.store import Store
from drift.training.train import train


def drift(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> Path:
    """Train on what the users in `store` disliked; returns RUN/policy, the one to use.

    Only evaluation ever sees `truth`. Raises DataError with the funnel if nothing is left to train on.
    """
    how_to_sample = (cfg.sampling, cfg.recipe, cfg.policy)
    how_to_evaluate = (cfg.evaluation, cfg.sampling, cfg.policy, truth, cfg.seed)

    # what the users disliked, and what was mended to their liking
    prompts = run.stage("data/prompts.jsonl", find_prompts, store, cfg.labels, "train")
    heldout = run.stage("data/heldout.jsonl", find_heldout, store, cfg.labels, prompts)
    repairs = run.stage("warm-start/pairs.jsonl", find_repairs, prompts)

    base = source_of(cfg.policy.model)
    policy = warm = base
    if repairs.stat().st_size:
        policy = warm = run.stage("warm-start/policy", train, base, base, repairs, cfg.warm_start, cfg.policy, cfg.seed)

    # fixed held-out pairs to measure every policy by: one guided reply each, whatever the recipe
    once = RecipeSettings()
    replies = run.stage("heldout/completions.jsonl", sample, warm, heldout, cfg.sampling, once, cfg.policy, 0, cfg.seed)
    probes = run.stage("heldout/pairs.jsonl", build_pairs, heldout, replies, once, cfg.sampling)
    run.stage("base/evaluation.json", evaluate, base, probes, *how_to_evaluate)
    evaluations = [run.stage("warm-start/evaluation.json", evaluate, warm, probes, *how_to_evaluate)]
    policies = [warm]

    for k in range(1, cfg.iterations + 1):
        it = run.iteration(k)
        reference = warm if cfg.training.reference == "warm_start" else policy  # frozen for the iteration
        completions = it.stage("completions.jsonl", sample, policy, prompts, *how_to_sample, k, cfg.seed)
        pairs = it.stage("pairs.jsonl", build_pairs, prompts, completions, cfg.recipe, cfg.sampling)
        policy = it.stage("policy", train, policy, reference, pairs, cfg.training, cfg.policy, cfg.seed)
        policies.append(policy)
        evaluations.append(it.stage("evaluation.json", evaluate, policy, probes, *how_to_evaluate))
        if should_stop(evaluations, cfg.stop):
            break
    return run.stage("policy", keep_best, tuple(policies), tuple(evaluations), cfg.stop, cfg.policy)
