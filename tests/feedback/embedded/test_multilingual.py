"""Turns in twelve languages are labelled, English ones as before; what is in no known language is left alone."""

import json
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from drift.errors import DataError
from drift.feedback.embedded.book import read_sections
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.fit.multilingual import SECTIONS, examples_in
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.embedded.multilingual import LANGUAGES, WEIGHTS, foreign_features, load_foreign

GOLD = [json.loads(line) for line in Path("benchmarks/gold_languages.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def reader():
    return EmbeddedLabeller(multilingual=True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_gold_of_each_language_is_told_apart(language):
    rows = [row for row in GOLD if row["language"] == language]
    p_dsat = load_foreign().probabilities([Turn(row["text"], row["reply"], row["request"]) for row in rows])[:, 0]
    assert len(rows) == 40
    assert roc_auc_score([row["label"] == "DSAT" for row in rows], p_dsat) > 0.8


def test_the_phrase_books_do_not_hold_the_gold():
    gold = {row["text"] for row in GOLD} | {row["request"] for row in GOLD}
    written = {each.turn.text for language in LANGUAGES for each in examples_in(language)}
    shared = gold & written
    assert len(shared) <= 12, shared  # "continue" in a word or two cannot be avoided
    assert all(len(text) < 20 for text in shared)


@pytest.mark.parametrize(
    ("request_text", "text", "verdict"),
    [
        ("Schreibe einen Satz über Birnen.", "Nein, das ist leider völlig falsch", "DSAT"),
        ("Escribe una frase sobre las peras.", "Muchas gracias, está perfecto", "SAT"),
        ("写一句关于梨的话。", "这是错的，请重新写", "DSAT"),
        ("写一句关于梨的话。", "写一篇关于咖啡的文章", "NEUTRAL"),
        ("梨について一文を書いてください。", "ありがとうございます、完璧です", "SAT"),
        ("Write a sentence about pears.", "That's wrong, you forgot the pears", "DSAT"),  # as without the setting
        ("Write a sentence about pears.", "Now write it in French.", "NEUTRAL"),
        ("Skriv en mening om pærer.", "Dette er ikke det jeg spurte om i det hele tatt", "ABSTAIN"),  # Norwegian
        ("Schreibe einen Satz.", " \n", "ABSTAIN"),
    ],
)
def test_a_turn_gets_the_verdict_a_reader_would_give(reader, chat, request_text, text, verdict):
    (label,) = reader.label([chat(request_text, "...", text)])
    assert label.label == verdict
    assert (label.p_dsat is None) == (verdict == "ABSTAIN")


def test_the_evidence_is_the_sentence_that_complains_and_has_no_subtype(reader, chat):
    text = "这是错的，你忘了外滩！明天去北京。"
    (label,) = reader.label([chat("用三句话介绍上海。", "上海在海边。", text)])
    assert (label.label, label.evidence, label.subtype) == ("DSAT", "这是错的，你忘了外滩！", None)


def test_the_setting_changes_no_english_label(reader, labeller, chat):
    texts = ["That's wrong", "thanks!", "now in French", "You missed a word", "ok", "42", "", "Sort: moon, eagle"]
    chats = [chat("Sort these words: pear, apple", "apple, pear", text, name=str(i)) for i, text in enumerate(texts)]
    pairs = zip(labeller.label(chats), reader.label(chats), strict=True)
    assert all((a.label, a.p_dsat, a.p_sat, a.evidence) == (b.label, b.p_dsat, b.p_sat, b.evidence) for a, b in pairs)
    assert labeller.version != reader.version


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_phrase_book_is_whole(language):
    book = read_sections(f"languages/{language}.txt")
    assert {*SECTIONS, "request", "thing", "topic", "text", "n"} == {*book}
    rendered = [each.turn.text for each in examples_in(language)]
    assert not [text for text in rendered if "{" in text or "}" in text or not text.strip()]


def test_examples_are_the_same_again_and_features_do_not_depend_on_the_batch():
    first, again = (list(islice(examples_in("zh", 3), 50)) for _ in range(2))
    assert first == again
    turns = [each.turn for each in first]
    random.Random(1).shuffle(turns)
    together = foreign_features(turns).toarray()
    assert np.array_equal(together, np.concatenate([foreign_features([turn]).toarray() for turn in turns]))


@pytest.mark.parametrize("content", [None, b"no zip file"])
def test_missing_or_damaged_weights_name_the_remedy(tmp_path, content):
    path = tmp_path / "weights.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"python -m drift\.feedback\.embedded\.fit\.multilingual"):
        load_foreign(path)
    with np.load(WEIGHTS) as file:
        np.savez(path, **({name: file[name] for name in file.files} | {"features": np.asarray("0")}))
    with pytest.raises(DataError, match="version 0"):
        load_foreign(path)
