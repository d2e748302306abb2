from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.pairs.disliked import repair_pairs
from drift.pairs.recipes import RECIPES, RecipeInputs, resize_to
from drift.records import (
    ChatMessage,
    Completion,
    Drop,
    PreferencePair,
    PromptItem,
    Reason,
    Score,
)

ITEM = PromptItem(
    "p1", "c", 1, (ChatMessage("user", "2+2?"),), "train",
    rejected=ChatMessage("assistant", "5"), complaint=ChatMessage("user", "no"), noise=0.1,
)  # fmt: skip
DONE = Completion("p1", 3, 0, True, "4", "stop", 7, "abc", "transformers", (11, 2))


def rows(recipe: str, *completions: Completion, item: PromptItem = ITEM, scores=(), **more) -> list:
    known = {("p1", sample): Score("p1", sample, score, "self", 0.0) for sample, score in enumerate(scores)}
    inputs = RecipeInputs({"p1": item}, completions, known, **more)
    return list(RECIPES[recipe](inputs))


def reason_of(recipe: str, *completions: Completion, **more) -> Reason | None:
    (row,) = rows(recipe, *completions, **more)
    return row.reason if isinstance(row, Drop) else None


def test_drift_keeps_the_request_alone_the_fixed_rejected_and_the_samplers_ids():
    (pair,) = rows("drift", DONE)
    assert isinstance(pair, PreferencePair)
    assert pair.prompt == ITEM.prompt
    assert pair.chosen == (ChatMessage("assistant", "4"),)
    assert pair.rejected == (ChatMessage("assistant", "5"),)
    assert (pair.chosen_token_ids, pair.iteration, pair.policy_id, pair.noise) == ((11, 2), 3, "abc", 0.1)


def test_pair_ids_differ_by_iteration_and_sample():
    completions = [DONE, replace(DONE, sample=1), replace(DONE, iteration=4)]
    assert len({pair.pair_id for pair in rows("drift", *completions)}) == 3


def test_unusable_completions_are_dropped_by_name():
    assert reason_of("drift", replace(DONE, text=" \n")) == Reason.EMPTY_CHOSEN
    assert reason_of("drift", replace(DONE, text=" 5 ")) == Reason.CHOSEN_IS_REJECTED
    assert reason_of("drift", replace(DONE, finish="error")) == Reason.SAMPLING_ERROR
    assert reason_of("drift", DONE, unlearned=frozenset({"p1"})) == Reason.UNLEARNED


def test_a_truncated_completion_is_kept_as_such_unless_the_config_drops_it():
    cut = replace(DONE, finish="length")
    (pair,) = rows("drift", cut)
    assert pair.finish == "length"
    assert reason_of("drift", cut, drop_unfinished=True) == Reason.TRUNCATED


def test_a_score_gives_the_pair_its_margin():
    (pair,) = rows("drift", DONE, scores=[0.75])
    assert (pair.margin, pair.margin_source) == (0.75, "self")
    (pair,) = rows("drift", DONE, scores=[None])
    assert pair.margin is None


def test_spin_prefers_the_liked_reply_to_the_policys_own():
    liked = replace(ITEM, rejected=None, preferred=ChatMessage("assistant", "four"))
    (pair,) = rows("spin", DONE, item=liked)
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("four", "4")
    assert pair.chosen_token_ids is None
    assert reason_of("spin", replace(DONE, text="four "), item=liked) == Reason.CHOSEN_IS_REJECTED
    assert reason_of("spin", DONE) == Reason.EMPTY_CHOSEN


def test_iter_dpo_takes_the_best_and_the_worst_of_the_samples():
    samples = [replace(DONE, sample=i, text=text, token_ids=(i,)) for i, text in enumerate(("a", "b", "c"))]
    (pair,) = rows("iter_dpo", *samples, scores=[-1.0, 0.5, -2.0])
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("b", "c")
    assert (pair.chosen_token_ids, pair.margin) == ((1,), 2.5)
    assert reason_of("iter_dpo", *samples, scores=[1.0, 1.0, 1.0]) == Reason.IDENTICAL_REPLIES
    assert reason_of("iter_dpo", *samples, scores=[None, None, None]) == Reason.UNSCORED
    assert reason_of("iter_dpo", *samples) == Reason.UNSCORED


def test_the_logs_own_pairs_need_no_sample():
    mended = replace(ITEM, preferred=ChatMessage("assistant", "4"))
    (pair,) = rows("logs", item=mended)
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("4", "5")
    cut = replace(mended, rejected_finish="length")
    assert reason_of("logs", item=cut, drop_unfinished=True) == Reason.TRUNCATED
    assert reason_of("logs", item=cut) is None


@given(st.integers(1, 40), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_exactly_so_many_pairs_different_prompts_first(count, prompts):
    (pair,) = rows("drift", DONE)
    pairs = [replace(pair, prompt_id=prompt, pair_id=str(i)) for i, prompt in enumerate(prompts)]
    resized = list(resize_to(count, pairs))
    found = [row for row in resized if isinstance(row, PreferencePair)]
    assert [row.reason for row in resized[len(found) :]] == [Reason.BEYOND_RECIPE_PAIRS] * max(0, len(pairs) - count)
    assert {p.pair_id for p in found} | {row.row_id for row in resized[len(found) :]} == {p.pair_id for p in pairs}
    assert len(found) == (count if pairs else 0)
    distinct = len(set(prompts))
    assert len({p.prompt_id for p in found[:distinct]}) == min(count, distinct)
    if count >= len(pairs):
        assert {p.pair_id for p in found} == {p.pair_id for p in pairs}


def test_a_repair_prefers_the_revised_reply():
    (pair,) = repair_pairs([replace(ITEM, preferred=ChatMessage("assistant", "4"))])
    assert isinstance(pair, PreferencePair)
    assert pair.chosen[0].content == "4"
    assert pair.rejected[0].content == "5"
    assert (pair.recipe, pair.iteration) == ("repair", 0)


@pytest.mark.parametrize(("rejected", "preferred"), [("5", "5"), ("5\r\n6", "5\n6 "), ("caf\u00e9", "cafe\u0301")])
def test_a_repair_that_changed_nothing_is_dropped(rejected, preferred):
    item = replace(ITEM, rejected=ChatMessage("assistant", rejected), preferred=ChatMessage("assistant", preferred))
    (row,) = repair_pairs([item])
    assert isinstance(row, Drop)
    assert row.reason == Reason.IDENTICAL_REPLIES


def test_a_repair_of_a_reply_that_was_cut_goes_where_the_config_says_so():
    cut = replace(ITEM, preferred=ChatMessage("assistant", "4"), rejected_finish="length")
    (row,) = repair_pairs([cut], drop_unfinished=True)
    assert isinstance(row, Drop)
    assert row.reason == Reason.TRUNCATED
    assert isinstance(next(repair_pairs([cut])), PreferencePair)


def test_best_of_takes_the_best_sample_and_keeps_the_fixed_rejected():
    samples = [replace(DONE, sample=n, text=text, token_ids=(n,)) for n, text in enumerate(("3", "4", "6"))]
    (pair,) = rows("best_of", *samples, scores=[0.1, 0.9, 0.2])
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("4", "5")
    assert (pair.chosen_token_ids, pair.margin, pair.margin_source) == ((1,), 0.9, "self")


def test_best_of_names_its_drops():
    samples = [replace(DONE, sample=0), replace(DONE, sample=1, text="5")]
    assert reason_of("best_of", *samples) == Reason.UNSCORED
    assert reason_of("best_of", *samples, scores=[0.1, 0.9]) == Reason.CHOSEN_IS_REJECTED
    assert reason_of("best_of", *[replace(c, text=" ") for c in samples], scores=[0.1, 0.9]) == Reason.EMPTY_CHOSEN
    retired = {"scores": [0.9, 0.1], "unlearned": frozenset({"p1"})}
    assert reason_of("best_of", *samples, **retired) == Reason.UNLEARNED
    assert reason_of("best_of", *samples, item=replace(ITEM, rejected=None), scores=[1, 2]) == Reason.EMPTY_REJECTED
    cut = {"item": replace(ITEM, rejected_finish="length"), "scores": [0.9, 0.1], "drop_unfinished": True}
    assert reason_of("best_of", *samples, **cut) == Reason.TRUNCATED


def test_unpaired_gives_each_judged_reply_alone():
    liked = PromptItem("p2", "d", 3, ITEM.prompt, "train", preferred=ChatMessage("assistant", "4"), user_key="u")
    mended = replace(ITEM, preferred=ChatMessage("assistant", "4"))  # what was liked instead is an item of its own
    found = list(RECIPES["unpaired"](RecipeInputs({"p1": mended, "p2": liked})))
    by_prompt = {pair.prompt_id: pair for pair in found}
    assert (by_prompt["p1"].chosen, by_prompt["p1"].rejected) == ((), (ChatMessage("assistant", "5"),))
    assert (by_prompt["p2"].chosen, by_prompt["p2"].rejected) == ((ChatMessage("assistant", "4"),), ())
    assert {(pair.recipe, pair.iteration, pair.is_paired) for pair in found} == {("unpaired", 0, False)}
    assert (by_prompt["p2"].user_key, by_prompt["p2"].reply_index) == ("u", 3)


def test_unpaired_gives_a_correction_beside_the_reply_that_it_corrects():
    corrected = replace(ITEM, preferred=ChatMessage("assistant", "4"), corrected=True)
    liked, disliked = rows("unpaired", item=corrected)
    assert (liked.chosen, liked.rejected) == ((ChatMessage("assistant", "4"),), ())
    assert (disliked.chosen, disliked.rejected) == ((), (ChatMessage("assistant", "5"),))
    assert liked.pair_id != disliked.pair_id
    for text, reason in (("5", Reason.IDENTICAL_REPLIES), (" ", Reason.EMPTY_CHOSEN)):
        drop, kept = RECIPES["unpaired"](
            RecipeInputs({"p1": replace(corrected, preferred=ChatMessage("assistant", text))})
        )
        assert isinstance(drop, Drop)
        assert (drop.reason, isinstance(kept, PreferencePair)) == (reason, True)


def test_unpaired_mixes_the_kinds_and_names_what_it_leaves_out():
    items = {
        f"{kind}{n}": replace(ITEM, prompt_id=f"{kind}{n}", **sides)
        for n in range(20)
        for kind, sides in (("a", {}), ("b", {"rejected": None, "preferred": ChatMessage("assistant", "4")}))
    }
    found = list(RECIPES["unpaired"](RecipeInputs(items)))
    assert len(found) == 40
    assert 4 < sum(bool(pair.chosen) for pair in found[:20]) < 16
    cut = replace(ITEM, rejected_finish="length")
    assert reason_of("unpaired", item=cut, drop_unfinished=True) == Reason.TRUNCATED
    (kept,) = rows("unpaired", item=cut)
    assert kept.rejected_finish == "length"
    assert reason_of("unpaired", item=replace(ITEM, rejected=None)) == Reason.EMPTY_CHOSEN


def test_rlhi_keeps_rewrites_alone():
    (pair,) = rows("rlhi", DONE)
    assert (pair.recipe, pair.chosen[0].content, pair.rejected[0].content) == ("rlhi", "4", "5")
    assert reason_of("rlhi", replace(DONE, guided=False)) == Reason.NO_FOLLOW_UP
    assert reason_of("rlhi", replace(DONE, finish="error", guided=False)) == Reason.SAMPLING_ERROR
    assert reason_of("rlhi", replace(DONE, text="5")) == Reason.CHOSEN_IS_REJECTED


def test_liked_replies_stand_alone():
    liked = replace(ITEM, rejected=None, preferred=ChatMessage("assistant", "four"))
    (row,) = rows("liked", item=liked)
    assert (row.chosen, row.rejected, row.iteration) == ((ChatMessage("assistant", "four"),), (), 0)
    assert reason_of("liked") == Reason.EMPTY_CHOSEN


def test_a_follow_up_goes_with_the_logged_reply_or_with_the_fresh_one():
    (logged,) = rows("follow_up")
    assert (logged.chosen, logged.rejected) == ((ChatMessage("assistant", "5"),), ())
    (fresh,) = rows("fresh_follow_up", DONE)
    assert (fresh.chosen, fresh.rejected) == ((ChatMessage("assistant", "4"),), ())
    assert fresh.chosen_token_ids == (11, 2)
    assert logged.follow_up == fresh.follow_up == ChatMessage("user", "no")
    silent = replace(ITEM, complaint=None)
    assert reason_of("follow_up", item=silent) == reason_of("fresh_follow_up", DONE, item=silent) == Reason.NO_FOLLOW_UP
    assert reason_of("fresh_follow_up", replace(DONE, text=" ")) == Reason.EMPTY_CHOSEN
    cut = {"item": replace(ITEM, rejected_finish="length"), "drop_unfinished": True}
    assert reason_of("follow_up", **cut) == Reason.TRUNCATED
