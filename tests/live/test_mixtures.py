"""Labels of several labellers: models that were not labelled alike are not compared."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from drift.errors import ConfigError, DataError
from drift.live.readout import read_live
from drift.live.replies import Labelling, _apart
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


def labelled(labeller: LabelSource, *users: tuple[int, int, int]) -> Labelling:
    """So many users, each with so many replies, of which so many are labelled by `labeller`."""
    sizes = [(replies, of_labeller) for count, replies, of_labeller in users for _ in range(count)]
    names = [f"u{number}" for number in range(len(sizes))]
    replies = Counter({name: size for name, (size, _) in zip(names, sizes, strict=True)})
    by = Counter({name: count for name, (_, count) in zip(names, sizes, strict=True) if count})
    return Labelling(replies, defaultdict(Counter, {labeller: by}))


@pytest.mark.parametrize(
    ("of_a", "of_b", "apart"),
    [
        ([(3, 1, 1), (997, 1, 0)], 40, False),  # .12 are expected, and none is there in (1000/1040)^3 = 89 %
        ([(1, 1, 1)], 40, False),  # the one label is a's in 1/41
        ([(60, 1, 1), (940, 1, 0)], 40, False),  # none in about .94^40 = 8 %
        ([(400, 1, 1), (600, 1, 0)], 40, True),  # none in about .6^40
        ([(2, 1, 1)], 40, False),  # both are a's in 1/861, more than 1/1000
        ([(3, 1, 1)], 40, True),  # all three are in 1/12341
        ([(1, 20, 20), (40, 1, 0)], 60, False),  # the one user is a's in 60/120: as many replies as b has
        ([(9, 4, 2)], 36, False),  # all nine users are a's in C(36, 9) / C(72, 9) = .0011
        ([(10, 4, 2)], 40, True),  # all ten are in C(40, 10) / C(80, 10) = .0005
    ],
)
def test_a_model_without_a_label_by_chance_was_labelled_alike(of_a, of_b, apart):
    used = {"a": labelled("judge", *of_a), "b": labelled("judge", (of_b, 1, 0))}
    assert _apart(used, "judge", 0.5) == (("a", "b") if apart else None)


def test_busy_users_of_the_other_model_may_all_be_without_a_label():
    """b has 3,000 replies, but of 30 users: ten labelled ones are all among a's 1,000 in about (1000/1030)^10."""
    used = {"a": labelled("judge", (10, 1, 1), (990, 1, 0)), "b": labelled("judge", (30, 100, 0))}
    assert _apart(used, "judge", 0.5) is None


@pytest.mark.parametrize(("of_a", "apart"), [([(60, 1, 1), (40, 1, 0)], True), ([(1, 60, 60), (40, 1, 0)], False)])
def test_thumbs_of_one_user_are_no_other_way_of_labelling(of_a, apart):
    """60 of 100 replies, by as many users or by one: as of 100^2 / (60^2 + 40) = 2.7 equally busy users."""
    used = {"a": labelled("rating", *of_a), "b": labelled("rating", (100, 1, 0))}
    assert _apart(used, "rating", 0.1) == (("a", "b") if apart else None)


def test_a_share_as_of_equally_busy_users():
    """3 of 8 replies of two users with four each: (2 x 3/8 + 1) / (2 + 2)."""
    share, variance = labelled("judge", (1, 4, 3), (1, 4, 0)).share("judge")
    assert share == pytest.approx(0.4375)
    assert variance == pytest.approx(0.4375 * 0.5625 / 4)


@pytest.mark.parametrize("user", ["ann", None])
def test_if_one_user_wrote_everything_the_chats_count(deployment: Deployment, user):
    for number in range(80):
        deployment.chat("ab"[number % 2], WEEK[number % 7], ["DSAT"], user=user)
    store = deployment.store()
    store.add_labels(replace(label, labeller="judge") for label in deployment.labels[::2])
    with pytest.raises(DataError, match="judge for 40 of 40 replies of a and 0 of 40 replies of b"):
        read_live(store)


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
