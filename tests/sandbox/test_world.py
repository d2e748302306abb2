import random

import pytest

from drift.records import ChatMessage
from drift.sandbox.corpus import dialogues
from drift.sandbox.skills import SKILLS
from drift.sandbox.world import CHATTER, REFUSALS, Task, TrueUtility, heldout_tasks, part_of, tasks, utility


@pytest.mark.parametrize("name", SKILLS)
def test_the_right_answer_is_worth_one_and_its_slips_less(name):
    source, rng = tasks(random.Random(name), "deployment"), random.Random(0)
    mine = [task for task in (next(source) for _ in range(1500)) if task.skill == name]
    assert len(mine) > 50
    assert all(utility(task, task.answer) == 1.0 for task in mine)
    slips = [utility(task, SKILLS[name].dominant(task.args, rng)) for task in mine]
    assert sum(slips) / len(slips) < 0.5  # now and then a list is in order already


@pytest.mark.parametrize(
    ("task", "reply", "worth"),
    [
        (Task("add", 0, (17, 25)), "42", 1.0),
        (Task("add", 0, (17, 25)), "43", 0.175),
        (Task("add", 0, (17, 25)), "32", 0.0),
        (Task("sort", 0, ("pear", "fig", "kite")), "fig kite pear", 1.0),
        (Task("sort", 0, ("pear", "fig", "kite")), "fig, kite, pear", 1.0),
        (Task("sort", 0, ("pear", "fig", "kite")), "fig pear kite", 0.35 / 3),
        (Task("upper", 0, ("red", "fox")), "RED fox", 0.175),
        (Task("json", 0, ("Ana", 31, "Elda")), '{"age": 31, "city": "Elda", "name": "Ana"}', 1.0),
        (Task("json", 0, ("Ana", 31, "Elda")), '{"name": "Ana", "age": "31", "city": "Elda"}', 0.35),
        (Task("exact_words", 0, (3, "rain")), "rain falls slowly", 1.0),
        (Task("exact_words", 0, (3, "rain")), "rain falls", 0.175),
        (Task("bullets", 0, (2, "fruits")), "- fig\n- pear", 1.0),
        (Task("bullets", 0, (2, "fruits")), "- fig\n- fig", 0.35),
        (Task("bullets", 0, (2, "fruits")), "fig, pear", 0.0),
        (Task("add", 0, (1, 1)), "", 0.0),
    ],
)
def test_utility_by_hand(task, reply, worth):
    assert utility(task, reply) == pytest.approx(worth)


def test_chatter_is_worse_than_a_refusal():
    task = Task("add", 0, (1, 1))
    assert {utility(task, text) for text in CHATTER} == {-0.35}
    assert {utility(task, text) for text in REFUSALS} == {0.0}


def test_heldout_requests_never_occur_in_pretraining_or_deployment():
    held = {task.request for part in ("validation", "test") for task in heldout_tasks(part, 500)}
    source = dialogues(random.Random(3))
    said = {line.text for _ in range(3000) for line in next(source) if line.role == "user"}
    assert not held & said
    deployed = tasks(random.Random(4), "deployment")
    assert not held & {next(deployed).request for _ in range(3000)}


def test_parts_are_disjoint_and_of_the_intended_size():
    source = tasks(random.Random(5), "validation")
    assert all(part_of(next(source)) == "validation" for _ in range(50))
    assert not {t.request for t in heldout_tasks("test", 500)} & {t.request for t in heldout_tasks("validation", 500)}


def test_the_truth_scores_by_request():
    task = heldout_tasks("test", 1)[0]
    truth = TrueUtility([task])
    assert truth.score((ChatMessage("user", task.request),), task.answer) == 1.0
