"""Which complaints are believed: not those against what the policy itself says most often."""

import pytest

from drift.pairs.majority import believed, majorities
from drift.pairs.stages import find_believed
from drift.records import ChatMessage, Completion, Drop, Finish, PromptItem, Reason, read_jsonl, write_jsonl


def item(name: str, rejected: str | None) -> PromptItem:
    reply = None if rejected is None else ChatMessage("assistant", rejected)
    return PromptItem(name, "c", 1, (ChatMessage("user", "7 x 8?"),), "train", rejected=reply)


def own(name: str, *texts: str, finish: Finish = "stop") -> list[Completion]:
    return [Completion(name, 0, n, False, text, finish, 1, "w", "transformers") for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "rejected", "is_believed"),
    [
        (("56", "56", "54", " 56 ", "48"), "56", False),  # 3 of 5 say what the user disliked
        (("56", "56", "54", "55", "48"), "56", True),  # 2 of 5 are no majority
        (("54", "54", "54", "56", "56"), "56", True),  # the policy says mostly something else
        (("56",) * 5, None, True),
        (("well, it  is 56",) * 3, "well,\nit is 56", False),
        (("56",) * 3, "<think>7 times 8 ...</think>\n\n56", False),  # the log keeps the thoughts in the text
    ],
)
def test_a_complaint_against_the_majority_is_not_believed(texts, rejected, is_believed):
    (row,) = believed([item("p", rejected)], majorities(own("p", *texts)))
    assert isinstance(row, PromptItem) == is_believed
    if isinstance(row, Drop):
        assert row == Drop("p", Reason.AGAINST_MAJORITY)


def test_replies_that_did_not_end_agree_with_none():
    assert majorities(own("p", "56", "56", "56", finish="length")) == {}
    assert set(majorities([*own("p", "56", "56"), *own("q", "1", "2")])) == {"p"}


def test_the_stage_counts_what_it_drops(tmp_path):
    prompts, replies, out = (tmp_path / name for name in ("prompts.jsonl", "own.jsonl", "out.jsonl"))
    write_jsonl(prompts, [item("p", "56"), item("q", "3"), item("r", "9")])  # r has no reply: it did not fit
    write_jsonl(replies, [*own("p", "56", "56", "1"), *own("q", "4", "4", "4")])
    counts = find_believed(out, prompts, replies)
    assert counts == {"rows": 2, "dropped.against_majority": 1, "with_majority": 2}
    assert [row.prompt_id for row in read_jsonl(out, PromptItem)] == ["q", "r"]
