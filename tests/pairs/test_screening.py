"""Pairs that DRIFT's assumption does not hold for are dropped by name."""

import pytest

from drift.config import RecipeSettings, ScorerSettings
from drift.pairs.screening import MAX_SIMILARITY, are_near_duplicates, screened
from drift.records import ChatMessage, Drop, PreferencePair, Reason
from drift.turns import is_refusal

LONG = " ".join(f"word{n}" for n in range(100))
CHINESE = "".join(chr(0x4E00 + n) for n in range(100))


def pair(chosen: str, rejected: str, name: str = "p", number: int = 0, margin: float | None = None) -> PreferencePair:
    said = ((ChatMessage("assistant", text),) for text in (chosen, rejected))
    ask = (ChatMessage("user", "hi"),)
    return PreferencePair(f"{name}{number}", name, "c", 1, "drift", 1, "x", ask, *said, margin=margin)


def fate(row: PreferencePair, **settings) -> Reason | None:
    (found,) = screened([row], RecipeSettings(**settings))
    return found.reason if isinstance(found, Drop) else None


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (LONG + " more", LONG, Reason.NEAR_DUPLICATE),  # 2 * 100 / 201 words are common
        (LONG + " a few words more than that", LONG, None),  # 200 / 206 = 0.971
        ("eagle garden moon tiger", "eagle moon garden tiger", None),  # short: every word may be the point
        (LONG.upper(), LONG, None),
        (CHINESE + "\u4e86", CHINESE, Reason.NEAR_DUPLICATE),  # its words stand without spaces
        ("I'm sorry, but I cannot help with that.", "Here you are.", Reason.CHOSEN_REFUSES),
        ("I'm sorry, but I cannot help with that.", "I can't assist with this.", None),
        ("Here you are.", "I can't assist with this.", None),
    ],
)
def test_the_replies_themselves(chosen, rejected, reason):
    assert fate(pair(chosen, rejected)) == reason


def test_near_duplicates_are_kept_where_the_limit_is_one():
    assert are_near_duplicates(LONG + " more", LONG, MAX_SIMILARITY)
    assert not are_near_duplicates(LONG + " more", LONG, 1.0)


@pytest.mark.parametrize(
    ("margin", "reason"),
    [(0.1, None), (0.0, Reason.CHOSEN_LOSES), (-1.0, Reason.CHOSEN_LOSES), (None, Reason.UNSCORED)],
)
def test_only_wins(margin, reason):
    assert fate(pair("a", "b", margin=margin), only_wins=True, scorer=ScorerSettings()) == reason
    assert fate(pair("a", "b", margin=margin)) is None


def test_of_each_prompts_samples_the_nearest_in_length_stays_and_the_others_are_counted():
    rows = [
        pair("x" * 90, "y" * 40, "p", 0),
        pair("x" * 45, "y" * 40, "p", 1),
        Drop("p/2", Reason.EMPTY_CHOSEN),
        pair("x" * 10, "y" * 40, "q", 0),
        pair("I can't help with that." + "x" * 17, "y" * 40, "q", 1),  # the nearest, but it refuses
    ]
    found = list(screened(rows, RecipeSettings(samples=3, match_length=True)))
    assert [row.pair_id for row in found if isinstance(row, PreferencePair)] == ["p1", "q0"]
    dropped = [row.reason for row in found if isinstance(row, Drop)]
    assert dropped == [Reason.OTHER_LENGTH, Reason.EMPTY_CHOSEN, Reason.CHOSEN_REFUSES]
    assert len(found) == len(rows)


def test_a_sample_that_was_dropped_does_not_part_its_prompts_other_samples():
    refusal = "I can't help with that."
    rows = [pair("x" * 90, "y" * 40), pair(refusal, "y" * 40, number=1), pair("x" * 45, "y" * 40, number=2)]
    found = list(screened(rows, RecipeSettings(samples=3, match_length=True)))
    assert [row.pair_id for row in found if isinstance(row, PreferencePair)] == ["p2"]
    assert [row.reason for row in found if isinstance(row, Drop)] == [Reason.OTHER_LENGTH, Reason.CHOSEN_REFUSES]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"only_wins": True}, "set recipe"),
        ({"match_length": True}, "recipe.samples of 2 or more"),
        (
            {"match_length": True, "name": "best_of", "samples": 2, "scorer": {"name": "self"}},
            "it needs recipe drift or random_turns or rlhi",
        ),
        ({"name": "random_turns", "scorer": {"name": "hindsight"}}, "recipe random_turns have none: set recipe.scorer"),
    ],
)
def test_what_cannot_work_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RecipeSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that request.", True),
        ("As an AI, I am not able to provide medical advice.", True),
        ("I apologise for the mistake. Here is the corrected list.", False),
        ("You cannot help everyone, as the saying goes.", False),
    ],
)
def test_refusals(text, refuses):
    assert is_refusal(text) is refuses


def test_a_win_has_to_be_as_likely_as_asked():
    """The sigmoid of .8 is .69, that of .9 is .71 (by hand)."""
    needed = {"scorer": ScorerSettings(name="feedback"), "only_wins": True, "win_probability": 0.7}
    assert fate(pair("yes", "no", margin=0.8), **needed) == Reason.CHOSEN_LOSES
    assert fate(pair("yes", "no", margin=0.9), **needed) is None
