from dataclasses import replace

from drift.pairs.recipes.drift import pairs
from drift.pairs.repairs import repair_pairs
from drift.records import ChatMessage, Completion, Drop, PreferencePair, PromptItem, Reason

ITEM = PromptItem(
    "p1", "c", 1, (ChatMessage("user", "2+2?"),), "train",
    rejected=ChatMessage("assistant", "5"), complaint=ChatMessage("user", "no"), noise=0.1,
)  # fmt: skip
DONE = Completion("p1", 3, 0, True, "4", "stop", 7, "abc", "transformers", (11, 2))


def reason_of(completion: Completion, drop_truncated: bool = False) -> Reason | None:
    (row,) = pairs([ITEM], [completion], drop_truncated)
    return row.reason if isinstance(row, Drop) else None


def test_a_pair_keeps_the_request_alone_the_fixed_rejected_and_the_samplers_ids():
    (pair,) = pairs([ITEM], [DONE], drop_truncated=False)
    assert isinstance(pair, PreferencePair)
    assert pair.prompt == ITEM.prompt
    assert pair.chosen == (ChatMessage("assistant", "4"),)
    assert pair.rejected == (ChatMessage("assistant", "5"),)
    assert (pair.chosen_token_ids, pair.iteration, pair.policy_id, pair.noise) == ((11, 2), 3, "abc", 0.1)


def test_pair_ids_differ_by_iteration_and_sample():
    completions = [DONE, replace(DONE, sample=1), replace(DONE, iteration=4)]
    ids = [pair.pair_id for pair in pairs([ITEM], completions, False) if isinstance(pair, PreferencePair)]
    assert len(set(ids)) == 3


def test_unusable_completions_are_dropped_by_name():
    assert reason_of(replace(DONE, text=" \n")) == Reason.EMPTY_CHOSEN
    assert reason_of(replace(DONE, text=" 5 ")) == Reason.CHOSEN_IS_REJECTED
    assert reason_of(replace(DONE, finish="error")) == Reason.SAMPLING_ERROR


def test_a_truncated_completion_is_kept_as_such_unless_the_config_drops_it():
    cut = replace(DONE, finish="length")
    (pair,) = pairs([ITEM], [cut], drop_truncated=False)
    assert isinstance(pair, PreferencePair)
    assert pair.finish == "length"
    assert reason_of(cut, drop_truncated=True) == Reason.TRUNCATED


def test_a_repair_prefers_the_revised_reply():
    (pair,) = repair_pairs([replace(ITEM, preferred=ChatMessage("assistant", "4"))])
    assert isinstance(pair, PreferencePair)
    assert pair.chosen[0].content == "4"
    assert pair.rejected[0].content == "5"
    assert (pair.recipe, pair.iteration) == ("repair", 0)


def test_a_repair_that_changed_nothing_is_dropped():
    (row,) = repair_pairs([replace(ITEM, preferred=ChatMessage("assistant", "5"))])
    assert isinstance(row, Drop)
    assert row.reason == Reason.IDENTICAL_REPLIES
