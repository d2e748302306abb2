"""The sampling stage: the guided share, named drops, and completions that do not depend on what runs beside them."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from drift.config import PolicySettings, SamplingSettings
from drift.policy.decode import Generated
from drift.policy.model import load_policy
from drift.policy.sampler import DurableSampler, generate_replies, sample
from drift.policy.samplers.requests import FreshReplies
from drift.policy.samplers.transformers import LocalBackend
from drift.progress import listening
from drift.records import ChatMessage, Completion, Guidance, PromptItem, read_jsonl, write_jsonl

SAMPLING = SamplingSettings(max_new_tokens=12, temperature=1.0)
GUIDED = FreshReplies(guided_share=1.0)


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
    fresh = FreshReplies(samples=2, guided_share=1.0)
    counts = sample(out, tiny_policy, tmp_path / "prompts.jsonl", SAMPLING, fresh, PolicySettings(), 3, 7)
    rows = list(read_jsonl(out, Completion))
    assert [(row.prompt_id, row.sample) for row in rows] == [(f"p{n}", k) for n in range(5) for k in range(2)]
    assert {(row.iteration, row.seed, row.policy_id, row.guided) for row in rows} == {(3, 7, policy.policy_id, True)}
    assert counts["completions"] == counts["guided"] == 10
    assert counts["tokens"] == sum(len(row.token_ids or ()) for row in rows)
    assert counts["truncated"] == sum(row.finish == "length" for row in rows)


@pytest.fixture
def sampler_of(tmp_path):
    """A sampler with an empty journal at every call."""

    def made(policy, sampling=SAMPLING, fresh=GUIDED, seed=1) -> DurableSampler:
        work = Path(tempfile.mkdtemp(dir=tmp_path))
        return DurableSampler(LocalBackend(policy, sampling), sampling, fresh, seed, work)

    return made


def test_a_completion_depends_on_its_own_prompt_only(policy, sampler_of):
    alone = [sampler_of(policy).sample([item], 1)[0] for item in items(6)]
    together = sampler_of(policy).sample(items(6)[::-1], 1)
    assert together[::-1] == alone
    again = sampler_of(policy).sample(items(6), 2)
    assert [row.token_ids for row in again] != [row.token_ids for row in alone]


def test_the_guided_share_is_a_seeded_choice_per_prompt(policy, sampler_of):
    short = SAMPLING.model_copy(update={"max_new_tokens": 1})

    def guided(share: float, seed: int = 1) -> list[bool]:
        sampler = sampler_of(policy, short, FreshReplies(guided_share=share), seed)
        return [row.guided for row in sampler.sample(items(40), 1)]

    half = guided(0.5)
    assert guided(0.5) == half
    assert guided(0.5, seed=2) != half
    assert 10 < sum(half) < 30
    assert not any(guided(0.0))
    assert all(guided(1.0))
    # who is guided at a small share stays so at a larger one
    assert all(more for less, more in zip(guided(0.3), half, strict=True) if less)


def test_a_share_that_is_no_whole_number_of_samples_is_kept_on_average(policy, sampler_of):
    short = SAMPLING.model_copy(update={"max_new_tokens": 1})

    def guided(share: float, samples: int) -> list[tuple[bool, ...]]:
        fresh = FreshReplies(samples=samples, guided_share=share, guides_samples=True)
        rows = [row.guided for row in sampler_of(policy, short, fresh).sample(items(40), 1)]
        return [tuple(rows[first : first + samples]) for first in range(0, len(rows), samples)]

    assert set(guided(0.25, 2)) == {(True, False), (False, False)}
    assert set(guided(0.75, 2)) == {(True, False), (True, True)}
    assert 10 < sum(first for first, _ in guided(0.25, 2)) < 30
    assert set(guided(0.5, 4)) == {(True, True, False, False)}
    assert (set(guided(0.0, 2)), set(guided(1.0, 2))) == ({(False, False)}, {(True, True)})


def test_a_prompt_without_complaint_is_sampled_unguided(policy, sampler_of):
    plain = PromptItem("p", "c", 1, (ChatMessage("user", "hello"),), "train")
    (row,) = sampler_of(policy).sample([plain], 1)
    assert not row.guided


@pytest.mark.parametrize("guidance", ["hint", "rewrite"])
def test_a_completion_names_the_form_that_guided_it(policy, sampler_of, tmp_path, guidance: Guidance):
    bare = PromptItem("bare", "c", 1, (ChatMessage("user", "hello"),), "train")  # nothing to guide it by
    for fresh, named in ((GUIDED, "turn"), (FreshReplies(guidance=guidance, guided_share=1.0), guidance)):
        rows = sampler_of(policy, fresh=fresh).sample([items(1)[0], bare], 1)
        write_jsonl(tmp_path / "rows.jsonl", rows)
        assert [row.guidance for row in rows] == [named, None]
        assert list(read_jsonl(tmp_path / "rows.jsonl", Completion)) == rows


def test_a_guided_prompt_of_one_turn_may_lose_its_earlier_turns(policy, sampler_of):
    earlier = (ChatMessage("user", "x" * 600), ChatMessage("assistant", "y"))
    item = items(1)[0]
    long = replace(item, prompt=(*earlier, *item.prompt))
    narrow = SAMPLING.model_copy(update={"max_prompt_length": 400})
    sampler = sampler_of(policy, narrow, FreshReplies(guidance="hint", guided_share=1.0))
    assert [row.guided for row in sampler.sample([long], 1)] == [True]
    assert sampler.counts["shortened_prompts"] == 1


def test_a_prompt_that_does_not_fit_is_dropped_by_name(policy, sampler_of):
    long = PromptItem("long", "c", 1, (ChatMessage("user", "x" * 2000),), "train")
    turns = PromptItem(
        "turns", "c", 3, (*long.prompt, ChatMessage("assistant", "y"), ChatMessage("user", "z")), "train"
    )
    sampler = sampler_of(policy, fresh=FreshReplies(samples=2, guided_share=1.0))
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


class PowerCut(Exception):
    pass


class FailingBackend(LocalBackend):
    """Stops after so many batches, as a power cut does."""

    def __init__(self, policy, batches: int):
        super().__init__(policy, SAMPLING.model_copy(update={"batch_tokens": 400}))
        self.batches = batches
        self.asked: list[int] = []

    def run(self, batches):
        for number, done in super().run(batches):
            if len(self.asked) == self.batches:
                raise PowerCut
            self.asked.append(number)
            yield number, done


def test_a_stopped_sampler_goes_on_with_the_batches_that_are_missing(policy, tmp_path):
    fresh = FreshReplies(samples=2, guided_share=1.0)

    def run(backend: FailingBackend, work: Path) -> list[Completion]:
        work.mkdir(exist_ok=True)
        return DurableSampler(backend, backend.sampling, fresh, 1, work).sample(items(9), 1)

    whole = FailingBackend(policy, 1000)
    expected = run(whole, tmp_path / "whole")
    assert len(whole.asked) > 5
    asked: list[int] = []
    for stop_after in (2, 0, 1, 1000):
        backend = FailingBackend(policy, stop_after)
        if stop_after < 1000:
            with pytest.raises(PowerCut):
                run(backend, tmp_path / "stopped")
        else:
            assert run(backend, tmp_path / "stopped") == expected
        asked += backend.asked
    assert sorted(asked) == sorted(whole.asked)  # nothing lost, nothing twice


def test_what_a_power_cut_leaves_of_the_last_shard_is_repaired(policy, tmp_path):
    def run(work: Path) -> list[Completion]:
        work.mkdir(exist_ok=True)
        backend = FailingBackend(policy, 1000)
        return DurableSampler(backend, backend.sampling, GUIDED, 1, work).sample(items(5), 1)

    expected = run(tmp_path / "work")
    (shard,) = (tmp_path / "work").glob("shard-*")
    whole = shard.read_bytes()
    notes: list[str] = []
    for size in range(0, len(whole), 97):
        for other in (tmp_path / "work").glob("shard-*"):
            other.unlink()
        shard.write_bytes(whole[:size])
        with listening(lambda *_: None, notes.append):
            assert run(tmp_path / "work") == expected
    assert any("Repaired: the last" in note and "bytes of shard-0001.jsonl were incomplete" in note for note in notes)


def test_a_failed_completion_is_kept_as_failed(policy, tmp_path):
    class Deaf(LocalBackend):
        def run(self, batches):
            yield from ((number, [Generated("", None, "error")] * len(asked)) for number, asked in batches)

    sampler = DurableSampler(Deaf(policy, SAMPLING), SAMPLING, GUIDED, 1, tmp_path)
    assert {(row.finish, row.token_ids) for row in sampler.sample(items(3), 1)} == {("error", None)}
    assert sampler.counts["failed"] == 3
