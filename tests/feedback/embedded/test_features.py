"""Relations between a turn, its request and the reply, and the hashed words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.feedback.embedded.features import BUCKETS, RELATION, Batch, Turn, features


def related(text: str, reply: str = "", request: str = "") -> dict[str, float]:
    return dict(zip(RELATION, features([Turn(text, reply, request)]).relation[0].tolist(), strict=True))


def test_a_repeated_request_is_told_from_one_with_other_arguments():
    again = related("Sort pear, fig", "x", "sort pear, fig.")
    other = related("Sort pear, kiwi", "x", "Sort pear, fig")
    assert (again["same_as_request"], again["request_repeated"], again["other_arguments"]) == (1, 1, 0)
    assert (other["same_as_request"], other["other_arguments"], other["new_words"]) == (0, 1, pytest.approx(1 / 6))
    assert other["request_repeated"] == pytest.approx(2 / 3)


def test_numbers_are_compared_with_the_request():
    told = related("I said 5, not 7", "", "Write 5 words")
    assert (told["numbers_from_request"], told["new_numbers"]) == (0.5, 0.5)


def test_what_the_reply_did_is_seen():
    assert related("why?", "I'm sorry, I cannot help with that.")["reply_refuses"] == 1
    assert related("why?", "I apologize for the confusion.")["reply_apologises"] == 1
    assert related("No", "Do you like it?")["no_to_a_question"] == 1
    assert related("No", "It is red.")["no_to_a_statement"] == 1


def test_an_error_after_code_is_seen():
    told = related("NameError: name 'x' is not defined", "```python\nx()\n```")
    assert (told["turn_is_error"], told["error_after_code"]) == (1, 1)
    assert related("There was no mistake", "```x```")["turn_is_error"] == 0


def test_thanks_with_a_but():
    assert related("thanks but no")["thanks_but"] == 1
    assert related("thanks")["thanks_but"] == 0


def test_a_complaint_shows_by_its_kinds_of_words():
    told = related("But you forgot it again, that is wrong")
    assert (told["but_first"], told["addresses_a_fault"]) == (1, 1)
    assert (told["faults"], told["misses"], told["again"]) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert related("STOP DOING THIS")["shouts"] == 1


def of_turns(batch: Batch) -> np.ndarray:
    """The buckets of the turns' words; those of further texts come after them."""
    return batch.buckets[:, : len(batch.words.owners)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_a_turn_has_the_same_features_in_any_company(texts):
    turns = [Turn(text, text[::-1], text[1:]) for text in texts]
    batch = features(turns)
    assert not batch.buckets.size or (batch.buckets.min() >= 0 and batch.buckets.max() < BUCKETS)
    for i, turn in enumerate(turns):
        alone = features([turn])
        assert np.array_equal(batch.buckets[:, np.flatnonzero(batch.words.owners == i)], of_turns(alone))
        assert np.array_equal(batch.relation[i], alone.relation[0])


def test_a_part_of_a_batch_is_the_batch_of_the_part():
    turns = [Turn(text, "reply", "request") for text in ("one", "two two", "", "three, three", "four")]
    part, whole = features([turns[1], turns[2], turns[4]]), features(turns).only([1, 2, 4])
    assert np.array_equal(of_turns(part), whole.buckets)
    assert np.array_equal(part.words.counts, whole.words.counts)
    assert np.array_equal(part.words.owners, whole.words.owners)
    assert np.array_equal(part.relation, whole.relation)
