"""Evidence begins and ends where a reader would say that a sentence does."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.feedback.sentences import sentence_spans, sentences

QUOTED = 'It should end with "Bye for now.", you forgot it.'


@pytest.mark.parametrize(
    "text",
    [  # one sentence each
        QUOTED,
        "It should end with “Bye for now.”, you forgot it.",
        "It should end with 'Bye for now.', you forgot it.",
        "It should end with «Bye for now.», you forgot it.",
        "It should end with `Bye for now.` and you forgot it.",
        '"Bye for now." is missing at the end!',
        'You wrote "Hello! Is it me?" instead of "Hi."',
        '"Really? That is all?" she asked.',
        "I asked for [a list. Of words.] (see above. Twice!), not this.",
        "You ignored the rules (e.g. the list (all of it. Really.) and so on).",
        "Use another fruit, e.g. Pears or i.e. Figs.",
        "Dr. Smith and Mrs. J. R. Jones vs. the U.S. government is the title.",
        "The fig. 3, No. 5 and p. 7 are missing, etc. and so on.",
        "It costs 3.50 and not 4.25.",
        "See https://example.com/?a=b.c for the file main.py!",
        "Hmm... that is wrong.",
        "That's the users' third request, don't ask again.",
        'A line "that breaks.\nHere" is one quotation.',
        "I said that at 5 p.m. yesterday.",
    ],
)
def test_one_sentence_stays_whole(text):
    assert sentences(text, 1000) == [text]
    assert sentences(f"Hello there. {text} Once more.", 1000)[1:-1] == [text]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("That is wrong. you forgot a word!", ["That is wrong.", "you forgot a word!"]),
        ('End with "Bye for now." You forgot it.', ['End with "Bye for now."', "You forgot it."]),
        ("(See above.) That is wrong.", ["(See above.)", "That is wrong."]),
        ("No :( You forgot it. Thanks :)", ["No :( You forgot it.", "Thanks :)"]),  # smileys are no brackets
        ('He said "stop. You forgot it. Why?', ['He said "stop.', "You forgot it.", "Why?"]),  # it never closes
        ("That's wrong. It's the users' list.", ["That's wrong.", "It's the users' list."]),
        ("You gave me 4. I asked for 5.", ["You gave me 4.", "I asked for 5."]),
        ("No. 5 is right? No. Pears!", ["No. 5 is right?", "No.", "Pears!"]),
        ("Not I. You!", ["Not I.", "You!"]),
        ("no\nI said JSON\n\n  Again: JSON", ["no", "I said JSON", "Again: JSON"]),
        ("1. Sort the words.", ["1. Sort the words."]),
        ("(a. this, b. that)", ["(a. this, b. that)"]),
        ("1. Sort.\n2. Count.", ["1. Sort.", "2. Count."]),
        ("Wait… No. Hmm... Wrong", ["Wait…", "No.", "Hmm...", "Wrong"]),
        ("**No.** You forgot *this.* Why?!", ["**No.**", "You forgot *this.*", "Why?!"]),
        ("It is 5 p.m. You are late.", ["It is 5 p.m.", "You are late."]),
        ("違います。もう一度！", ["違います。", "もう一度！"]),
        ('A 6" pipe. A 7" pipe.', ['A 6" pipe.', 'A 7" pipe.']),
        ("That is bad...Thanks anyway!Bye", ["That is bad...", "Thanks anyway!", "Bye"]),
        ("I saw Up (2009) ...I liked it", ["I saw Up (2009) ...", "I liked it"]),
        (
            "so...are you sure?x=1 Node.JS https://a.example/b?C=1",
            ["so...are you sure?x=1 Node.JS https://a.example/b?C=1"],
        ),
        ("... !!! ???", []),
        ("", []),
    ],
)
def test_a_border_is_found(text, parts):
    assert sentences(text, 1000) == parts


def test_a_long_sentence_is_cut_between_words():
    assert sentences("one two three four. five", 9) == ["one two", "three", "four.", "five"]
    assert sentences("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]


TEXTS = st.text(alphabet=st.sampled_from("ab I. .!?,;:\"'“”()[]{}`«»…。\n\t…Eg13*"), max_size=60) | st.text(max_size=60)


@given(TEXTS, st.integers(1, 20))
def test_every_letter_is_in_one_sentence(text, longest):
    spans = list(sentence_spans(text, longest))
    outside = text
    for start, end in reversed(spans):
        assert 0 < end - start <= longest
        assert text[start:end] == text[start:end].strip()
        outside = outside[:start] + outside[end:]
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    assert not any(map(str.isalnum, outside))


@pytest.mark.parametrize("part", ["(", "((a ", "'a ", '"a ', "[a(", "“", "```", ". ", "\n \n", "「", "a. "])
def test_no_text_takes_long(part):
    text, start = part * (100_000 // len(part)), time.process_time()
    sentences(text, 1000)
    assert time.process_time() - start < 5
