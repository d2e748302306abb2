"""Judges that think, over HTTP, where two replies are compared: letters, probabilities, reasons, and the limit."""

import math

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Endpoint
from drift.errors import DataError
from drift.progress import listening
from drift.records import ChatMessage, Judgement
from drift.scoring.ask import ask_all, ask_judge, unscored_reasons
from drift.scoring.comparison import comparison, read_letter

PROMPT = (ChatMessage("user", "Hello?"),)
QUESTIONS = list(comparison("i", PROMPT, ("one", "two"), False))


def asked(server, folder, questions=QUESTIONS, **changes) -> list[Judgement]:
    settings = EndpointSettings(base_url=server.url, model="judge", retries=0, max_concurrency=1, **changes)
    return ask_all(questions, "judge/x", settings, folder, read_letter)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>A is short. The answer: A? No.</think>\n\nB"},
        {"content": "B", "reasoning_content": "Verdict: A, perhaps."},
        {"content": "The answer: A?\n</think>\n**B**"},
    ],
)
def test_the_letter_behind_the_thoughts_counts(serve, said, tmp_path, message):
    server = serve(lambda *_: said.chat("", message=message))
    assert [judgement.preference for judgement in asked(server, tmp_path)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "reasoning", "written"),
    [
        ("<think>A?</think>\nB", None, ["<think>", "A", "?</think>", "\n", "B"]),
        ("B", "A?", ["A", "?", "B"]),  # the server's tokens hold the thoughts
        ("B", "A?", ["B"]),
    ],
)
def test_probabilities_are_read_behind_the_thoughts(serve, said, tmp_path, text, reasoning, written):
    def candidates(token: str) -> dict:
        shares = {"A": 0.2, "B": 0.6} if token == "B" else {token: 0.9}
        return {
            "token": token,
            "logprob": -0.1,
            "top_logprobs": [{"token": name, "logprob": math.log(share)} for name, share in shares.items()],
        }

    logprobs = {"content": [candidates(token) for token in written]}
    message = {"content": text, "reasoning_content": reasoning}
    server = serve(lambda *_: said.chat("", message=message, logprobs=logprobs))
    questions = list(comparison("i", PROMPT, ("one", "two"), True))
    first, second = asked(server, tmp_path, questions)
    assert (first.preference, second.preference) == (pytest.approx(0.75), pytest.approx(0.25))


def test_a_judge_without_room_fails_and_is_asked_anew_with_more(serve, said, tmp_path):
    def answer(path, body, number):
        if body["max_tokens"] >= 500:
            return said.chat("B")
        return said.chat("", message={"content": None, "reasoning": "Let me"}, finish_reason="length")

    server = serve(answer)
    for _ in range(2):
        with pytest.raises(DataError, match=r"all 2 judgements of judge are unreadable: 2 cut_in_thoughts \(") as error:
            asked(server, tmp_path)
        assert "an answer could have 4 tokens" in str(error.value)
        assert len(server.chats()) == 2  # the second time from the cache
    assert [judgement.preference for judgement in asked(server, tmp_path, max_tokens=500)] == [1.0, 0.0]
    assert len(server.chats()) == 4


def test_some_unreadable_answers_are_told_by_reason(serve, said, tmp_path):
    server = serve(lambda path, body, number: said.chat("B" if number == 1 else "I cannot say"))
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        judged = asked(server, tmp_path)
    assert unscored_reasons(judged) == {"unreadable: wrong_form": 1}
    assert notes == ["judge: 1 of 2 judgements are unreadable: 1 wrong_form (not in the form that was asked for)"]


def test_a_server_that_fails_is_not_an_unreadable_judge(serve, said, tmp_path):
    server = serve(lambda *_: said("", 500))
    settings = EndpointSettings(base_url=server.url, model="judge", retries=0)
    with Endpoint(settings) as endpoint:
        judged = ask_judge(QUESTIONS, "judge/x", endpoint, tmp_path / "judgements.jsonl", read_letter)
    assert unscored_reasons(judged) == {"no answer: server": 2}
