"""The sampling stage: the guided share, named drops, and completions that do not depend on what runs beside them."""

import pytest

from drift.config import PolicySettings, RecipeSettings, SamplingSettings
from drift.policy.model import load_policy
from drift.policy.sampler import TransformersSampler, generate_replies, sample
from drift.progress import listening
from drift.records import ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl

SAMPLING = SamplingSettings(max_new_tokens=12, temperature=1.0)


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_policy(tiny_policy, PolicySettings())


def items(count: int) -> list[PromptItem]:
    return [
        PromptItem(
            prompt_id=f"p{n}",
            conversation_id="c",
            reply_index=1,
            prompt=(ChatMessage("user", f"question {n} " + "why " * n),),
            split="train",
            rejected=ChatMessage("assistant", "no idea"),
            complaint=ChatMessage("user", "that is no answer"),
        )
        for n in range(count)
    ]


def test_the_stage_writes_completions_in_the_order_of_the_prompts(tiny_policy, policy, tmp_path):
    write_jsonl(tmp_path / "prompts.jsonl", items(5))
    out = tmp_path / "completions.jsonl"
    recipe = RecipeSettings(samples=2)
    counts = sample(out, tiny_policy, tmp_path / "prompts.jsonl", SAMPLING, recipe, PolicySettings(), 3, 7)
    rows = list(read_jsonl(out, Completion))
    assert [(row.prompt_id, row.sample) for row in rows] == [(f"p{n}", k) for n in range(5) for k in range(2)]
    assert {(row.iteration, row.seed, row.policy_id, row.guided) for row in rows} == {(3, 7, policy.policy_id, True)}
    assert counts["completions"] == counts["guided"] == 10
    assert counts["tokens"] == sum(len(row.token_ids or ()) for row in rows)
    assert counts["truncated"] == sum(row.finish == "length" for row in rows)


def test_a_completion_depends_on_its_own_prompt_only(policy):
    alone = [TransformersSampler(policy, SAMPLING, RecipeSettings(), 1).sample([item], 1)[0] for item in items(6)]
    together = TransformersSampler(policy, SAMPLING, RecipeSettings(), 1).sample(items(6)[::-1], 1)
    assert together[::-1] == alone
    again = TransformersSampler(policy, SAMPLING, RecipeSettings(), 1).sample(items(6), 2)
    assert [row.token_ids for row in again] != [row.token_ids for row in alone]


def test_the_guided_share_is_a_seeded_choice_per_prompt(policy):
    short = SAMPLING.model_copy(update={"max_new_tokens": 1})

    def guided(share: float, seed: int = 1) -> list[bool]:
        sampler = TransformersSampler(policy, short, RecipeSettings(guided_share=share), seed)
        return [row.guided for row in sampler.sample(items(40), 1)]

    half = guided(0.5)
    assert guided(0.5) == half
    assert guided(0.5, seed=2) != half
    assert 10 < sum(half) < 30
    assert not any(guided(0.0))
    assert all(guided(1.0))
    # who is guided at a small share stays so at a larger one
    assert all(more for less, more in zip(guided(0.3), half, strict=True) if less)


def test_a_prompt_without_complaint_is_sampled_unguided(policy):
    plain = PromptItem("p", "c", 1, (ChatMessage("user", "hello"),), "train")
    (row,) = TransformersSampler(policy, SAMPLING, RecipeSettings(), 1).sample([plain], 1)
    assert not row.guided


def test_a_prompt_that_does_not_fit_is_dropped_by_name(policy):
    long = PromptItem("long", "c", 1, (ChatMessage("user", "x" * 2000),), "train")
    turns = PromptItem(
        "turns", "c", 3, (*long.prompt, ChatMessage("assistant", "y"), ChatMessage("user", "z")), "train"
    )
    sampler = TransformersSampler(policy, SAMPLING, RecipeSettings(samples=2), 1)
    assert {row.prompt_id for row in sampler.sample([long, turns], 1)} == {"turns"}
    assert sampler.counts["dropped.prompt_too_long"] == 1
    assert sampler.counts["shortened_prompts"] == 1


def test_replies_keep_their_places_around_one_that_does_not_fit(policy):
    chats = [[ChatMessage("user", text)] for text in ("hi", "x" * 2000, "you")]
    seen: list[tuple[int, int]] = []
    greedy = SAMPLING.model_copy(update={"temperature": 0.0})
    with listening(lambda done, total, _: seen.append((done, total))):
        replies = generate_replies(policy, chats, ["a", "b", "c"], greedy)
    assert [reply is None for reply in replies] == [False, True, False]
    assert replies[0] == generate_replies(policy, chats[:1], ["other"], greedy)[0]
    assert seen[-1] == (2, 2)
