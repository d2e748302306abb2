"""Asking a judge: both orders, what an answer says, and that no answer is paid for twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.config import EndpointSettings
from drift.disk import DurableJsonl
from drift.endpoint import Endpoint, Reply, Usage
from drift.endpoint.message import Candidate, Choice
from drift.endpoint.options import JudgePricing, endpoint_settings
from drift.errors import ConfigError
from drift.records import ChatMessage, Judgement
from drift.scoring.ask import ask_judge, estimate, judge_name, require_within
from drift.scoring.comparison import INSTRUCTIONS, comparison, read_letter

PROMPT = (ChatMessage("user", "Hello?"),)


def answer(text: str, *candidates: tuple[str, float]) -> Reply:
    tokens = (tuple(Candidate(token, math.log(p)) for token, p in candidates),) if candidates else ()
    return Reply(usage=Usage(1, 1), cost=None, cached=False, choices=(Choice(text, "stop", tokens),))


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("A", 0.0),
        ("B", 1.0),
        (" **C** ", 0.5),
        ("Reply B is better. Verdict: B", 1.0),
        ("B is better: a clear, correct reply.", 1.0),
        ("Reply B is better because it gives a direct answer, a list.", 1.0),
        ("Reply A is good, but reply B is better.", 1.0),
        ("B gives the right answer. A is wrong.", None),
        ("Reply A or reply B", None),
        ("Both are fine", None),
        ("", None),
    ],
)
def test_letters(text, preference):
    question, swapped = comparison("i", PROMPT, ("one", "two"), False)
    grade = read_letter(question, answer(text))
    assert grade.preference == preference
    assert (grade.unscored_reason is None) == (preference is not None)
    other = read_letter(swapped, answer(text)).preference
    assert other == (None if preference is None else 1 - preference)


def test_probabilities_by_hand():
    question, swapped = comparison("i", PROMPT, ("one", "two"), True)
    reply = answer("A", ("A", 0.5), (" B", 0.2), ("C", 0.1), ("x", 0.1))
    assert read_letter(question, reply).preference == pytest.approx((0.2 + 0.05) / 0.8)
    assert read_letter(swapped, reply).preference == pytest.approx(1 - 0.25 / 0.8)


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_judge_of_letters_alone_has_a_preference_within_bounds(a, b, c):
    question, swapped = comparison("i", PROMPT, ("one", "two"), True)
    reply = answer("A", ("A", a), ("B", b), ("C", c))
    one, other = read_letter(question, reply).preference, read_letter(swapped, reply).preference
    assert one is not None
    assert other is not None
    assert 0 <= one <= 1
    assert one + other == pytest.approx(1)


def test_the_second_order_shows_the_replies_swapped():
    question, swapped = comparison("i", PROMPT, ("one", "two"), False)
    first, second = (q.request.messages[-1].content for q in (question, swapped))
    assert first.index("one") < first.index("two")
    assert second.index("two") < second.index("one")


def test_judgements_are_kept_and_failures_asked_again(serve, said, tmp_path):
    replies = {1: said("", 500), 2: said.chat("B")}
    server = serve(lambda path, body, number: replies.get(number, said.chat("B")))
    settings = EndpointSettings(base_url=server.url, model="judge", retries=0, max_concurrency=1)
    questions = list(comparison("i", PROMPT, ("one", "two"), False))
    name, path = judge_name(settings, "prompt", 0), tmp_path / "judgements.jsonl"

    def judge() -> list[Judgement]:
        with Endpoint(settings) as endpoint:
            return ask_judge(questions, name, endpoint, path, read_letter)

    first = judge()
    assert [j.preference for j in first] == [None, 0.0]
    assert first[0].unscored_reason == "no answer: server"
    with path.open("ab") as torn:
        torn.write(b'{"item_id": "i", "jud')  # a kill in the middle of a line
    assert estimate(questions, name, settings, path).answered == 1
    assert [j.preference for j in judge()] == [1.0, 0.0]
    assert [j.preference for j in judge()] == [1.0, 0.0]
    assert len(server.chats()) == 3  # two, then the failed one again, then none
    with DurableJsonl(path, Judgement) as kept:
        assert len(kept.rows()) == 3


def test_the_cost_is_known_before_the_first_call(tmp_path):
    settings = endpoint_settings("http://nowhere#judge", JudgePricing(None, 10.0, 30.0, 0.001))
    questions = list(comparison("i", PROMPT, ("one" * 500, "two"), False))
    found = estimate(questions, "judge", settings, tmp_path / "none.jsonl")
    assert (found.questions, found.answered, found.output_tokens) == (2, 0, 8)
    assert found.cost == pytest.approx((found.input_tokens * 10 + 8 * 30) / 1e6)
    with pytest.raises(ConfigError, match="--max-cost"):
        require_within(found, settings)


def test_injections_stay_in_the_fence_of_both_orders(injections, read_fences):
    chat = (ChatMessage("system", "Be kind."), *PROMPT, ChatMessage("assistant", "Hi."), ChatMessage("user", "And?"))
    harmless = read_fences(comparison("i", chat, ("one", "two"), False)[0].request.messages[1].content)
    assert len(injections) >= 50
    for text in injections:
        attacked = (*chat[:2], ChatMessage("assistant", text), ChatMessage("user", text))
        for question, replies in zip(
            comparison("i", attacked, (text, f"two {text}"), False), ((text, f"two {text}"), (f"two {text}", text)),
            strict=True,
        ):  # fmt: skip
            instructions, shown = (message.content for message in question.request.messages)
            assert instructions == INSTRUCTIONS
            fences = read_fences(shown)
            assert fences.outside == harmless.outside
            assert fences.inside == {
                "conversation": [
                    {"turn": turn, "speaker": message.role, "text": message.content}
                    for turn, message in enumerate(attacked)
                ],
                "reply_a": [replies[0]],
                "reply_b": [replies[1]],
            }


def test_the_judge_reads_a_long_conversation_to_its_end():
    chat = (ChatMessage("user", "x" * 50_000 + " END"),)
    assert "x" * 50_000 + " END" in comparison("i", chat, ("one", "two"), False)[0].request.messages[1].content
