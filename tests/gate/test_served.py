"""A gate of models behind servers: who is asked, whose answers are used again, and with which key."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drift.cli import app
from drift.endpoint.options import JudgePricing
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.gate.guards import GUARDS
from drift.gate.plan import GatePlan, GateSettings, plan_gate
from drift.gate.results import GateResult
from drift.gate.run import run_gate

SUMS = 40


def write_sums(path: Path, count: int) -> Path:
    rows = [{"prompt": f"What is {number} + 1?", "number": number + 1} for number in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    return write_sums(tmp_path / "sums.jsonl", SUMS)


@pytest.fixture
def right(serve, said):
    return serve(lambda path, body, number: said.chat(str(int(body["messages"][-1]["content"].split()[2]) + 1)))


@pytest.fixture
def wrong(serve, said):
    return serve(lambda path, body, number: said.chat("1000"))


def gate(out: Path, new: str, against: str, sums: Path, **more) -> GateResult:
    own = {"target": "none", "without": tuple(GUARDS), "suites": (str(sums),), "margins": {"sums": 0.2}}
    result = run_gate(GateSettings(new, against, out, **own, **more), None, False, lambda line: None)
    assert result is not None
    return result


def test_two_servers_that_give_their_models_the_same_name_are_both_asked(tmp_path, right, wrong, sums):
    result = gate(tmp_path / "out", f"{wrong.url}#m", f"{right.url}#m", sums)
    assert (len(right.chats()), len(wrong.chats())) == (SUMS, SUMS)
    assert (result.guards[0].old, result.guards[0].new, result.verdict) == (1.0, 0.0, "fail")


def test_after_a_verdict_the_same_command_measures_what_the_server_serves_now(tmp_path, serve, said, right, sums):
    """The address and the name stay, the model behind them is another one."""
    texts = {"new": "ok"}

    def deployed(path, body, number):
        question = int(body["messages"][-1]["content"].split()[2])
        return said.chat(str(question + 1) if texts["new"] == "ok" else "1000")

    server = serve(deployed)
    ask = (tmp_path / "out", f"{server.url}#m", f"{right.url}#m", sums)
    assert gate(*ask).verdict == "pass"
    texts["new"] = "broken"
    assert (gate(*ask).verdict, len(server.chats())) == ("fail", 2 * SUMS)


def test_an_interrupted_gate_asks_only_for_what_is_missing(tmp_path, serve, said, right, sums):
    """NEW's server stops after 25 answers; the same command goes on where it stopped."""
    down = {"is": True}

    def failing(path, body, number):
        if down["is"] and number >= 25:
            return said({"error": {"message": "the model m does not exist"}}, 404)
        return said.chat(str(int(body["messages"][-1]["content"].split()[2]) + 1))

    server = serve(failing)
    ask = (tmp_path / "out", f"{server.url}#m", f"{right.url}#m", sums)
    with pytest.raises(PrerequisiteError, match="does not exist"):
        gate(*ask)
    before, down["is"] = len(server.chats()), False
    assert gate(*ask).verdict == "pass"
    assert len(right.chats()) == SUMS
    assert len(server.chats()) - before < SUMS


def test_an_interrupted_gate_keeps_answers_also_beside_one_that_failed(tmp_path, serve, said, sums, monkeypatch):
    """OLD gives no answer to one request, then NEW's server stops: OLD's other answers are not asked again."""
    monkeypatch.setattr("drift.endpoint.client.pause_before", lambda attempt: 0.005 * attempt)
    stops = {"is": True}

    def garbled(path, body, number):
        question = int(body["messages"][-1]["content"].split()[2])
        return said("no JSON") if question == 0 and stops["is"] else said.chat(str(question + 1))

    def stopping(path, body, number):
        question = int(body["messages"][-1]["content"].split()[2])
        missing = {"error": {"message": "the model m does not exist"}}
        return said(missing, 404) if stops["is"] else said.chat(str(question + 1))

    old, new = serve(garbled), serve(stopping)
    ask = (tmp_path / "out", f"{new.url}#m", f"{old.url}#m", sums)
    with pytest.raises(PrerequisiteError, match="does not exist"):
        gate(*ask)
    before, stops["is"] = len(old.chats()), False
    assert (gate(*ask).verdict, len(old.chats()) - before) == ("pass", 1)


def test_what_a_server_left_open_is_asked_again_and_nothing_else(tmp_path, serve, said, right, sums):
    """A tenth of NEW's answers are refused once: undecided, and the same command needs only these."""
    refused = {"are": True}

    def failing(path, body, number):
        question = int(body["messages"][-1]["content"].split()[2])
        if refused["are"] and question % 10 == 0:
            return said({"error": {"message": "this prompt is refused"}}, 400)
        return said.chat(str(question + 1))

    server = serve(failing)
    ask = (tmp_path / "out", f"{server.url}#m", f"{right.url}#m", sums)
    assert gate(*ask).verdict == "undecided"
    before, refused["are"] = len(server.chats()), False
    assert gate(*ask).verdict == "pass"
    assert (len(right.chats()), len(server.chats()) - before) == (SUMS, SUMS // 10)


def test_after_a_verdict_with_a_refused_item_the_same_command_asks_again(tmp_path, serve, said, right, sums):
    """One item of 40 is refused every time, which may be missing; the verdict ends the gate all the same."""
    texts = {"new": "ok"}

    def deployed(path, body, number):
        question = int(body["messages"][-1]["content"].split()[2])
        if question == 0:
            return said({"error": {"message": "this prompt is refused"}}, 400)
        return said.chat(str(question + 1) if texts["new"] == "ok" else "1000")

    server = serve(deployed)
    ask = (tmp_path / "out", f"{server.url}#m", f"{right.url}#m", sums)
    assert gate(*ask).verdict == "pass"
    texts["new"] = "broken"
    assert (gate(*ask).verdict, len(right.chats())) == ("fail", 2 * SUMS)


def test_the_same_items_after_an_undecided_verdict_are_not_drawn_anew(tmp_path, serve, said, right, sums):
    """NEW answers otherwise each time it is asked: each time would be a chance to pass at the first look's rate."""

    def noisy(path, body, number):
        question = int(body["messages"][-1]["content"].split()[2])
        return said.chat(str(question + 1) if number > SUMS or question % 6 else "1000")

    server = serve(noisy)
    ask = (tmp_path / "out", f"{server.url}#m", f"{right.url}#m", sums)
    results = [gate(*ask, temperature=1.0) for _ in range(3)]
    assert [(result.verdict, result.look, result.guards[0].new) for result in results] == [("undecided", 1, 0.825)] * 3
    assert len(server.chats()) == SUMS


def test_another_pair_of_models_is_another_gate(tmp_path, right, serve, said, sums):
    """What a server answered in an undecided gate is asked again where it stands against another model."""
    model, other = f"{right.url}#m", serve(lambda path, body, number: said.chat("1000"))
    few = write_sums(sums, 10)
    assert gate(tmp_path / "out", model, model, few).verdict == "undecided"
    gate(tmp_path / "out", model, f"{other.url}#m", few)
    assert len(right.chats()) == 20


def test_more_items_after_an_undecided_verdict_ask_only_for_the_new_ones(tmp_path, right, sums):
    model = f"{right.url}#m"
    assert gate(tmp_path / "out", model, model, write_sums(sums, 10)).verdict == "undecided"
    result = gate(tmp_path / "out", model, model, write_sums(sums, 60))
    assert (result.look, result.interval) == (2, "99.5")
    assert len(right.chats()) == 60


def test_other_items_are_another_look_and_the_same_ones_are_not(tmp_path, right, sums):
    """A new seed and a changed suite give the gate another chance to pass, as more items do."""
    model, out = f"{right.url}#m", tmp_path / "out"
    looks = [gate(out, model, model, sums, seed=seed) for seed in (0, 1, 0)]
    looks.append(gate(out, model, model, write_sums(sums, SUMS - 1)))
    assert [result.look for result in looks] == [1, 2, 1, 3]
    assert [result.interval for result in looks] == ["96", "99.5", "96", "99.75"]


def test_the_models_key_is_not_the_judges(tmp_path, serve, said, sums, monkeypatch):
    """Without a judge, --api-key-env is for the models; beside one, --model-api-key-env is."""
    monkeypatch.setenv("MODEL_KEY", "key-of-the-models")
    server = serve(lambda path, body, number: said.chat("1"))
    model = f"{server.url}#m"
    gate(tmp_path / "out", model, model, sums, model_key_env="MODEL_KEY")
    sent = {name.lower(): value for _, _, headers in server.requests for name, value in headers.items()}
    assert sent["authorization"] == "Bearer key-of-the-models"
    beside = GateSettings(model, model, tmp_path, judge="http://127.0.0.1:1/v1#j", model_key_env="MODEL_KEY")
    assert beside.side_pricing.api_key_env == "MODEL_KEY"
    assert beside.pricing.api_key_env is None


def test_what_has_no_limit_says_so_before_it_is_asked(tmp_path):
    """Beside a judge the prices and --max-cost are the judge's; inspect-ai asks by itself."""
    model, pricing = "http://127.0.0.1:1/v1#m", JudgePricing(None, 1.0, 1.0, 5.0)
    plan = GatePlan(("inspect_evals/ifeval",), {}, (), (), None, None, None)
    for judge in (None, "http://127.0.0.1:1/v1#j"):
        lines = plan.lines(GateSettings(model, model, tmp_path, judge=judge, pricing=pricing))
        (of_model,) = (line for line in lines if line.startswith(model))
        assert of_model.endswith("not limited: prices and --max-cost are the judge's") == bool(judge)
        assert ("cost about 0.00" in of_model) == (judge is None)
        assert lines[-1].endswith("by inspect-ai, not limited by --max-cost")


def test_a_feedback_reward_cannot_start_from_a_server(tmp_path):
    asked = GateSettings("embedded", "http://127.0.0.1:1/v1#m", tmp_path, without=("perplexity", "kl"))
    with pytest.raises(ConfigError, match="and --target feedback learns from them"):
        plan_gate(asked, None)


def test_a_file_is_no_folder(tmp_path, sums, wrong):
    file = tmp_path / "file"
    file.write_text("here")
    model = f"{wrong.url}#m"
    with pytest.raises(DataError, match=r"is a file, but a gate needs a folder\. Choose another with --out DIR"):
        gate(file, model, model, sums)
    given = ["eval", "wildbench", model, "--judge", model, "--data", str(sums), "--out", str(file)]
    result = CliRunner().invoke(app, given)
    assert isinstance(result.exception, DataError)
    assert "is a file, but an evaluation needs a folder" in str(result.exception)
