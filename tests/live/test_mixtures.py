"""Labels of several labellers: models that were not labelled alike are not compared."""

from collections import Counter
from dataclasses import replace

import pytest

from drift.errors import ConfigError, DataError
from drift.live.readout import read_live
from drift.live.replies import _apart
from drift.records import LabelSource
from drift.store import Store
from live_stores import Deployment, days

WEEK = days(1, 7)
CHATS = 700
"""Of each model; the first are those of a."""


def relabelled(deployment: Deployment, labeller: LabelSource, of_a: int, of_b: int) -> Store:
    """Two models with 40 % dissatisfied users each, of whom the embedded labeller finds half. `labeller` finds all, in
    so many chats of each model."""
    deployment.days("a", WEEK, 100, 20)
    deployment.days("b", WEEK, 100, 20)
    store = deployment.store()
    chosen = [
        replace(label, labeller=labeller, label="DSAT" if number % 100 < 40 else "SAT")
        for number, label in enumerate(deployment.labels)
        if number % CHATS * 37 % CHATS < (of_a if number < CHATS else of_b)
    ]
    store.add_labels(chosen)
    return store


@pytest.mark.parametrize(
    ("labeller", "of_a", "of_b"),
    [
        ("judge", 0, 700),
        ("judge", 1, 700),
        ("judge", 0, 20),
        ("rating", 0, 700),
        ("rating", 70, 350),
        ("source", 0, 20),
    ],
)
def test_models_that_were_not_labelled_alike_are_not_compared(deployment: Deployment, labeller, of_a, of_b):
    """They are equally good, and two labellers would make b look worse."""
    store = relabelled(deployment, labeller, of_a, of_b)
    parts = f"of the labeller {labeller} for {of_b} of 700 replies of b and {of_a} of 700 replies of a"
    with pytest.raises(DataError, match=rf"{parts}: .* --labeller embedded"):
        read_live(store)
    assert not read_live(store, labeller="embedded").is_worse


@pytest.mark.parametrize(
    ("labeller", "of_a", "of_b"), [("judge", 700, 700), ("judge", 140, 280), ("rating", 0, 20), ("rating", 70, 100)]
)
def test_a_cascade_and_some_thumbs_are_compared(deployment: Deployment, labeller, of_a, of_b):
    """A cascade's judge sees more of the model that looks worse; a few users of one model give a thumb."""
    readout = read_live(relabelled(deployment, labeller, of_a, of_b))
    assert readout.labellers[labeller] == of_a + of_b
    assert not readout.is_worse


def test_a_model_with_few_replies_is_no_other_way_of_labelling(deployment: Deployment):
    """Its two replies have a thumb by chance."""
    deployment.days("a", WEEK, 10, 2)
    deployment.days("b", WEEK[:1], 2, 0)
    store = deployment.store()
    store.add_labels(replace(label, labeller="rating", label="SAT") for label in deployment.labels[-2:])
    assert read_live(store).labellers == {"embedded": 70, "rating": 2}


@pytest.mark.parametrize(
    ("of_a", "of_b", "apart"),
    [
        ((3, 1000), (0, 40), False),  # .12 are expected, and none is there in (1000/1040)^3 = 89 %
        ((1, 1), (0, 40), False),  # the one label is a's in 1/41
        ((60, 1000), (0, 40), False),  # none in about .94^40 = 8 %
        ((400, 1000), (0, 40), True),  # none in about .6^40
        ((2, 2), (0, 40), False),  # both are a's in 1/861, more than 1/1000
        ((3, 3), (0, 40), True),  # all three are in 1/12341
    ],
)
def test_a_model_without_a_label_by_chance_was_labelled_alike(of_a, of_b, apart):
    used = {
        group: Counter({"judge": labelled, "embedded": replies - labelled})
        for group, (labelled, replies) in (("a", of_a), ("b", of_b))
    }
    assert _apart(used, "judge", 0.5) == (("a", "b") if apart else None)


def test_two_labellers_on_different_models_are_not_compared(deployment: Deployment):
    deployment.days("a", WEEK, 10, 2)
    deployment.days("b", WEEK, 10, 2)
    store = deployment.store()
    judged = [label for label in deployment.labels if label.conversation_id < "c00070"]
    store.add_labels(replace(label, labeller="judge") for label in judged)
    with pytest.raises(
        DataError, match=r"labeller judge for 70 of 70 replies of a and 0 of 70 replies of b.*--labeller embedded"
    ):
        read_live(store)
    assert read_live(store, labeller="embedded").labellers == {"embedded": 140}
    with pytest.raises(ConfigError, match="--labeller oracle: allowed: embedded, judge, rating, source"):
        read_live(store, labeller="oracle")
    with pytest.raises(DataError, match="holds no label by rating"):
        read_live(store, labeller="rating")
