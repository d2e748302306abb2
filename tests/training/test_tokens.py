"""Pairs as ids: the sampler's own are kept, nothing is cut or dropped without a name."""

import copy
from dataclasses import replace

import pytest

from drift.config import PolicySettings
from drift.errors import DataError
from drift.policy.chat import ChatFormat
from drift.policy.model import load_policy
from drift.records import ChatMessage, PreferencePair
from drift.training.tokens import tokenise

PAIR = PreferencePair(
    pair_id="a",
    prompt_id="p",
    conversation_id="c",
    reply_index=1,
    recipe="drift",
    iteration=1,
    policy_id="x",
    prompt=(ChatMessage("user", "old"), ChatMessage("assistant", "reply"), ChatMessage("user", "new")),
    chosen=(ChatMessage("assistant", "good"),),
    rejected=(ChatMessage("assistant", "bad one"),),
)


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_policy(tiny_policy, PolicySettings())


def ids(policy, text: str) -> tuple[int, ...]:
    return tuple(policy.tokenizer(text)["input_ids"])


def said(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("assistant", text),)


def test_a_pair_becomes_prompt_and_two_finished_replies(policy):
    (pair,), counts = tokenise(policy, [PAIR], 1000, 1000)
    end = ids(policy, "<|im_end|>")
    assert policy.tokenizer.decode(list(pair.prompt)).endswith("user\nnew<|im_end|>\n<|im_start|>assistant\n")
    assert pair.chosen == ids(policy, "good") + end
    assert pair.rejected == ids(policy, "bad one") + end
    assert not any(counts.values())


def test_a_truncated_sample_has_no_end_token(policy):
    (pair,), counts = tokenise(policy, [replace(PAIR, finish="length")], 1000, 1000)
    assert pair.chosen == ids(policy, "good")
    assert counts["unfinished_chosen"] == 1


def test_the_samplers_ids_are_kept_unless_the_text_was_edited(policy):
    # two bytes as a model may spell them, and the end token it chose
    own = (*ids(policy, "go"), *ids(policy, "od"), *ids(policy, "<|pad|>"))
    (kept,), _ = tokenise(policy, [replace(PAIR, chosen_token_ids=own)], 1000, 1000)
    assert kept.chosen == own
    (edited,), _ = tokenise(policy, [replace(PAIR, chosen=said("better"), chosen_token_ids=own)], 1000, 1000)
    assert edited.chosen == ids(policy, "better<|im_end|>")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chosen": said("")}, "dropped.empty_chosen"),
        ({"rejected": said("")}, "dropped.empty_rejected"),
        ({"prompt": (ChatMessage("user", "x" * 300),)}, "dropped.prompt_too_long"),
    ],
)
def test_drops_have_names(policy, changes, reason):
    kept, counts = tokenise(policy, [replace(PAIR, **changes), PAIR], 200, 300)
    assert len(kept) == 1
    assert counts[reason] == 1


def test_prompts_lose_turns_and_completions_keep_their_start(policy):
    long = replace(PAIR, chosen=said("g" * 500), rejected=said("b" * 600))
    (pair,), counts = tokenise(policy, [long], 40, 100)
    assert "old" not in policy.tokenizer.decode(list(pair.prompt))
    assert policy.tokenizer.decode(list(pair.chosen)) == "g" * (100 - len(pair.prompt))
    assert policy.tokenizer.decode(list(pair.rejected)) == "b" * (100 - len(pair.prompt))
    names = ("shortened_prompts", "cut_chosen", "cut_rejected")
    assert [counts[name] for name in names] == [1, 1, 1]


SWITCHED = (
    "{% set ns = namespace(off=false) %}{% for m in messages %}{% if '/no_think' in m.content %}"
    "{% set ns.off = true %}{% endif %}{% if m.role != 'assistant' or not loop.last %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% set open = '<think></think>' if ns.off else '<think>\n' %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ open }}{% elif messages[-1].role == 'assistant' %}"
    "<|im_start|>assistant\n{{ open }}{{ messages[-1].content }}<|im_end|>\n{% endif %}"
)


@pytest.mark.parametrize(("room", "opening"), [(1000, ""), (120, "\n</think>\n\n")])
def test_both_sides_follow_the_turns_that_are_left(policy, room, opening):
    """The word that switches thinking off stands in the first turn, which does not fit into the smaller room."""
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.chat_template = SWITCHED
    switched = replace(policy, chat=ChatFormat(tokenizer, "off"))
    turns = (ChatMessage("user", "/no_think" + "x" * 200), ChatMessage("assistant", "b"), ChatMessage("user", "c"))
    (found,), counts = tokenise(switched, [replace(PAIR, prompt=turns)], room, 1000)
    assert counts["shortened_prompts"] == (room == 120)
    assert tokenizer.decode(list(found.chosen)) == f"{opening}good<|im_end|>"
    assert tokenizer.decode(list(found.rejected)) == f"{opening}bad one<|im_end|>"


def test_a_completion_is_one_assistant_message(policy):
    with pytest.raises(DataError, match="pair a: chosen and rejected must be one assistant message each, got user"):
        tokenise(policy, [replace(PAIR, chosen=(ChatMessage("user", "x"),))], 100, 100)


@pytest.mark.parametrize(
    ("chosen", "finish", "rejected", "rejected_finish", "room", "expected"),
    [
        ("good", "stop", "bad one", "stop", 100, ("good<|im_end|>", "bad one<|im_end|>")),
        ("good", "length", "bad one", "stop", 100, ("good", "bad ")),
        ("good one", "stop", "bad", "length", 100, ("goo", "bad")),
        ("good", "length", "bad", "length", 100, ("goo", "bad")),
        ("good", "length", "ba", "stop", 100, ("good", "ba")),
        ("good", "stop", "bad and long", "stop", 6, ("good", "bad an")),
        ("good and long", "stop", "bad", "stop", 6, ("good a", "bad")),
        ("good", "stop", "ba", "length", 100, ("go", "ba")),
    ],
)
def test_the_end_token_stands_on_both_sides_or_on_neither(
    policy, chosen, finish, rejected, rejected_finish, room, expected
):
    pair = replace(PAIR, chosen=said(chosen), finish=finish, rejected=said(rejected), rejected_finish=rejected_finish)
    prompt = len(tokenise(policy, [PAIR], 1000, 1000)[0][0].prompt)
    (tokens,), _ = tokenise(policy, [pair], 1000, prompt + room)
    assert (policy.tokenizer.decode(tokens.chosen), policy.tokenizer.decode(tokens.rejected)) == expected


def test_the_samplers_own_end_token_is_left_out_too(policy):
    own = (*ids(policy, "good"), *ids(policy, "<|pad|>"))
    pair = replace(PAIR, chosen_token_ids=own, rejected_finish="length")
    (tokens,), _ = tokenise(policy, [pair], 1000, 1000)
    assert (own[-1] in policy.stop_ids, tokens.chosen) == (False, own)  # a pad is no end: it stays
    own = (*ids(policy, "good"), *ids(policy, "<|im_end|>"))
    (tokens,), _ = tokenise(policy, [replace(pair, chosen_token_ids=own)], 1000, 1000)
    assert tokens.chosen == ids(policy, "good")
