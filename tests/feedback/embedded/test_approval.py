"""Thanks and praise are found whatever is asked for next; mockery, and thanks inside a complaint, are none."""

import pytest

from drift.feedback.embedded.approval import P_SAT, approval
from drift.feedback.embedded.labeller import EmbeddedLabeller

REQUEST, REPLY = "Write a note about pears", "Pears are sweet and grow on trees."


@pytest.fixture(scope="module")
def reader():
    return EmbeddedLabeller(phrases=True)


@pytest.mark.parametrize(
    ("text", "subtype", "rest"),
    [
        ("Great, thanks! Now do X", "gratitude", "Now do X"),
        ("Thank you so much for your help!", "gratitude", ""),
        ("Much obliged", None, None),
        ("That's exactly what I wanted.", "acceptance", ""),
        ("exactly what I had in mind, now make it shorter", "acceptance", "now make it shorter"),
        ("Yes, it works perfectly now. Can you add tests?", "acceptance", "Can you add tests?"),
        ("This one is brilliant", "praise", ""),
        ("wow, you are a genius :)", "praise", ""),
        ("My wife will love it!", "praise", ""),
        ("thansk a lot mate", "gratitude", ""),
        ("im delihgted", "praise", ""),
        ("Perfect.\nHere is the next text: pears.", "praise", "Here is the next text: pears."),
        ("Great, now translate it", None, None),  # one weak word before a comma is a way to begin
        ("Thanks, but it is still wrong", None, None),
        ("Thanks. But it is still wrong", None, None),
        ("Great, another wrong answer", None, None),
        ("Wonderful, it crashed.", None, None),
        ("Wonderful. It still crashes.", None, None),
        ("Is that great?", None, None),
        ("That's great?", None, None),
        ("Thank you letter for my teacher", None, None),
        ("thanks that fixed the problem, just does not show vlc", None, None),
        ("Fine", None, None),
        ("", None, None),
        ("...", None, None),
    ],
)
def test_the_opening_is_read_word_by_word(text, subtype, rest):
    found = approval(text)
    assert (found and (found.subtype, found.rest)) == (subtype and (subtype, rest))


@pytest.mark.parametrize(
    "text",
    ["Thanks for nothing!", "No good.", "Oh great", "Nice try", "Great job. Not.", "thanks a lot 🙄", "Perfect /s"],
)
def test_mockery_is_no_approval(reader, chat, text):
    (label,) = reader.label([chat(REQUEST, REPLY, text)])
    assert label.label != "SAT"


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("You nailed it.", "You nailed it."),  # the classifier hears a complaint
        ("Superb. Now the same about apples and plums, in two sentences", "Superb."),
        ("merci tahts it", "merci tahts it"),  # the classifier abstains: no English
    ],
)
def test_what_the_classifier_misses_is_found_with_its_evidence(reader, labeller, chat, text, evidence):
    (without,), (label,) = (each.label([chat(REQUEST, REPLY, text)]) for each in (labeller, reader))
    assert without.label != "SAT"
    assert (label.label, label.evidence, label.abstain_reason) == ("SAT", evidence, None)
    assert label.p_sat >= P_SAT
    assert label.p_dsat <= 1 - P_SAT


@pytest.mark.parametrize(
    "text",
    [
        "Thanks, but this is still wrong",
        "Great. You forgot half of it",
        "Thank you. That is not what I asked for",
        "No",
    ],
)
def test_thanks_inside_a_complaint_are_none(reader, chat, text):
    (label,) = reader.label([chat(REQUEST, REPLY, text)])
    assert label.label != "SAT"


def test_without_phrases_labels_and_version_are_those_of_the_classifier(reader, labeller, chat):
    texts = ["You nailed it.", "Superb. Now sort plums", "Thanks for nothing", "Bull's eye", "no, this is wrong", "ok"]
    chats = [chat(REQUEST, REPLY, text, name=str(i)) for i, text in enumerate(texts)]
    before, after = list(labeller.label(chats)), list(reader.label(chats))
    assert [label.label for label in before] != [label.label for label in after]
    assert before[-2:] != []
    assert [(label.p_dsat, label.p_sat) for label in before[-2:]] == [
        (other.p_dsat, other.p_sat) for other in after[-2:]
    ]
    assert labeller.version != reader.version


def test_a_long_ambiguous_opening_takes_no_time():
    found = approval("good " * 24)
    assert found is not None
    assert (found.subtype, found.rest) == ("praise", "")
    assert approval("so good and so good and " * 8 + "xyzzy") is None
