"""What users express is found, named and shown; what cannot be judged is left alone."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.errors import DataError
from drift.feedback.embedded.features import BUCKETS
from drift.feedback.embedded.labeller import LONGEST_EVIDENCE, EmbeddedLabeller, read_sentences
from drift.feedback.embedded.model import WEIGHTS, load_model, save_model
from drift.records import Conversation, Message

REQUEST, REPLY = "Sort these words: pear, apple, fig", "pear, apple, fig"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("No, that's wrong. Apple comes first.", "DSAT"),
        ("That is not in alphabetical order", "DSAT"),
        ("you missed one word", "DSAT"),
        ("I asked for alphabetical order, this is something else!", "DSAT"),
        ("Thanks, but this is still wrong", "DSAT"),
        ("You are useless", "DSAT"),
        ("Thanks, that's perfect!", "SAT"),
        ("thank you so much", "SAT"),
        ("Great job, exactly what I needed.", "SAT"),
        ("Now write it in French.", "NEUTRAL"),
        ("continue", "NEUTRAL"),
        ("What is the capital of Peru?", "NEUTRAL"),
        ("Sort these words: plum, kiwi, date", "NEUTRAL"),
        ("Find the errors in this sentence: he go home", "NEUTRAL"),
        ("42", "NEUTRAL"),
        ("Nein, das ist leider völlig falsch", "ABSTAIN"),
        ("No, eso no está bien, por favor hazlo otra vez", "ABSTAIN"),
        ("これは違います", "ABSTAIN"),
        ("Это неправильный ответ", "ABSTAIN"),
        ("", "ABSTAIN"),
        (" \n\t", "ABSTAIN"),
    ],
)
def test_a_turn_gets_the_verdict_a_reader_would_give(labeller, chat, text, verdict):
    (label,) = labeller.label([chat(REQUEST, REPLY, text)])
    assert (label.label, label.reply_index, label.user_index) == (verdict, 1, 2)


def test_why_it_abstains_is_said(labeller, chat):
    told = labeller.label([chat(REQUEST, REPLY, "これは違います"), chat(REQUEST, REPLY, "")])
    assert [(label.abstain_reason, label.p_dsat) for label in told] == [("language", None), ("empty", None)]


def test_a_pasted_error_counts_after_code_more_than_after_prose(labeller, chat):
    error = "Traceback (most recent call last):\n  File 'a.py', line 3\nTypeError: unsupported operand"
    code, prose = labeller.label(
        [
            chat("Write a function that adds", "```python\ndef add(a, b):\n    return a + b\n```", error),
            chat("Tell me about Rome", "Rome is the capital of Italy.", error),
        ]
    )
    assert code.label == "DSAT"
    assert code.p_dsat > prose.p_dsat


def test_the_same_words_again_are_a_complaint_and_other_arguments_are_none(labeller, chat):
    again, other = labeller.label(
        [
            chat("What is 31 plus 42?", "80", "What is 31 plus 42?"),
            chat("What is 31 plus 42?", "73", "What is 17 plus 25?"),
        ]
    )
    assert (again.label, again.subtype, other.label) == ("DSAT", "rephrase", "NEUTRAL")


def test_the_judged_reply_is_the_message_right_before(labeller):
    roles = (
        "assistant",
        "user",
        "system",
        "user",
        "assistant",
        "assistant",
        "user",
        "user",
        "assistant",
        "tool",
        "user",
    )
    messages = tuple(Message(role, "That is wrong.") for role in roles)
    labels = list(labeller.label([Conversation("c", "test", None, messages, "train")]))
    assert [(label.reply_index, label.user_index) for label in labels] == [(0, 1), (5, 6)]


@pytest.mark.parametrize(
    "complaint",
    [
        "That is wrong, you forgot a word!",
        'You did it wrong, it should end with "Bye for now.", you forgot it.',
        "Thanks, but this is still wrong (e.g. the last word. Again!) in your list.",
        "You missed something",
    ],
)
@pytest.mark.parametrize("before", ["I read the list on the train home. ", "The train was on time. " * 80])
def test_evidence_is_the_sentence_that_complains(labeller, chat, complaint, before):
    after = ". My sister lives in Rome." if complaint[-1].isalpha() else " My sister lives in Rome."
    (label,) = labeller.label([chat(REQUEST, REPLY, before + complaint + after)])
    assert (label.label, label.evidence) == ("DSAT", complaint + after[0].strip())


def test_only_sentences_that_the_labeller_reads_are_evidence_and_they_are_whole():
    first, last = "It begins with " + "many words " * 30, "And it ends with " + "more words " * 30
    text = f"{first}here. {'This is not read. ' * 300}{last}here."
    assert read_sentences(text) == [f"{first}here.", f"{last}here."]
    endless = "word " * 5000
    assert [len(part) <= LONGEST_EVIDENCE and set(part.split()) for part in read_sentences(endless)] == [{"word"}] * 2
    assert read_sentences("?!") == ["?!"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=6),
    st.sampled_from(["", "That's wrong! 😡 "]),
)
def test_evidence_is_verbatim_whatever_the_text(labeller, texts, opening):
    messages = [Message("user", "Hi"), Message("assistant", "Hello")]
    for text in texts:
        messages += [Message("user", opening + text), Message("assistant", text)]
    for label in labeller.label([Conversation("c", "test", None, tuple(messages), "train")]):
        assert label.evidence is None or label.evidence in messages[label.user_index].content
        assert (label.evidence is not None) == (label.subtype is not None) == (label.label in ("SAT", "DSAT"))


@given(st.text(min_size=1))
def test_sentences_are_verbatim_and_never_none(text):
    found = read_sentences(text)
    assert found
    assert all(sentence in text for sentence in found)


@pytest.mark.parametrize("text", ["a" * 100_000, "That is wrong. " * 7_000, "\x00" * 100_000, "İß😀 wrong " * 10_000])
def test_a_huge_message_is_judged_by_its_ends(labeller, chat, text):
    (label,) = labeller.label([chat(REQUEST, text, text)])
    assert label.evidence is None or label.evidence in text


def test_labels_do_not_depend_on_the_batch_or_the_run(labeller, chat):
    texts = ["That's wrong", "thanks!", "now in French", "nicht gut, das ist falsch", "You missed a word", "ok"]
    chats = [chat(REQUEST, REPLY, text, REPLY, texts[i % 5], name=str(i)) for i, text in enumerate(texts * 120)]
    together = list(labeller.label(chats))
    alone = [label for conversation in chats[:40] for label in EmbeddedLabeller().label([conversation])]
    assert together[: len(alone)] == alone
    assert together == list(labeller.label(iter(chats)))


def test_weights_of_other_features_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    with np.load(WEIGHTS) as file:
        arrays = {name: file[name] for name in file.files} | {"features": np.asarray("0")}
    np.savez(path, **arrays)
    with pytest.raises(
        DataError, match=r"weights.npz: fitted on features of version 0, this code .* drift.feedback.embedded.fit"
    ):
        load_model(path)


@pytest.mark.parametrize("content", [None, b"", b"no zip file"])
def test_missing_or_damaged_weights_name_the_remedy(tmp_path, content):
    path = tmp_path / "weights.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"python -m drift\.feedback\.embedded\.fit"):
        EmbeddedLabeller(path)


def test_saved_weights_load_as_they_were(tmp_path):
    model = load_model(WEIGHTS)
    save_model(tmp_path / "copy.npz", model)
    copy = load_model(tmp_path / "copy.npz")
    assert np.array_equal(copy.idf, model.idf)
    assert copy.idf.shape == (BUCKETS,)
    assert np.array_equal(copy.linear, model.linear)
    assert np.array_equal(copy.trees.leaves, model.trees.leaves)
    assert copy.subtype_names == model.subtype_names


def test_labelling_needs_no_torch():
    code = "import sys, drift.feedback.label as l; l.EmbeddedLabeller(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    [".", "!", ". . .", "?!", ".-- .-. --- -. --.", "\U0001f44e", "\U0001f621 \U0001f44d\U0001f3fd", "。", "\x00"],
)
@pytest.mark.parametrize("options", [{}, {"multilingual": True}])
def test_a_turn_without_words_says_nothing_that_the_labeller_can_read(text, options):
    """A lone dot was SAT with a probability of .91, and its reply one to learn from."""
    said = Message("user", "What is 7 x 8?"), Message("assistant", "56"), Message("user", text)
    (label,) = EmbeddedLabeller(**options).label([Conversation("c", "test", "c", said, "train")])
    assert (label.label, label.abstain_reason, label.p_sat) == ("ABSTAIN", "no words", None)
