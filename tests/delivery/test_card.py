"""The model card claims no more than the report: who the users were, and no preference accuracy that says nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from drift.config import RECIPE_RULES
from drift.delivery.card import LESSONS, metadata, render_card
from drift.delivery.facts import CardFacts, read_facts_of
from drift.evaluation.results import Evaluation, PreferenceResult, UtilityResult, write_result
from drift.records import Counts
from drift.rundir import RunDir, load_run

REAL, SIMULATED = "on replies that the users in its chat logs disliked", "on replies that simulated users disliked"


def preference(accuracy: float, pairs: int, length: float) -> PreferenceResult:
    return PreferenceResult(
        accuracy=accuracy, accuracy_low=accuracy - 0.02, accuracy_high=1.0, margin=1.0, logps_chosen=-3.0, pairs=pairs,
        length_accuracy=length,
    )  # fmt: skip


UTILITY = (UtilityResult(temperature=1.0, mean=0.6, low=0.5, high=0.7, prompts=20, scores=(0.6,) * 20),)


def write_evaluation(out: Path, evaluation: Evaluation) -> Counts:
    write_result(out, evaluation)
    return {}


def keep(out: Path) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"kept")
    return {"iteration": 1}


def write_chats(out: Path) -> Counts:
    (out / "logs").mkdir(parents=True)
    (out / "logs/day-1.jsonl").write_text("{}\n")
    (out / "truth.jsonl").write_text("{}\n")
    return {}


def facts_of(folder: Path, evaluation: Evaluation, config: str = "", deployed: bool = False) -> CardFacts:
    recipe = "" if "recipe:" in config else "recipe: {name: drift}\n"
    with RunDir.open(folder, f"name: test\npolicy: {{model: org/base}}\n{recipe}{config}", 42) as run:
        if deployed:
            run.stage("deployment", write_chats)
        run.stage("base/evaluation.json", write_evaluation, evaluation)
        run.iteration(1).stage("evaluation.json", write_evaluation, evaluation)
        run.stage("policy", keep)
    return read_facts_of(load_run(folder))


def test_simulated_users_are_called_so(tmp_path):
    nothing, known = Evaluation(), Evaluation(utility=UTILITY)
    simulated = {
        "the world's truth is known": facts_of(tmp_path / "a", known),
        "a simulated deployment wrote the chats": facts_of(tmp_path / "b", nothing, deployed=True),
        "another run has its logs": facts_of(tmp_path / "c", nothing, f"logs: [{tmp_path}/b/deployment/logs]"),
    }
    for why, facts in simulated.items():
        card = render_card(facts, False, None)
        assert SIMULATED in card, why
        assert "**The users were simulated.**" in card
        assert "toy" not in card
        assert "simulated-users" in metadata(facts, False)["tags"]
    later = facts_of(tmp_path / "d", nothing, f"from: {tmp_path}/a")  # on chats of its own
    card = render_card(later, False, None)
    assert "**The users of an earlier generation were simulated.**" in card
    assert SIMULATED not in card
    assert "simulated-users" in metadata(later, False)["tags"]


def test_users_of_whom_no_simulation_is_known_are_those_of_the_logs(tmp_path):
    """Also if the base is one that ships with drift: it can learn from anyone's chats."""
    for folder, config in (("real", ""), ("toy", "policy: {model: embedded}\n")):
        (tmp_path / folder).mkdir()
        named = "name: test\nrecipe: {name: drift}\n"
        with RunDir.open(tmp_path / folder / "run", f"{named}logs: [{tmp_path}/chats.jsonl]\n{config}", 42) as run:
            run.stage("policy", keep)
        facts = read_facts_of(load_run(tmp_path / folder / "run"))
        card = render_card(facts, False, None)
        assert facts.is_toy is (folder == "toy")
        assert REAL in card
        assert "simulated users" not in card


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        (preference(1.0, 2, 0.5), "only 2 pairs are held out"),
        (preference(0.96, 50, 0.98), "length alone tells the fresh reply from the disliked one in 98 %"),
    ],
)
@pytest.mark.parametrize("utility", [(), UTILITY])
def test_a_preference_accuracy_that_says_nothing_is_not_quoted(tmp_path, measured, why, utility):
    facts = facts_of(tmp_path / "run", Evaluation(preference=measured, utility=utility))
    card = render_card(facts, False, None)
    assert card.count(f"says nothing here: {why}") == 1
    assert f"{measured.accuracy:.3f} [" not in card
    assert "preference accuracy on held-out complaints |" not in card
    assert ("| iteration 1 | 0.600 [0.500, 0.700], 20 requests, temperature 1 |" in card) is bool(utility)


def test_a_preference_accuracy_that_says_something_is_quoted(tmp_path):
    facts = facts_of(tmp_path / "run", Evaluation(preference=preference(0.9, 50, 0.6)))
    card = render_card(facts, False, None)
    assert "| iteration 1 | 0.900 [0.880, 1.000], 50 pairs | not known |" in card
    assert "not that users prefer the model.\n" in card
    assert "says nothing" not in card


@pytest.mark.parametrize("recipe", RECIPE_RULES)
def test_what_it_learned_from_is_that_of_its_recipe(tmp_path, recipe):
    card = render_card(facts_of(tmp_path / "run", Evaluation(), f"recipe: {{name: {recipe}}}\n"), False, None)
    uses = RECIPE_RULES[recipe]
    first, how = card.split("# test")[1][:300], card.split("## How it was trained")[1].split("##")[0]
    assert ("disliked" in first) is (uses.prompts in ("disliked", "judged"))
    assert (" liked" in first) is (uses.prompts in ("liked", "judged") or recipe == "logs")
    assert ("preference pair" in how) is uses.makes_pairs
    assert recipe in LESSONS


def test_a_loss_that_uses_one_side_says_so(tmp_path):
    for loss, expected in (("sft", True), ("dpo", False)):
        facts = facts_of(tmp_path / loss, Evaluation(), f"training: {{loss: {loss}}}\n")
        assert ("learns from the chosen side alone" in render_card(facts, False, None)) is expected


def test_what_came_before_the_iterations_is_named(tmp_path):
    kept = facts_of(tmp_path / "run", Evaluation())
    for facts, expected in (
        (
            replace(kept, pairs=(("liked start", 188), ("iteration 1", 160))),
            "1 iteration of training on replies that the",
        ),
        (
            replace(kept, kept=0, pairs=(("liked start", 188),)),
            "training that comes before the first iteration; no iter",
        ),
    ):
        card = render_card(facts, False, None)
        assert expected in card
        assert "it was trained on 188 liked replies, by supervised training.\n" in card
        assert ("The iterations that were not kept: recipe" in card) is (not facts.kept)
    card = render_card(replace(kept, kept=0, pairs=()), False, None)
    assert "base, unchanged: nothing that was trained was kept" in card
    assert "Before the first iteration" not in card
