"""Both sides of a pair have one form, whatever the thinking mode; a probe says how far the form gives the side away."""

import random

import pytest

from drift.config import RecipeSettings
from drift.pairs.form import MIN_PROMPTS, WARN_ABOVE, form_accuracy, gives_sides_away, in_one_form
from drift.pairs.stages import build_pairs, find_repairs
from drift.progress import listening
from drift.records import (
    ChatMessage,
    Completion,
    Drop,
    FunctionCall,
    PreferencePair,
    PromptItem,
    Reason,
    ToolCall,
    read_jsonl,
    write_jsonl,
)

CALL = (ToolCall(FunctionCall("sort", "{}"), "k"),)
ASKED = (ChatMessage("user", "hi"),)


def reply(content: str, **extras) -> ChatMessage:
    return ChatMessage("assistant", content, **extras)


def pair(chosen: ChatMessage, rejected: ChatMessage, name: str = "p") -> PreferencePair:
    return PreferencePair(name, name, "c", 1, "drift", 1, "x", ASKED, (chosen,), (rejected,))


def same(row: PreferencePair, thinking) -> PreferencePair | Drop:
    (found,) = in_one_form([row], thinking)
    return found


THOUGHT = "<think>\nI look at the words.\n</think>\n\na b"


@pytest.mark.parametrize("thinking", ["off", "strip"])
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (reply("a b", reasoning="hm"), reply("b a")),
        (reply("a b"), reply("<think>hm</think>b a")),
        (reply(THOUGHT), reply("b a", reasoning="so")),
    ],
)
def test_without_thoughts_both_sides_are_answers(thinking, chosen, rejected):
    found = same(pair(chosen, rejected), thinking)
    assert isinstance(found, PreferencePair)
    assert (found.chosen, found.rejected) == ((reply("a b"),), (reply("b a"),))


def test_kept_thoughts_stand_on_both_sides():
    found = same(pair(reply("a b", reasoning="hm"), reply(THOUGHT.replace("a b", "b a"))), "keep")
    assert isinstance(found, PreferencePair)
    assert found.chosen == (reply("a b", reasoning="hm"),)
    assert found.rejected == (reply("b a", reasoning="I look at the words."),)


@pytest.mark.parametrize(
    ("chosen", "rejected", "thinking", "reason"),
    [
        (reply("a b", reasoning="hm"), reply("b a"), "keep", Reason.THOUGHT_ON_ONE_SIDE),
        (reply("a b"), reply(THOUGHT), "keep", Reason.THOUGHT_ON_ONE_SIDE),
        (reply("<think>and so on"), reply("b a"), "off", Reason.EMPTY_CHOSEN),
        (reply("<think>and so on"), reply("b a"), "keep", Reason.CUT_THOUGHT),
        (reply("a b<|im_end|>"), reply("b a"), "off", Reason.MARK_ON_ONE_SIDE),
        (reply("a b"), reply("<start_of_turn>model\nb a"), "off", Reason.MARK_ON_ONE_SIDE),
        (reply("a b"), reply("[INST] b a"), "off", Reason.MARK_ON_ONE_SIDE),
        (reply("a b"), reply("", tool_calls=CALL), "off", Reason.CALL_ON_ONE_SIDE),
        (reply("", tool_calls=CALL), reply("b a"), "off", Reason.CALL_ON_ONE_SIDE),
    ],
)
def test_what_stands_on_one_side_alone_is_a_named_drop(chosen, rejected, thinking, reason):
    found = same(pair(chosen, rejected), thinking)
    assert isinstance(found, Drop)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (reply("a < b and c > d"), reply("a | b")),
        (reply("use <b>bold</b>"), reply("plain")),
        (reply("", tool_calls=CALL), reply("", tool_calls=(ToolCall(FunctionCall("other", "{}")),))),
        (reply("ends with <|im_end|>"), reply("also <|im_end|>")),
    ],
)
def test_what_tells_nothing_stays(chosen, rejected):
    assert isinstance(same(pair(chosen, rejected), "off"), PreferencePair)


def build(tmp_path, completions, rejected="b a", thinking="off"):
    items = [
        PromptItem(c.prompt_id, "c", 1, ASKED, "train", rejected=reply(rejected), complaint=ChatMessage("user", "no"))
        for c in completions
    ]
    prompts, fresh, out = (tmp_path / name for name in ("prompts.jsonl", "completions.jsonl", "pairs.jsonl"))
    write_jsonl(prompts, items)
    write_jsonl(fresh, completions)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        counts = build_pairs(out, prompts, fresh, RecipeSettings(), thinking=thinking)
    return counts, list(read_jsonl(out, PreferencePair)), notes


def completion(n: int, text: str, **further) -> Completion:
    return Completion(f"p{n}", 1, 0, True, text, "stop", 0, "x", "t", **further)


def test_the_stage_counts_thoughts_and_drops_cut_ones(tmp_path):
    fresh = [completion(0, "a b", reasoning="hm"), completion(1, "", reasoning="hm and"), completion(2, "")]
    counts, pairs, _ = build(tmp_path, fresh)
    assert [p.prompt_id for p in pairs] == ["p0"]
    assert pairs[0].chosen == (reply("a b"),)
    expected = {"rows": 1, "dropped.cut_thought": 1, "dropped.empty_chosen": 1, "thoughts_left_out": 1}
    assert {name: counts[name] for name in expected} == expected
    assert "form_accuracy" not in counts  # one pair says nothing
    counts, pairs, _ = build(tmp_path, fresh, thinking="keep")
    assert counts["dropped.thought_on_one_side"] == 1


def test_the_same_answer_with_other_thoughts_is_no_pair(tmp_path):
    counts, pairs, _ = build(tmp_path, [completion(0, "b a", reasoning="hm")])
    assert pairs == []
    assert counts["dropped.chosen_is_rejected"] == 1


def test_repairs_lose_their_thoughts_too(tmp_path):
    items = [
        PromptItem("p", "c", 1, ASKED, "train", rejected=reply("<think>x</think>b a"), preferred=reply("a b")),
        PromptItem("q", "c", 1, ASKED, "train", rejected=reply("<think>x</think>a b"), preferred=reply("a b")),
    ]
    write_jsonl(tmp_path / "prompts.jsonl", items)
    counts = find_repairs(tmp_path / "repairs.jsonl", tmp_path / "prompts.jsonl")
    assert counts == {"rows": 1, "dropped.identical_replies": 1}
    (repair,) = read_jsonl(tmp_path / "repairs.jsonl", PreferencePair)
    assert repair.rejected == (reply("b a"),)


WORDS = ("apple", "cloud", "eagle", "garden", "moon", "stone", "river", "table", "green", "quiet")


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 30))) for _ in range(count)]


def test_a_probe_that_has_nothing_to_find_is_near_chance():
    pairs = [
        pair(reply(a), reply(b), f"p{n}") for n, (a, b) in enumerate(zip(texts(300, 1), texts(300, 2), strict=True))
    ]
    accuracy = form_accuracy(pairs)
    assert accuracy == pytest.approx(0.5, abs=0.08)  # two standard errors of 600 replies are 0.04


@pytest.mark.parametrize("mark", ["Sure! {}", "{} Let me know if you need more.", "**Answer:**\n\n{}"])
def test_a_stock_phrase_is_found_and_warned_about(tmp_path, mark):
    fresh = [completion(n, mark.format(text)) for n, text in enumerate(texts(60, 1))]
    counts, _, notes = build(tmp_path, fresh, rejected="a b c d e")
    assert counts["form_accuracy"] == 1.0
    assert any("by their first and last 8 words in 100%" in note for note in notes)
    both = [
        pair(reply(mark.format(a)), reply(mark.format(b)), f"p{n}")
        for n, (a, b) in enumerate(zip(texts(300, 3), texts(300, 4), strict=True))
    ]
    accuracy = form_accuracy(both)
    assert accuracy is not None
    assert accuracy < WARN_ABOVE


@pytest.mark.parametrize(
    ("accuracy", "prompts", "tells"),
    [(1.0, 50, True), (0.72, 300, True), (0.72, 50, False), (0.69, 2000, False), (0.5, 50, False)],
)
def test_a_warning_needs_more_than_chance(accuracy, prompts, tells):
    """By hand: the standard error at 0.72 is 0.018 with 300 prompts (600 replies) and 0.045 with 50."""
    assert gives_sides_away(accuracy, prompts) is tells


def test_too_few_prompts_give_no_figure():
    few = [pair(reply("Sure! a"), reply("b"), f"p{n}") for n in range(MIN_PROMPTS - 1)]
    assert form_accuracy(few) is None
    assert form_accuracy(few * 3) is None  # the same prompts again
    assert form_accuracy([*few, pair(reply("Sure! a"), reply("b"), "another")]) == 1.0
