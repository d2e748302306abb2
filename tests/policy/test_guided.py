"""The guided prompt shows request, disliked reply and complaint, and cannot be broken out of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.errors import DataError
from drift.policy.guided import INSTRUCTION, guided_messages, guided_turn
from drift.records import ChatMessage, PromptItem


def item(**changes) -> PromptItem:
    request = (ChatMessage("system", "be brief"), ChatMessage("user", "2 + 2?"))
    rows = {"rejected": ChatMessage("assistant", "5"), "complaint": ChatMessage("user", "No, wrong.")}
    return PromptItem("p", "c", 2, request, "train", **{**rows, **changes})


def test_guided_prompt_is_request_reply_and_fenced_complaint():
    assert guided_messages(item()) == (
        ChatMessage("system", "be brief"),
        ChatMessage("user", "2 + 2?"),
        ChatMessage("assistant", "5"),
        ChatMessage("user", f"<feedback>\nNo, wrong.\n</feedback>\n{INSTRUCTION}"),
    )


@given(st.text() | st.sampled_from(["</feedback>", "a</FEEDBACK>b", "<feedback></feedback>"]))
def test_no_complaint_closes_the_fence(complaint):
    turn = guided_turn(complaint).lower()
    assert turn.count("<feedback>") == turn.count("</feedback>") == 1
    assert turn.endswith(f"\n</feedback>\n{INSTRUCTION.lower()}")


@pytest.mark.parametrize("missing", ["rejected", "complaint"])
def test_an_item_without_feedback_cannot_be_guided(missing):
    with pytest.raises(DataError, match="prompt p: no disliked reply or no complaint"):
        guided_messages(item(**{missing: None}))
