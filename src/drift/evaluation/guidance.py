"""Does guidance help this policy? `recipe.guided_share: auto` answers some prompts both ways and takes what is better.

Small models often answer the complaint in place of the request, or repeat the disliked reply; larger ones gain from
seeing both. So it is measured on the policy at hand, before each iteration, with the sampler and the scorer that the
iteration uses (steps.py: choose_guidance).
"""

from pathlib import Path

from drift.config import FEWEST_GUIDANCE_PROMPTS, GUIDED_SHARE, RecipeSettings, ScorerSettings
from drift.evaluation.results import GuidanceTrial, write_result
from drift.policy.samplers.requests import FreshReplies
from drift.records import (
    Completion,
    Counts,
    Guidance,
    PromptItem,
    Score,
    ScorerName,
    read_jsonl,
    stable_hash,
    write_jsonl,
)
from drift.statistics import bootstrap_ratio

GUIDED, UNGUIDED = 0, 1
"""The numbers of the guided and of the unguided reply to a prompt (`both_ways`)."""


def trial_scorer(recipe: RecipeSettings) -> ScorerSettings:
    """The recipe's scorer, else hindsight, which needs the policy alone.

    `self` cannot tell: given the request alone, the policy finds a reply likelier if it was sampled from that.
    """
    if recipe.scorer is None or recipe.scorer.name == "self":
        return ScorerSettings(name="hindsight")
    return recipe.scorer


def both_ways(guidance: Guidance) -> FreshReplies:
    """Two replies to each prompt: the first is guided, the second is not."""
    return FreshReplies(samples=2, guided_share=0.5, guides_samples=True, guidance=guidance)


def pick_prompts(out: Path, prompts: Path, count: int, seed: int, iteration: int) -> Counts:
    """Write `count` prompts that can be guided, drawn by a hash of their ids: other ones in each iteration."""
    items = [item for item in read_jsonl(prompts, PromptItem) if item.rejected and item.complaint]
    drawn = sorted(items, key=lambda item: stable_hash("guidance", seed, iteration, item.prompt_id))[:count]
    return {"rows": write_jsonl(out, drawn), "with_complaint": len(items)}


def compare_guidance(
    out: Path,
    prompts: Path,
    completions: Path,
    scores: Path,
    guidance: Guidance,
    scorer: ScorerName,
    iteration: int,
) -> Counts:
    """Write guidance.json: the mean scores of both ways and their paired difference.

    A prompt counts if both of its replies came and have a score. Prompts of one conversation are resampled together.
    A tie goes to unguided replies, which need no complaint: guidance has to have its whole interval above 0.
    """
    conversation = {item.prompt_id: item.conversation_id for item in read_jsonl(prompts, PromptItem)}
    failed = {(row.prompt_id, row.sample) for row in read_jsonl(completions, Completion) if row.finish == "error"}
    rows = [row for row in read_jsonl(scores, Score) if (row.prompt_id, row.sample) not in failed]
    score_of = {(row.prompt_id, row.sample): row.score for row in rows}
    paired = {
        prompt_id: (guided, unguided)
        for prompt_id in conversation
        if (guided := score_of.get((prompt_id, GUIDED))) is not None
        and (unguided := score_of.get((prompt_id, UNGUIDED))) is not None
    }
    groups = [conversation[prompt_id] for prompt_id in paired]
    measured = len(set(groups)) >= FEWEST_GUIDANCE_PROMPTS
    differences = [guided - unguided for guided, unguided in paired.values()]
    gain = bootstrap_ratio(differences, [1.0] * len(paired), groups) if measured else None
    means = [sum(side) / len(paired) for side in zip(*paired.values(), strict=True)] if gain else [None, None]
    trial = GuidanceTrial(
        iteration=iteration,
        guidance=guidance,
        scorer=scorer,
        prompts=len(paired),
        conversations=len(set(groups)),
        left_out=len(conversation) - len(paired),
        guided=means[GUIDED],
        unguided=means[UNGUIDED],
        difference=gain.value if gain else None,
        low=gain.low if gain else None,
        high=gain.high if gain else None,
        guided_share=GUIDED_SHARE if gain and gain.low > 0 else 0.0,
    )
    write_result(out, trial)
    counts: Counts = {"prompts": len(paired), "left_out": trial.left_out, "guided_share": trial.guided_share}
    return counts | ({"difference": round(gain.value, 4)} if gain else {})


def in_words(trial: GuidanceTrial) -> str:
    """The result in one line."""
    decision = f"guided_share {trial.guided_share:g}"
    if trial.prompts + trial.left_out == 0:
        return f"iteration {trial.iteration}: no disliked reply has a written complaint to guide with: {decision}"
    if trial.difference is None or trial.low is None or trial.high is None:
        return (
            f"iteration {trial.iteration}: guidance cannot be measured: {trial.prompts} prompts of "
            f"{trial.conversations} conversations have a score of both replies ({trial.scorer}), "
            f"{FEWEST_GUIDANCE_PROMPTS} conversations are needed: {decision}"
        )
    side = "below" if trial.difference < 0 else "above"
    left_out = f", {trial.left_out} more have no score" if trial.left_out else ""
    return (
        f"iteration {trial.iteration}: guided replies ({trial.guidance}) score {abs(trial.difference):.3f} {side} "
        f"unguided ones on {trial.prompts} prompts by {trial.scorer} [{trial.low:+.3f}, {trial.high:+.3f}]{left_out}: "
        f"{decision}"
    )
