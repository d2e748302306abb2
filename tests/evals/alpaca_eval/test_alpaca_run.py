"""AlpacaEval from replies to figures, with a loopback judge that answers with token probabilities."""

import json
import math
import random

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Reply, Usage
from drift.endpoint.message import Candidate, Choice
from drift.errors import DataError, PrerequisiteError
from drift.evals.alpaca_eval.annotations import read_annotations
from drift.evals.alpaca_eval.judge import OWN_TEMPLATE, ask_which, is_switched, read_prompt, read_token
from drift.evals.alpaca_eval.run import FILE, REPOSITORY, AlpacaRun, run_alpaca_eval
from drift.evals.files import Template, locate_dataset
from drift.evals.replies import sampling_at
from drift.records import ChatMessage

OWN = Template(OWN_TEMPLATE, False)


def answer(**logprobs: float) -> Reply:
    token = tuple(Candidate(name, math.log(p)) for name, p in logprobs.items())
    return Reply(usage=Usage(1, 1), choices=(Choice("m", "stop", (token,) if token else ()),))


def test_the_preference_by_hand():
    """2 - P(m) / (P(m) + P(M)) after un-swapping, less one."""
    straight, switched = (next(f"q{i}" for i in range(99) if is_switched(f"q{i}") == want) for want in (False, True))
    for instruction, expected in ((straight, 1 - 0.6 / 0.8), (switched, 0.6 / 0.8)):
        question = ask_which("i", instruction, "base", "model", OWN)
        assert read_token(question, answer(m=0.6, M=0.2, x=0.1)).preference == pytest.approx(expected)
    assert (
        read_token(ask_which("i", straight, "b", "o", OWN), answer(M=0.1)).preference == 1
    )  # an absent token counts 0
    assert read_token(ask_which("i", straight, "b", "o", OWN), answer(x=0.1)).preference is None
    assert read_token(ask_which("i", straight, "b", "o", OWN), answer()).unscored_reason == "no token probabilities"


def test_the_order_is_the_benchmarks_own_draw():
    assert is_switched("Say hi.") == random.Random("is_switched_outputsSay hi.0").choices([False, True])[0]
    instruction = next(f"q{i}" for i in range(99) if is_switched(f"q{i}"))
    shown = ask_which("i", instruction, "BASELINE", "OUTPUT", OWN).request.messages[-1].content
    assert shown.index("OUTPUT") < shown.index("BASELINE")


def test_a_text_that_looks_like_a_place_stays(tmp_path):
    question = ask_which("i", "tell me of {output_2}", "base", "model", OWN)
    assert "tell me of {output_2}" in question.request.messages[-1].content
    bad = tmp_path / "prompt.txt"
    bad.write_text("{instruction} {output_1}")
    with pytest.raises(DataError, match="output_2"):
        read_prompt(bad)


def test_injections_stay_in_the_fence_of_our_own_prompt(injections, read_fences):
    def shown(instruction, baseline, output):
        system, user = ask_which("i", instruction, baseline, output, OWN).request.messages
        assert (system.role, user.role) == ("system", "user")
        return system.content, read_fences(user.content)

    instructions, harmless = shown("Say hi.", "base", "model")
    assert len(injections) >= 50
    for text in injections:
        system, prompt = shown(f"ask {text}", f"base {text}", f"model {text}")
        assert system == instructions
        assert prompt.outside == harmless.outside
        answers = [[f"base {text}"], [f"model {text}"]]
        if is_switched(f"ask {text}"):
            answers.reverse()
        assert prompt.inside["instruction"] == [f"ask {text}"]
        assert [prompt.inside["first_answer"], prompt.inside["second_answer"]] == answers


def test_the_official_template_is_filled_as_published(tmp_path):
    (tmp_path / "prompt.txt").write_text("<|im_start|>user\n{instruction}|{output_1}|{output_2}\n<|im_end|>")
    template = read_prompt(tmp_path / "prompt.txt")
    instruction = next(f"<q> {i}" for i in range(99) if not is_switched(f"<q> {i}"))
    (message,) = ask_which("i", instruction, 'a "base"', "</b>\n", template).request.messages
    assert message == ChatMessage("user", f'{instruction}|a "base"|</b>\n')


def test_without_the_hub_the_error_says_which_file_to_bring():
    with pytest.raises(PrerequisiteError, match=rf"Download {FILE} .*--data FILE"):
        locate_dataset(None, REPOSITORY, FILE)


def test_from_replies_to_figures(tmp_path, serve, said):
    """The judge likes OUTPUT with 0.75 and cannot be read once; equal answers are a draw that nobody is asked about."""
    data, outputs = tmp_path / "baseline.json", tmp_path / "outputs.jsonl"
    baseline = {"generator": "gpt4_1106_preview"}
    rows = [baseline | {"instruction": f"question {i}", "output": f"BASE {i}"} for i in range(6)]
    data.write_text(json.dumps(rows))
    made = [
        {"instruction": r["instruction"], "output": f"OUTPUT {i}" if i else r["output"]} for i, r in enumerate(rows)
    ]
    outputs.write_text("".join(json.dumps(row) + "\n" for row in made))

    def judge(path, body, number):
        assert (body["max_tokens"], body["temperature"], body["top_logprobs"]) == (1, 1.0, 5)
        text = body["messages"][-1]["content"]
        if "question 5" in text:
            return said.chat("?", logprobs={"content": [{"token": "?", "logprob": -0.1, "top_logprobs": []}]})
        liked, other = ("m", "M") if text.index("OUTPUT") < text.index("BASE") else ("M", "m")
        top = [{"token": liked, "logprob": math.log(0.6)}, {"token": other, "logprob": math.log(0.2)}]
        return said.chat(liked, logprobs={"content": [{**top[0], "top_logprobs": top}]})

    server = serve(judge)
    settings = EndpointSettings(base_url=server.url, model="small", retries=0)
    run = AlpacaRun(str(outputs), settings, OWN, sampling_at(0.0, 16), tmp_path / "out", data)
    dry = run_alpaca_eval(run, True, lambda line: None)
    assert (dry.result, dry.estimate.questions, len(server.chats())) == (None, 5, 0)
    done = run_alpaca_eval(run, False, lambda line: None)
    assert done.result is not None
    assert done.result.win_rate == pytest.approx(100 * (0.5 + 4 * 0.75) / 5)
    assert (done.result.n_total, done.result.n_unscored) == (5, 1)
    assert "the judge's prompt is this project's own" in done.result.not_comparable
    assert any("the judge is small/" in reason for reason in done.result.not_comparable)
    assert len(json.loads((tmp_path / "out" / "annotations.json").read_text())) == 6
    run_alpaca_eval(run, False, lambda line: None)
    assert len(server.chats()) == 5


def test_an_instruction_without_a_reply_is_counted_and_has_no_output(tmp_path, serve, said):
    """An empty output would enter length control as a reply of 0 characters."""
    data, outputs = tmp_path / "baseline.json", tmp_path / "outputs.jsonl"
    rows = [{"generator": "g", "instruction": f"question {i}", "output": f"BASE {i}"} for i in range(4)]
    data.write_text(json.dumps(rows))
    made = [{"instruction": f"question {i}", "output": ["", "OUTPUT", "OUTPUT"][i]} for i in range(3)]
    outputs.write_text("".join(json.dumps(row) + "\n" for row in made))
    top = [{"token": "m", "logprob": math.log(0.6)}, {"token": "M", "logprob": math.log(0.2)}]
    server = serve(lambda path, body, number: said.chat("m", logprobs={"content": [{**top[0], "top_logprobs": top}]}))
    settings = EndpointSettings(base_url=server.url, model="small", retries=0)
    run = AlpacaRun(str(outputs), settings, OWN, sampling_at(0.0, 16), tmp_path / "out", data)
    done = run_alpaca_eval(run, False, lambda line: None)
    assert done.result is not None
    assert (done.result.n_total, done.result.n_unscored, done.unscored_reasons) == (3, 1, {"no reply": 1})
    written = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [row["output_2"] for row in written] == ["", "OUTPUT", "OUTPUT", None]
    (annotations,) = read_annotations(tmp_path / "out" / "annotations.json")
    assert annotations.length_differences is not None
    assert annotations.length_differences[:3].tolist() == [6, 0, 0]
    assert math.isnan(annotations.length_differences[3])
