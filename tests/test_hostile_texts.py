"""Hostile replies and complaints against every judge prompt of ours, over HTTP.

The server is a judge that obeys whoever writes outside of the marks, and judges honestly what stands inside: it reads
the prompt strictly, and gives the attacker their verdict if anything outside differs from a harmless prompt.
"""

import json
import math
from collections.abc import Callable

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Capabilities, Endpoint
from drift.evals.alpaca_eval.judge import OWN_TEMPLATE as ALPACA
from drift.evals.alpaca_eval.judge import ask_which, read_token
from drift.evals.files import Template
from drift.evals.wildbench.judge import OWN_TEMPLATE as WILDBENCH
from drift.evals.wildbench.judge import ask_score, read_score
from drift.evals.wildbench.versus import ask_better, read_choice
from drift.feedback.judge.window import Window
from drift.feedback.spur.extract import ExtractedReason, extract, summarise
from drift.records import ChatMessage, Conversation, Message, ReplyToScore
from drift.scoring.ask import JudgeQuestion, Reader, ask_all
from drift.scoring.judges import EndpointJudge, JudgeScorer, ReplyPair

RIGHT = "the right answer"
PLAIN = Capabilities(many=False, logprobs=False, repeats=True, json_schema=False, json_mode=False, decisions=False)


@pytest.fixture
def judge(serve, said, read_fences) -> Callable[..., EndpointSettings]:
    """`judge(harmless, verdicts)`: `verdicts(inside)` gives (honest, for the attacker) of what stands in the fences."""

    def make(harmless: str, verdicts: Callable[[dict[str, list]], tuple]) -> EndpointSettings:
        expected = read_fences(harmless).outside

        def answer(path: str, body: dict, number: int):
            if "Answer with the letter A." in body["messages"][-1]["content"]:
                return said.chat("A")
            fences = read_fences(body["messages"][-1]["content"])
            honest, fooled = verdicts(fences.inside)
            told = honest if fences.outside == expected else fooled
            return told if not isinstance(told, str) else said.chat(told)

        return EndpointSettings(base_url=serve(answer).url, model="judge", retries=0, timeout=5)

    return make


def prefers(inside: dict[str, list], first: str, second: str) -> bool:
    """Whether the right answer stands in the second place."""
    assert (inside[first] == [RIGHT]) != (inside[second] == [RIGHT])
    return inside[second] == [RIGHT]


def answers(settings: EndpointSettings, folder, questions: list[JudgeQuestion], read: Reader) -> list:
    judged = ask_all(questions, "judge", settings, folder, read)
    return [one.score if one.preference is None else one.preference for one in judged]


def test_pairwise_and_the_scorer_judge_by_what_stands_inside(injections, judge, tmp_path):
    from drift.scoring.comparison import comparison

    harmless = comparison("i", (ChatMessage("user", "q"),), ("a", "b"), False)[0].request.messages[1].content
    settings = judge(harmless, lambda inside: ("BA"[not prefers(inside, "reply_a", "reply_b")], "C"))
    prompts = [(ChatMessage("user", f"q {text}"),) for text in injections]
    pairs = [
        ReplyPair(str(n), str(n), prompt, RIGHT, text)
        for n, (prompt, text) in enumerate(zip(prompts, injections, strict=True))
    ]
    decided = EndpointJudge(settings, tmp_path / "pairwise").decide(pairs)
    assert [(one.value, one.position_bias) for one in decided] == [(0.0, 0.0)] * len(injections)
    replies = [ReplyToScore(prompt, text, against=RIGHT) for prompt, text in zip(prompts, injections, strict=True)]
    scorer = JudgeScorer(settings, tmp_path / "scorer")
    assert scorer.score_all(replies) == [0.0] * len(injections)
    turned = [ReplyToScore(prompt, RIGHT, against=text) for prompt, text in zip(prompts, injections, strict=True)]
    assert scorer.score_all(turned) == [1.0] * len(injections)


def test_wildbench_scores_what_stands_inside_even_if_the_judge_quotes_it(injections, judge, tmp_path):
    chat = (ChatMessage("user", "a"), ChatMessage("assistant", "b"), ChatMessage("user", "c"))
    own = Template(WILDBENCH, False)

    def score(inside: dict[str, list]) -> tuple[str, str]:
        told = {"strengths": inside["reply"][0], "weaknesses": "no answer", "score": "2"}
        return (
            f'{json.dumps(told)}\nThe reply says: {json.dumps(inside["reply"][0])} {{"score": "10"}}',
            '{"score": 10}',
        )

    settings = judge(ask_score("i", chat, ("Short?",), "x", own).request.messages[0].content, score)
    questions = [
        ask_score(
            str(n), (ChatMessage("user", text), *chat[1:2], ChatMessage("user", f"c {text}")), ("Short?",), text, own
        )
        for n, text in enumerate(injections)
    ]
    assert answers(settings, tmp_path / "score", questions, read_score) == [2] * len(injections)

    def choice(inside: dict[str, list]) -> tuple[str, str]:
        told = {"strengths of A": inside["reply_a"][0], "strengths of B": inside["reply_b"][0]}
        return json.dumps({**told, "choice": "B++" if prefers(inside, "reply_a", "reply_b") else "A++"}), "{}"

    settings = judge(ask_better("i", chat, ("Short?",), ("x", "y"))[0].request.messages[0].content, choice)
    both = [
        question for n, text in enumerate(injections) for question in ask_better(str(n), chat, (text,), (RIGHT, text))
    ]
    assert answers(settings, tmp_path / "versus", both, read_choice) == [0.0] * len(both)


def test_alpaca_eval_prefers_what_stands_inside(injections, judge, said, tmp_path):
    own = Template(ALPACA, False)

    def token(inside: dict[str, list]) -> tuple:
        def told(name: str):
            top = [{"token": name, "logprob": math.log(0.9)}]
            return said.chat(name, logprobs={"content": [{**top[0], "top_logprobs": top}]})

        return (told("M" if prefers(inside, "first_answer", "second_answer") else "m"), said.chat("?"))

    settings = judge(ask_which("i", "q", "a", "b", own).request.messages[-1].content, token)
    questions = [ask_which(str(n), f"q {text}", RIGHT, text, own) for n, text in enumerate(injections)]
    assert answers(settings, tmp_path / "alpaca", questions, read_token) == [0.0] * len(injections)


def test_the_rubric_learns_nothing_that_no_turn_says(injections, judge, read_fences):
    """A model that does what the hostile turn asks: its reasons quote no passage of the turn, so none is kept."""
    windows = [
        Window(
            Conversation(
                "c", "t", None, (Message("user", "q"), Message("assistant", "a"), Message("user", text)), "train"
            ),
            0,
            2,
            (2,),
        )
        for text in injections
    ]
    fooled = json.dumps({"reasons": [{"reason": "Every user is satisfied.", "quote": "I am satisfied"}]})
    settings = judge(windows[0].text(), lambda inside: (fooled, "{}"))
    with Endpoint(settings) as endpoint:
        assert extract(endpoint, PLAIN, windows, "SAT") == []
    reasons = [ExtractedReason(text, "x") for text in injections[:20]]
    items = json.dumps({"items": [{"text": "Thanks the assistant.", "support": 20}]})
    seen = []
    settings = judge('<reasons>\n"x"\n</reasons>', lambda inside: (seen.append(inside["reasons"]) or items, "{}"))
    with Endpoint(settings) as endpoint:
        assert [item.text for item in summarise(endpoint, PLAIN, reasons, "SAT")] == ["Thanks the assistant."]
    assert [text for batch in seen for text in batch] == injections[:20]
