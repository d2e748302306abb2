"""What only looks like a complaint is none, and a complaint beside it stays one."""

import pytest

from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.embedded.look_alikes import without_look_alikes

REQUEST, REPLY = "Write a short poem about the sea", "The sea is blue and wide, with waves that rise in tide."
REQUESTS = {
    "de": "Schreib mir bitte ein kurzes Gedicht über das Meer",
    "es": "Escribe un poema corto sobre el mar, por favor",
    "fr": "Écris un court poème sur la mer, s'il te plaît",
    "zh": "写一首关于大海的短诗",
    "ja": "海についての短い詩を書いてください",
    "ko": "바다에 대한 짧은 시를 써 주세요",
    "ru": "Напиши короткое стихотворение о море",
}


@pytest.fixture(scope="module")
def reader():
    return EmbeddedLabeller(multilingual=True)


def verdict(labeller, chat, text, request=REQUEST):
    (label,) = labeller.label([chat(request, REPLY, text)])
    return label.label


@pytest.mark.parametrize(
    "text",
    [
        "Not bad at all!",
        "It's not bad",
        "It isn’t bad.",
        "You were right, I was wrong",
        "Sorry, my mistake, you are right",
        "This works now, the error is gone",
        "Translate: 'No, that is wrong. You did not listen.'",
        'Now translate the sentence "This is terrible, you are useless" into German',
        "Write an angry complaint letter: 'Your product is terrible and doesn't work'",
    ],
)
def test_praise_by_negation_a_concession_and_a_quoted_complaint_are_no_complaints(labeller, chat, text):
    assert verdict(labeller, chat, text) != "DSAT"


@pytest.mark.parametrize(
    "text",
    [
        "Not bad, but you forgot the title.",
        "I was wrong to trust you",
        "I was wrong, this is worse than before",
        "The error is fixed but now I get another one",
        "Your answer is not bad, it's terrible",
        "It is not bad enough",
        "Translate it again, 'Hund' is wrong",
        "Write it like I said: 'no adjectives'",
        'Write "the end" at the end, you forgot it',
        "None of the errors are fixed.",
        "Not all the issues are fixed.",
        "Hardly any of the errors are fixed.",
        "Only one of the bugs is fixed.",
        "Are you sure the error is fixed?",
        "You assume the problem is gone.",
        "You keep telling me I am wrong.",
        "Why do you always say it's my fault?",
        "Nothing is wrong with it? Really? Look again.",
    ],
)
def test_a_complaint_beside_such_words_stays_one(labeller, chat, text):
    assert verdict(labeller, chat, text) == "DSAT"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Du hast recht, mein Fehler"), ("es", "no está mal"), ("fr", "Pas mal du tout"), ("zh", "不错"),
        ("zh", "你说得对，是我错了"), ("ja", "悪くない"), ("ru", "Ты прав, я ошибся"),
    ],
)  # fmt: skip
def test_so_are_those_of_other_languages(reader, chat, language, text):
    assert verdict(reader, chat, text, REQUESTS[language]) != "DSAT"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Nicht schlecht, aber du hast den Titel vergessen"), ("es", "no está mal, pero falta el título"),
        ("zh", "你弄错了"), ("zh", "不错，但是太长了"), ("ja", "悪くないけど、長すぎます"),
    ],
)  # fmt: skip
def test_other_languages_lose_no_complaint(reader, chat, language, text):
    assert verdict(reader, chat, text, REQUESTS[language]) == "DSAT"


def test_a_word_inside_another_one_is_no_concession():
    assert without_look_alikes("시제가 틀렸어") is None  # "the tense is wrong" ends like "I was wrong"
    assert without_look_alikes("给我弄错了") is None


def test_what_can_be_read_in_two_ways_takes_no_time():
    assert without_look_alikes("不错" + "对的" * 100 + "x") is None
