"""THE ALGORITHM (DRIFT, algorithm 1): a warm start, then K times sample, pair, train, evaluate.

Every stage is a function from files to a file: `run.stage(name, function, input=...)` makes RUN/name, or reuses what
an equal call made before. To change a stage, give another function. start.py makes what precedes the first iteration;
steps.py does what depends on settings: scores, retirement, the gate, and how a run ends.
"""

from pathlib import Path

from drift import steps
from drift.config import Config
from drift.errors import NothingToTrainOn
from drift.evaluation.evaluate import evaluate
from drift.evaluation.stopping import should_stop
from drift.pairs.defence import Defence
from drift.pairs.stages import build_pairs
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.records import Truth
from drift.rundir import RunDir, layout
from drift.start import begin, recipe_prompts
from drift.store import Store
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train


def drift(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> Path:
    """Train on what the users in `store` disliked; returns RUN/policy, the one to use.

    Only evaluation and the oracle scorers ever see `truth`. Raises NothingToTrainOn if neither the warm start nor
    the first iteration has anything to learn from; run.py adds the funnel to the message.
    """
    steps.check_before_work(cfg, run, store, truth)
    start = begin(cfg, run, store, truth)
    prompts = recipe_prompts(cfg, run, store, disliked=start.prompts)
    policy = warm = start.policy
    policies, evaluations, reward, completions = [policy], [start.evaluation], None, None

    for k in range(1, cfg.iterations + 1):
        it = run.iteration(k)
        reward = steps.feedback_reward(cfg, it, k, reward, policy, store)
        recipe = steps.choose_guidance(cfg, run, k, policy, prompts, truth, reward)  # a share in place of `auto`
        if recipe.rules.samples and not (recipe.rules.once and completions):
            completions = it.stage(
                layout.COMPLETIONS, sample, policy=policy, prompts=prompts, sampling=cfg.sampling,
                fresh=FreshReplies.of(recipe), policy_settings=cfg.policy, iteration=k, seed=cfg.seed,
            )  # fmt: skip
        scores = steps.scores(cfg, it, policy, prompts, completions, truth, reward)
        unlearned = steps.unlearned(cfg, it, policy, warm, prompts)
        pairs = it.stage(
            layout.PAIRS, build_pairs, prompts=prompts, completions=completions, recipe=recipe,
            unfinished=cfg.sampling.unfinished, scores=scores, unlearned=unlearned, thinking=cfg.policy.thinking,
            defence=Defence.of(cfg.defence, store),
        )  # fmt: skip
        steps.improvement(cfg, it, pairs, truth)
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
            steps.note_no_pairs(k, error)
            break
        policy = it.stage(
            layout.POLICY, train, start=policy, reference=logps, pairs=pairs, settings=cfg.training,
            policy_settings=cfg.policy, seed=cfg.seed,
        )  # fmt: skip
        evaluation = it.stage(
            layout.EVALUATION, evaluate, policy=policy, held_out=start.held_out, settings=cfg.evaluation,
            sampling=cfg.sampling, policy_settings=cfg.policy, truth=truth, seed=cfg.seed,
        )  # fmt: skip
        if steps.fails_gate(cfg, it, k, policy, warm, store):
            break  # before it is kept
        policies.append(policy)
        evaluations.append(evaluation)
        if should_stop(evaluations, cfg.stop).stops:
            break
    return steps.keep(cfg, run, policies, evaluations)
