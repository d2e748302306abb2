"""`drift gate` from end to end: real small policies, real servers, exit codes, resuming, and bad input."""

import json
import math
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from drift.cli import app
from drift.errors import ConfigError, DataError, DriftError, PrerequisiteError
from drift.gate.guards import GUARDS
from drift.gate.plan import GateSettings, plan_gate
from drift.gate.results import read_gate
from drift.gate.run import run_gate
from drift.records import Conversation, FeedbackLabel, Message
from drift.store import Store

NO_STORE = ("perplexity", "kl")
FORM = ("form", "length", "lists")


def all_but(*names: str) -> tuple[str, ...]:
    return tuple(name for name in GUARDS if name not in names)


def flags(names: tuple[str, ...]) -> list[str]:
    return [flag for name in names for flag in ("--without", name)]


def right_answer(body: dict) -> str:
    """A server that can do sums: it reads "What is A + B?"."""
    question = body["messages"][-1]["content"]
    words = question.replace("?", "").split()
    if "+" in words:
        place = words.index("+")
        return str(int(words[place - 1]) + int(words[place + 1]))
    return "I do not know."


@pytest.fixture
def sums_only(tmp_path: Path) -> Path:
    suite = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"What is {a} + {b}?", "number": a + b} for a in range(12) for b in range(8)]
    suite.write_text("\n".join(map(json.dumps, rows)))
    return suite


def settings(out: Path, new: str, against: str, **more) -> GateSettings:
    return GateSettings(**{"new": new, "against": against, "out": out, "target": "none", "without": all_but(), **more})


def test_two_servers_one_of_which_forgot_its_sums(tmp_path, serve, said, sums_only):
    """Equal servers pass; one that answers with other numbers fails by that suite."""
    good = serve(lambda path, body, number: said.chat(right_answer(body)))
    bad = serve(lambda path, body, number: said.chat("1000"))
    told: list[str] = []
    one, other = f"{good.url}#good", f"{bad.url}#bad"
    equal = run_gate(settings(tmp_path / "equal", one, one, suites=(str(sums_only),)), None, False, told.append)
    assert equal is not None
    assert (equal.verdict, equal.exit_code, equal.guards[0].old) == ("pass", 0, 1.0)
    assert told[2].startswith("each model: at most 96 answers with 49,152 tokens")
    worse = settings(tmp_path / "worse", other, one, suites=(str(sums_only),))
    result = run_gate(worse, None, False, told.append)
    assert result is not None
    assert (result.verdict, result.exit_code) == ("fail", 3)
    assert result.why[0].startswith("sums: change -")
    assert result.guards[0].problems == {"wrong number": (0, 96)}
    page = (tmp_path / "worse" / "report.html").read_text()
    assert "Fail: the new model should not go out" in page
    assert "What is" in page
    again = run_gate(worse, None, False, told.append)
    assert again is not None
    assert again.model_copy(update={"seconds": 0}) == result.model_copy(update={"seconds": 0})


def test_a_dry_run_tells_the_cost_and_asks_nothing(tmp_path, serve, said):
    server = serve(lambda path, body, number: said.chat("42"))
    told: list[str] = []
    model = f"{server.url}#m"
    outcome = run_gate(settings(tmp_path / "out", model, model, without=NO_STORE), None, True, told.append)
    assert outcome is None
    assert server.chats() == []
    assert told[0] == "guards: instructions, arithmetic, tools, over_refusal, refusal, sycophancy, form, length, lists"
    assert told[2].startswith("each model: at most 1,400 answers with 153,600 tokens")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_as_json_is_one_object(tmp_path, tiny_policy):
    given = ["gate", str(tiny_policy), "--against", str(tiny_policy), "--target", "none", "--dry-run", "--json"]
    result = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out[1]"), *flags(all_but("arithmetic"))])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert (printed["dry_run"], printed["would_ask"][:2]) == (True, ["guards: arithmetic", "target: none"])
    assert "out[1]" in result.stderr


def test_the_cost_of_a_server_is_told_and_limited(tmp_path):
    """20 sums of at most 48 tokens each at 10 per million: 960 tokens written and what is read at 1 per million."""
    from drift.endpoint.options import JudgePricing

    asked = {"without": all_but("arithmetic"), "items": 20}
    priced = JudgePricing(price_input=1.0, price_output=10.0, max_cost=1.0)
    server = "http://127.0.0.1:1/v1#m"
    plan = plan_gate(settings(tmp_path, server, "embedded", pricing=priced, **asked), None)
    estimate = plan.estimate(server, settings(tmp_path, server, "embedded", pricing=priced, **asked))
    assert (estimate.questions, estimate.output_tokens) == (20, 960)
    assert estimate.cost == pytest.approx((estimate.input_tokens + 10 * 960) / 1e6)
    dear = JudgePricing(price_input=1.0, price_output=1e6, max_cost=1.0)
    with pytest.raises(ConfigError, match=r"the answers could cost 960\.00, more than --max-cost 1"):
        plan_gate(settings(tmp_path, server, "embedded", pricing=dear, **asked), None)


def test_small_policies_of_equal_weights(tmp_path, tiny_policy):
    """A random policy is right about nothing, so every guard of answers is blind, which is no pass."""
    given = ["gate", str(tiny_policy), "--against", str(tiny_policy), "--target", "none", "--items", "20", "--json"]
    result = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out"), *flags(all_but("arithmetic"))])
    assert result.exit_code == 4
    printed = json.loads(result.stdout.splitlines()[-1])
    assert printed["verdict"] == "undecided"
    assert printed["why"] == ["arithmetic: OLD gets 1 of 20 right: this guard cannot see a loss"]  # a digit by chance
    assert printed["left_out"] == [*all_but("arithmetic"), "target"]
    assert printed["seen_in_training"] is None
    assert Path(printed["report"]).is_file()
    assert "are the same model" in result.stderr


def test_a_missing_model_is_named_before_what_it_lacks(tmp_path, tiny_policy):
    """Not "name a store": that would send the user the wrong way, and a dry run would find nothing wrong."""
    for new, old in ((tmp_path / "gone", tiny_policy), (tiny_policy, tmp_path / "gone")):
        with pytest.raises(PrerequisiteError, match="gone"):
            run_gate(settings(tmp_path / "out", str(new), str(old), without=()), None, True, print)


def test_more_items_after_a_verdict_are_a_second_look(tmp_path, serve, said):
    server = serve(lambda path, body, number: said.chat(right_answer(body)))
    model = f"{server.url}#m"

    def look(items: int) -> tuple[int, float]:
        chosen = settings(tmp_path / "out", model, model, without=all_but("arithmetic"), items=items)
        result = run_gate(chosen, None, False, lambda line: None)
        assert result is not None
        return result.look, round(result.confidence, 4)

    assert [look(20), look(40), look(40), look(20)] == [(1, 0.96), (2, 0.995), (2, 0.995), (1, 0.96)]


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"without": ("arithmetik",)}, ConfigError, "--without arithmetik: no such guard. Allowed: instructions"),
        ({"margins": {"kl": 0.0}}, ConfigError, "--margin kl=0: a margin is above 0"),
        ({"margins": {"length": math.inf}}, ConfigError, "--margin length=inf: a margin is above 0 and finite"),
        ({"margins": {"kl": math.nan}}, ConfigError, "--margin kl=nan: a margin is above 0 and finite"),
        ({"target": "users"}, ConfigError, "--target users: allowed: feedback, oracle, none"),
        ({"items": 5}, ConfigError, "--items 5: at least 20"),
        ({"without": ("form",)}, ConfigError, "length is measured on the answers to form: add --without length"),
        ({"without": ()}, ConfigError, "perplexity and kl need conversations: name a store with --store DIR"),
        ({"without": NO_STORE, "target": "feedback"}, ConfigError, "--target feedback learns from a store's labels"),
        ({"without": NO_STORE, "target": "oracle"}, ConfigError, "--target oracle: only the sandbox has a truth"),
        ({"without": all_but("arithmetic"), "suites": ("none.jsonl",)}, DataError, "none.jsonl: cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_one_error_before_anything_is_asked(tmp_path, more, kind, message):
    with pytest.raises(kind, match=message):
        plan_gate(settings(tmp_path, "embedded", "embedded-2", **more), None)


def test_a_server_has_no_weights(tmp_path):
    with pytest.raises(ConfigError, match="which perplexity need: add --without perplexity"):
        plan_gate(settings(tmp_path, "http://127.0.0.1:1/v1#m", "embedded", without=("kl",)), None)


@pytest.mark.parametrize("source", ["logs", "replies.jsonl"])
def test_replies_are_no_models(tmp_path, source):
    with pytest.raises(ConfigError, match="needs models and not replies"):
        run_gate(settings(tmp_path / "o", source, "embedded", without=all_but("arithmetic")), None, False, print)


def test_a_missing_model_is_one_error(tmp_path):
    chosen = settings(tmp_path / "o", str(tmp_path / "no"), str(tmp_path / "no"), without=all_but("arithmetic"))
    with pytest.raises(PrerequisiteError, match="no such folder"):
        run_gate(chosen, None, False, lambda line: None)


def test_a_store_that_cannot_judge_is_said_before_anybody_is_asked(tmp_path, serve, said):
    """The way out is the gate's own: a run's settings do not help here."""
    server = serve(lambda path, body, number: said.chat("4"))
    store = Store(tmp_path / "store")
    talk = (Message("user", "2 + 2?"), Message("assistant", "5"), Message("user", "That is wrong."))
    store.add([Conversation(f"c{i}", "test", f"c{i}", talk, "test") for i in range(20)])
    store.add_labels(FeedbackLabel(f"c{i}", 1, 2, "DSAT", "judge", "1", p_dsat=0.9) for i in range(20))
    chosen = settings(
        tmp_path / "o",
        f"{server.url}#m",
        "embedded",
        without=all_but("arithmetic"),
        store=store.path,
        target="feedback",
    )
    with pytest.raises(DataError, match=r"--target feedback: .*too few judged replies.*--target none\.$"):
        run_gate(chosen, None, False, lambda line: None)
    assert not server.chats()


def test_missing_answers_do_not_pass(tmp_path, serve, said, sums_only):
    """OLD answers everything; NEW's server refuses a tenth of the requests, and is right otherwise."""
    good = serve(lambda path, body, number: said.chat(right_answer(body)))

    def refusing(path, body, number):
        return said({"error": "no"}, 400) if "+ 3" in body["messages"][-1]["content"] else said.chat(right_answer(body))

    bad = serve(refusing)
    chosen = settings(tmp_path / "o", f"{bad.url}#bad", f"{good.url}#good", suites=(str(sums_only),))
    result = run_gate(chosen, None, False, lambda line: None)
    assert result is not None
    assert result.verdict == "undecided"
    assert result.guards[0].skipped == {"no answer": 12}
    assert result.why[0].endswith(
        "12 of 96 items could not be compared (no answer); the same command asks for them again"
    )


def test_nothing_to_measure_is_an_error(tmp_path):
    with pytest.raises(DriftError, match="nothing to measure"):
        run_gate(
            settings(tmp_path / "o", "embedded", "embedded", without=tuple(GUARDS)), None, False, lambda line: None
        )


def test_a_margin_on_the_command_line_is_a_number():
    result = CliRunner().invoke(app, ["gate", "a", "--against", "b", "--margin", "arithmetic=low"])
    assert isinstance(result.exception, ConfigError)
    assert "--margin arithmetic=low: expected NAME=NUMBER" in str(result.exception)


def test_the_command_is_there():
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert "gate" in names
    assert isinstance(app, typer.Typer)


def test_gate_json_holds_the_result(tmp_path, serve, said):
    server = serve(lambda path, body, number: said.chat("42"))
    model = f"{server.url}#m"
    chosen = settings(tmp_path / "out", model, model, without=all_but(*FORM), items=20)
    result = run_gate(chosen, None, False, lambda line: None)
    assert read_gate(tmp_path / "out" / "gate.json") == result
    assert result is not None
    assert [guard.name for guard in result.guards] == list(FORM)
    assert result.guards[1].change == 0.0
