"""English passes, other languages do not, and what has no language passes."""

import pytest

from drift.feedback.embedded.features import Turn, features
from drift.feedback.embedded.language import english


def is_english(text: str, request: str) -> bool:
    turns = [Turn(text, "Here it is.", request)]
    (passed,) = english(turns, features(turns))
    return passed


@pytest.mark.parametrize(
    "text",
    [
        "That is not what I asked for",
        "sort apple, banana, cherry",
        "Wrong order",
        "👍👍",
        "12, 7, 3",
        "for (let i = 0; i < n; i++) { console.log(x[i]); }",
        "The café in Zürich is nice, make it shorter",
        "nope",
    ],
)
def test_english_code_and_signs_pass(text):
    assert is_english(text, "Write a list of three fruits")


@pytest.mark.parametrize(
    "text",
    [
        "Das ist nicht richtig, bitte noch einmal",
        "Ce n'est pas ce que je voulais, merci de corriger",
        "No es correcto, por favor hazlo otra vez",
        "Non è quello che ho chiesto, grazie",
        "不对，请再试一次",
        "هذا غير صحيح",
        "Det är inte rätt, gör om det",
        "que",
    ],
)
def test_other_languages_do_not_pass(text):
    assert not is_english(text, "Write a list of three fruits")


def test_a_short_turn_is_read_with_the_request():
    assert is_english("Roma", "What is the capital of Italy?")
    assert not is_english("Roma", "Qual è la capitale d'Italia? Rispondi per favore in una parola sola.")
