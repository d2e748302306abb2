"""The scoring stage: prompts and completions in, one Score per completion out. The pairs stage reads that file."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from drift.config import PolicySettings, ScorerSettings
from drift.records import (
    ChatMessage,
    Completion,
    Counts,
    Finish,
    Judgement,
    PromptItem,
    ReplyToScore,
    Score,
    Truth,
    read_jsonl,
    write_jsonl,
)
from drift.rundir import partial_work
from drift.scoring.ask import JUDGEMENTS, unscored_reasons
from drift.scoring.scorers import SCORERS, ScorerInputs
from drift.turns import as_text


def score_replies(
    out: Path,
    settings: ScorerSettings,
    policy: Path | str,
    replies: tuple[Path, Path],
    policy_settings: PolicySettings,
    max_length: int,
    truth: Truth | None,
    seed: int,
    reward: Path | None = None,
) -> Counts:
    """Write a Score for every completion, with the score of the prompt's disliked reply beside it.

    `replies`: the files of the prompts and of the completions. A judge's judgements are written beside `out`; its
    answers survive an interrupted stage, because they are paid for. `reward`: the folder of the feedback reward.
    """
    prompts, completions = replies
    items = {item.prompt_id: item for item in read_jsonl(prompts, PromptItem)}
    fresh = list(read_jsonl(completions, Completion))
    disliked = {i: item.rejected for i, item in items.items() if item.rejected is not None}
    written = [c for c in fresh if c.finish != "error" and (c.text.strip() or c.tool_calls)]
    with ExitStack() as stack:
        scorer = SCORERS[settings.name].make(
            ScorerInputs(settings, policy, policy_settings, max_length, truth, seed, partial_work(out), stack, reward)
        )
        fresh_scores = scorer.score_all([_to_score(items[c.prompt_id], c.message, c.finish) for c in written])
        rejected = scorer.score_all(
            [_to_score(items[i], reply, items[i].rejected_finish) for i, reply in disliked.items()]
        )
    score_of = {(c.prompt_id, c.sample): score for c, score in zip(written, fresh_scores, strict=True)}
    scores = [score_of.get((c.prompt_id, c.sample)) for c in fresh]  # nothing is known of a reply that failed
    against = dict(zip(disliked, rejected, strict=True))
    reasons: dict[str, int] = {}
    if (judgements := partial_work(out) / JUDGEMENTS).exists():
        shutil.copy(judgements, out.with_name(JUDGEMENTS))
        latest = {judgement.question_id: judgement for judgement in read_jsonl(judgements, Judgement)}
        reasons = unscored_reasons(latest.values())
    write_jsonl(out, (
        Score(c.prompt_id, c.sample, score, settings.name, against.get(c.prompt_id))
        for c, score in zip(fresh, scores, strict=True)
    ))  # fmt: skip
    score_pairs = [(score, against.get(c.prompt_id)) for c, score in zip(fresh, scores, strict=True)]
    both = [(s, r) for s, r in score_pairs if s is not None and r is not None]
    wins = sum(s > r for s, r in both)
    scored = [score for score in scores if score is not None]
    return {
        "scored": len(scored),
        "unscored": scores.count(None),
        **{f"judgements {reason}": count for reason, count in reasons.items()},
        **({"wins": round(wins / len(both), 4)} if both else {}),
        **({"mean_score": round(sum(scored) / len(scored), 4)} if scored else {}),
    }


def _to_score(item: PromptItem, reply: ChatMessage, finish: Finish) -> ReplyToScore:
    against = None if item.rejected is None else as_text(item.rejected)
    complaint = item.complaint.content if item.complaint else None
    return ReplyToScore(item.prompt, as_text(reply), finish, against, item.tools, complaint, reply)
