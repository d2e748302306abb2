"""Guided or not, by measurement: the comparison by hand. Runs that take what scores better: tests/test_steps.py."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from drift.evaluation.guidance import both_ways, compare_guidance, in_words, pick_prompts
from drift.evaluation.results import GuidanceTrial, read_trial
from drift.records import (
    ChatMessage,
    Completion,
    PromptItem,
    Score,
    read_jsonl,
    write_jsonl,
)


def item(number: int, conversation: str | None = None, complaint: str | None = "No.") -> PromptItem:
    return PromptItem(
        f"p{number}",
        conversation or f"c{number}",
        1,
        (ChatMessage("user", f"question {number}"),),
        "train",
        rejected=ChatMessage("assistant", "no idea"),
        complaint=ChatMessage("user", complaint) if complaint else None,
    )


Pairs = Sequence[tuple[float | None, float | None]]


def compared(folder: Path, scores: Pairs, items: list[PromptItem] | None = None, failed: int = 0) -> GuidanceTrial:
    """`scores`: of the guided and the unguided reply to each prompt; the first `failed` guided replies never came."""
    asked = items or [item(n) for n in range(len(scores))]
    rows = [(i.prompt_id, sample, pair[sample]) for i, pair in zip(asked, scores, strict=True) for sample in (0, 1)]
    write_jsonl(folder / "prompts.jsonl", asked)
    write_jsonl(folder / "scores.jsonl", (Score(name, sample, score, "hindsight") for name, sample, score in rows))
    write_jsonl(
        folder / "completions.jsonl",
        (
            Completion(name, 1, k, k == 0, "x", "error" if k == 0 and n // 2 < failed else "stop", 7, "w", "test")
            for n, (name, k, _) in enumerate(rows)
        ),
    )
    files = [folder / f"{name}.jsonl" for name in ("prompts", "completions", "scores")]
    compare_guidance(folder / "guidance.json", *files, guidance="turn", scorer="hindsight", iteration=1)
    return read_trial(folder / "guidance.json")


def test_guidance_that_is_better_everywhere_is_used(tmp_path):
    trial = compared(tmp_path, [(3.0, 1.0)] * 6 + [(2.0, 1.0)] * 6)
    assert (trial.guided, trial.unguided, trial.difference) == (2.5, 1.0, 1.5)
    assert trial.low is not None
    assert trial.high is not None
    assert 1.0 <= trial.low < 1.5 < trial.high <= 2.0
    assert (trial.prompts, trial.conversations, trial.left_out, trial.guided_share) == (12, 12, 0, 1.0)
    assert in_words(trial) == (
        f"iteration 1: guided replies (turn) score 1.500 above unguided ones on 12 prompts by hindsight "
        f"[{trial.low:+.3f}, {trial.high:+.3f}]: guided_share 1"
    )


@pytest.mark.parametrize(
    ("scores", "difference"),
    [
        ([(1.0, 1.0)] * 12, 0.0),
        ([(0.0, 1.0)] * 12, -1.0),
        ([(1.0, 0.0)] * 7 + [(0.0, 1.0)] * 5, 2 / 12),  # better, and well within the noise of 12 prompts
    ],
)
def test_a_tie_and_a_loss_mean_unguided(tmp_path, scores, difference):
    trial = compared(tmp_path, scores)
    assert trial.difference == pytest.approx(difference)
    assert trial.guided_share == 0.0
    assert in_words(trial).endswith(": guided_share 0")


def test_replies_that_have_no_score_or_never_came_are_left_out_and_counted(tmp_path):
    trial = compared(tmp_path, [(9.0, 0.0), (None, 1.0), (1.0, None), *[(2.0, 1.0)] * 10], failed=1)
    assert (trial.prompts, trial.left_out, trial.difference) == (10, 3, 1.0)
    assert "on 10 prompts by hindsight [+1.000, +1.000], 3 more have no score: guided_share 1" in in_words(trial)


def test_prompts_of_too_few_conversations_measure_nothing(tmp_path):
    """Twenty prompts of nine conversations are nine conversations."""
    trial = compared(tmp_path, [(5.0, 0.0)] * 20, [item(n, f"c{n % 9}") for n in range(20)])
    assert (trial.prompts, trial.conversations, trial.difference, trial.guided_share) == (20, 9, None, 0.0)
    assert in_words(trial) == (
        "iteration 1: guidance cannot be measured: 20 prompts of 9 conversations have a score of both replies "
        "(hindsight), 10 conversations are needed: guided_share 0"
    )


def test_prompts_of_one_conversation_are_one_unit(tmp_path):
    """One long conversation in which guidance won does not outvote eleven: its prompts are drawn together."""
    items = [item(n, "long" if n < 20 else None) for n in range(31)]
    scores: Pairs = [(1.0, 0.0)] * 20 + [(0.0, 1.0)] * 11
    assert compared(tmp_path, scores, items).guided_share == 0.0


def test_prompts_are_drawn_among_those_with_a_complaint(tmp_path):
    items = [item(n, complaint=None if n % 2 else "No.") for n in range(60)]
    write_jsonl(tmp_path / "prompts.jsonl", items)

    def drawn(seed: int, iteration: int) -> list[str]:
        counts = pick_prompts(tmp_path / "out.jsonl", tmp_path / "prompts.jsonl", 10, seed, iteration)
        assert counts == {"rows": 10, "with_complaint": 30}
        return [row.prompt_id for row in read_jsonl(tmp_path / "out.jsonl", PromptItem)]

    first = drawn(7, 1)
    assert all(int(name[1:]) % 2 == 0 for name in first)
    assert first == drawn(7, 1)
    assert first != drawn(7, 2)
    assert first != drawn(8, 1)


def test_the_trial_answers_each_prompt_once_guided_and_once_not():
    for guidance in ("turn", "hint", "rewrite"):
        asked = both_ways(guidance)
        assert (asked.samples, asked.guided_share, asked.guidance) == (2, 0.5, guidance)
