"""What single judgements say by their name, their number and their word."""

import pytest

from drift.logs.files.rows import Place, Unusable
from drift.logs.traces.verdicts import judgement
from drift.records import Reason


@pytest.mark.parametrize(
    ("name", "value", "word", "kind", "said"),
    [
        ("user-feedback", 1, None, "thumb", 1.0),
        ("userFeedback", 0.5, None, "thumb", 0.5),
        ("userfeedback", True, None, "thumb", 1.0),
        ("THUMBS_UP", 1.0, None, "thumb", 1.0),
        ("likes", 1.0, None, "thumb", 1.0),
        ("likely_correct", 0.9, None, "score", 0.9),
        ("harmlessness", 0.9, None, "score", 0.9),
        ("Relevance", 0.0, None, "score", 0.0),
        ("thumbs_down", 1, None, "thumb", -1.0),
        ("thumbsDown", True, None, "thumb", -1.0),
        ("dislike", None, "yes", "thumb", -1.0),
        ("thumbs_up_down", 1, None, "thumb", 1.0),
        ("like/dislike", False, None, "thumb", -1.0),
        ("user_dislike", -1.0, None, "thumb", -1.0),
        ("toxicity", 0.9, "fail", "score", -1.0),
        ("hallucination", None, "passed", "score", 1.0),
    ],
)
def test_names_are_read_word_by_word(name, value, word, kind, said):
    found = judgement(Place(1), ["a"], name, value, word, None)
    assert (found.kind, found.value) == (kind, said)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("hallucination", 1.0, None),
        ("toxicity", 0.9, None),
        ("ToxicityScore", 0.05, None),
        ("likelihood_of_refund", 0.9, None),
        ("user_frustration", True, None),
        ("error-rate", 0, None),
        ("latency", 0.7, None),
        ("bias", None, "no"),
        ("jailbreak", None, "positive"),
        ("refusal", 0.2, "maybe"),
        ("dislike", 0, None),
        ("thumbs_down", None, "false"),
        ("quality", None, "maybe"),
    ],
)
def test_what_does_not_say_which_way_is_good_is_no_verdict(name, value, word):
    with pytest.raises(Unusable) as raised:
        judgement(Place(1), ["a"], name, value, word, None)
    assert raised.value.reason == Reason.NO_VERDICT


def test_a_score_in_a_persons_words_is_not_quoted():
    with pytest.raises(Unusable) as refusal:
        judgement(Place(1), [], "note", "write to ann@example.com", None, None)
    assert refusal.value.detail == "note is a text of 24 characters: neither a number nor a word for good or bad"
