"""The decode loop agrees with transformers, and a completion depends on its own key and prompt only."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.config import PolicySettings, SamplingSettings
from drift.errors import DataError
from drift.policy.decode import loop, pick
from drift.policy.model import load_policy
from drift.policy.samplers.transformers import generate
from drift.progress import UnderWay, listening

PROMPTS = [[1, 30 + n, *range(40, 41 + 3 * n)] for n in range(12)]
KEYS = [f"key-{n}" for n in range(12)]


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_policy(tiny_policy, PolicySettings())


def settings_for(**changes) -> SamplingSettings:
    return SamplingSettings(**{"max_new_tokens": 24, "temperature": 1.0, "top_p": 0.95, **changes})


def test_greedy_is_what_transformers_generates(policy):
    found = generate(policy, PROMPTS, KEYS, settings_for(temperature=0.0))
    for prompt, reply in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        whole = policy.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert whole[0, len(prompt) :].tolist() == list(reply.token_ids)


@pytest.mark.parametrize("batch_tokens", [1, 150, 10_000])
def test_a_completion_does_not_depend_on_its_batch(policy, batch_tokens):
    expected = generate(policy, PROMPTS, KEYS, settings_for())
    order = [7, 0, 11, 3, 1]
    rows = generate(
        policy, [PROMPTS[n] for n in order], [KEYS[n] for n in order], settings_for(batch_tokens=batch_tokens)
    )
    assert rows == [expected[n] for n in order]
    assert len({reply.token_ids for reply in expected}) == len(expected)


@pytest.mark.parametrize("pass_tokens", [0, 20, 10_000])
def test_prompts_of_similar_length_are_computed_together(policy, monkeypatch, pass_tokens):
    monkeypatch.setitem(loop._PASS_TOKENS, "cpu", 10_000)
    expected = generate(policy, PROMPTS, KEYS, settings_for())
    monkeypatch.setitem(loop._PASS_TOKENS, "cpu", pass_tokens)
    shapes = []
    handle = policy.model.register_forward_pre_hook(
        lambda _, __, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    try:
        rows = generate(policy, [*PROMPTS, PROMPTS[3]], [*KEYS, KEYS[3]], settings_for())
    finally:
        handle.remove()
    assert rows == [*expected, expected[3]]
    prompts = [shape for shape in shapes if shape[1] > 1]
    by_pass_tokens = {0: [(1, 3 + 3 * n) for n in range(11, -1, -1)], 10_000: [(12, 36)]}
    by_pass_tokens[20] = [(3, 36), (3, 27), (3, 18), (3, 9)]
    assert prompts == by_pass_tokens[pass_tokens]


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30), pass_tokens=st.integers(0, 200))
def test_groups_of_prompts_have_no_more_padding_than_a_pass_is_worth(lengths, pass_tokens):
    prompts = [(0,) * length for length in sorted(lengths, reverse=True)]
    groups = loop.split_by_length(prompts, pass_tokens)
    assert [prompt for group in groups for prompt in group] == prompts
    for group in groups:
        saved = [(len(group[0]) - len(prompt)) * (len(group) - row) for row, prompt in enumerate(group)]
        assert max(saved) <= pass_tokens


def test_another_key_is_another_completion(policy):
    first, second = generate(policy, [PROMPTS[0]] * 2, ["a", "b"], settings_for())
    assert first.token_ids != second.token_ids


def test_finish_tells_a_stop_from_a_cut(policy):
    stops = policy.stop_ids
    replies = generate(policy, PROMPTS * 20, [str(n) for n in range(240)], settings_for(max_new_tokens=60, top_p=1.0))
    assert {reply.finish for reply in replies} == {"stop", "length"}
    for reply in replies:
        ended = reply.token_ids[-1] in stops
        assert (reply.finish == "stop") == ended
        assert not stops & set(reply.token_ids[:-1])
        assert len(reply.token_ids) == 60 or ended
        assert "<|im_end|>" not in reply.text


def test_pick_inverts_the_distribution():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(6, 1)
    uniforms = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 0.999])
    assert pick(logits, uniforms, 1.0, 1.0).tolist() == [0, 0, 1, 1, 2, 2]
    # top_p 0.6 keeps the two likeliest, with 5/8 and 3/8 of the mass
    assert pick(logits, uniforms, 1.0, 0.6).tolist() == [0, 0, 0, 1, 1, 1]
    # temperature 1/2 squares: 25, 9 and 4 of 38
    assert pick(logits, uniforms, 0.5, 1.0).tolist() == [0, 0, 0, 1, 1, 2]
    assert pick(logits, uniforms, 0.0, 1.0).tolist() == [0] * 6


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 0.9), (1.0, 1.0), (0.0, 1.0)])
def test_logits_that_are_no_numbers_are_one_error(broken, temperature, top_p):
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.5, math.nan if temperature == 0.0 else broken, 0.2]])
    with pytest.raises(DataError, match=r"logits are NaN in bfloat16.*Set policy\.dtype=float32"):
        pick(logits.bfloat16(), torch.tensor([0.5, 0.5]), temperature, top_p)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.integers(2, 300))
def test_pick_stays_in_the_nucleus(seed, top_p, vocabulary):
    torch.manual_seed(seed)
    logits = torch.randn(16, vocabulary) * 2
    chosen = pick(logits, torch.rand(16), 1.0, top_p)
    probabilities = logits.softmax(-1)
    own = probabilities.gather(-1, chosen[:, None])
    likelier = (probabilities * (probabilities > own)).sum(-1)
    assert bool((likelier < top_p + 1e-5).all())


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
def test_a_large_nucleus_is_the_same_as_by_sorting_everything(top_p):
    """Rows of 3, of about 300 and of about 3,000 likely tokens of 5,000."""
    torch.manual_seed(1)
    logits = torch.randn(30, 5000) * torch.tensor([20.0, 2.5, 0.3]).repeat(10)[:, None]
    draws = torch.rand(30, dtype=torch.float64)
    values, tokens = logits.softmax(-1).sort(dim=-1, descending=True)
    cumulated = values.double().cumsum(-1)
    nucleus = (cumulated - values < top_p).sum(-1)
    expected = [
        tokens[i, int((cumulated[i, : nucleus[i]] <= draws[i] * cumulated[i, nucleus[i] - 1]).sum())] for i in range(30)
    ]
    assert pick(logits, draws, 1.0, top_p).tolist() == [int(token) for token in expected]
    assert nucleus.min() < 64
    assert top_p == 0.3 or nucleus.max() > 1024


def test_sampled_frequencies_are_the_models(policy):
    prompt = PROMPTS[3]
    drawn = generate(policy, [prompt] * 3000, [str(n) for n in range(3000)], settings_for(max_new_tokens=1, top_p=1.0))
    counts = torch.bincount(torch.tensor([reply.token_ids[0] for reply in drawn]), minlength=259)
    expected = policy.model(torch.tensor([prompt])).logits[0, -1].detach().softmax(-1) * 3000
    assert float(((counts - expected) ** 2 / expected.clamp(min=5)).sum()) < 400  # chi square, 258 degrees at most


def test_no_prompts_no_completions(policy):
    assert generate(policy, [], [], settings_for()) == []


def test_a_batch_says_how_far_it_is(policy):
    """Two batches: what is done never falls, and is known before the first of them is."""
    seen: list[tuple[int, int, int]] = []
    begun: list[UnderWay] = []
    settings = settings_for(batch_tokens=12 * (max(map(len, PROMPTS)) + 64), max_new_tokens=64)
    with listening(lambda *report: seen.append(report), on_under_way=begun.append):
        replies = generate(policy, PROMPTS * 2, [f"key {n}" for n in range(2 * len(PROMPTS))], settings)
    done, totals, tokens = zip(*seen, strict=True)
    assert set(totals) == {2 * len(PROMPTS)}
    assert list(done) == sorted(done)
    assert list(tokens) == sorted(tokens)
    assert (done[0], done[-1]) == (0, 2 * len(PROMPTS))
    assert tokens[-1] == sum(len(reply.token_ids or ()) for reply in replies)
    assert len([report for report in seen if report[2] and report[0] < done[-1]]) > 2
    assert begun[-1] == UnderWay()
    in_batch = [(under_way.work, under_way.units) for under_way in begun if under_way.units]
    assert [round(64 * work / units, 6) for work, units in in_batch] == [8, 16, 24, 32, 40, 48, 56, 64] * 2
