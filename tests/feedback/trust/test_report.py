"""`drift label --report`: the store's labels beside gold rows and reviews, as a page that shows text as text."""

import json

import pytest

from drift.errors import DataError
from drift.feedback.trust.page import as_html, as_markdown
from drift.feedback.trust.report import label_report, write_label_report
from drift.records import FeedbackLabel
from drift.store import Review, Reviews, Store

HOSTILE = "That's wrong <script>alert(1)</script> <img src=x onerror=alert(2)>"


@pytest.fixture
def store(tmp_path, chat) -> Store:
    made = Store(tmp_path / "store")
    made.add([
        chat("q", "a", HOSTILE, name="1"),
        chat("q", "<b>a</b>", "Thanks, perfect!", name="2"),
        chat("q", "a", "And now in French?", name="3"),
        chat("q", "a", "That is not what I asked for!", name="4"),
    ])  # fmt: skip
    said = {
        "1": ("DSAT", "wrong", 0.9),
        "2": ("SAT", "perfect", 0.1),
        "3": ("NEUTRAL", None, 0.2),
        "4": ("DSAT", "not", 0.8),
    }
    made.add_labels(
        FeedbackLabel(name, 1, 2, verdict, "embedded", "1", evidence=evidence, p_dsat=p)
        for name, (verdict, evidence, p) in said.items()
    )
    return made


def gold_file(folder, *rows):
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


GOLD = [
    {"source_id": "log-1", "message_index": 12, "label": "DSAT"},
    {"conversation_id": "log-2", "message_index": 12, "label": "SAT", "annotator_1": "SAT"},
    {"source_id": "log-3", "message_index": 12, "label": "DISPUTED"},
    {"source_id": "elsewhere", "message_index": 12, "label": "DSAT"},
    {"source_id": "log-4", "message_index": 10, "label": "NEUTRAL"},
]


def test_gold_and_reviews_are_compared_with_and_the_rest_is_counted(store, tmp_path):
    Reviews(store.path).add(Review("me", "4", 1, 2, "NEUTRAL"))
    Reviews(store.path).add(Review("me", "2", 1, 2, "DSAT", shown="of words that changed"))
    told = label_report(store, gold_file(tmp_path, *GOLD))
    assert told.labels == {"NEUTRAL": 2, "DSAT": 1, "SAT": 1}  # the review counts
    assert told.labellers == {"embedded": 3, "review": 1}
    assert told.compared["gold"].turns == 2
    assert told.compared["gold"].confusion["DSAT"] == {"DSAT": 1}
    assert told.compared["reviews"].confusion["NEUTRAL"] == {"DSAT": 1}  # what the labeller had said
    left_out = {"disputed": 1, "not_in_store": 1, "not_after_a_reply": 1, "not_labelled": 0}
    assert told.left_out == left_out | {"outdated_reviews": 1}
    (wrong,) = told.mistakes
    assert (wrong.conversation_id, wrong.truth) == ("4", "NEUTRAL")


def test_the_page_shows_text_as_text_with_its_evidence_marked_and_loads_nothing(store, tmp_path):
    page = as_html(label_report(store, gold_file(tmp_path, *GOLD)))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>a</b>" not in page
    assert "<mark>" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    text = as_markdown(label_report(store))
    assert "<script" not in text
    assert "Nobody has checked these labels yet" in text


def test_the_files_ending_chooses_the_form(store, tmp_path):
    write_label_report(store, tmp_path / "r.md")
    write_label_report(store, tmp_path / "new" / "r.html")
    assert (tmp_path / "r.md").read_text().startswith("# Labels of ")
    assert (tmp_path / "new" / "r.html").read_text().startswith("<!doctype html>")


def test_without_labels_or_gold_file(store, tmp_path, chat):
    empty = Store(tmp_path / "other")
    empty.add([chat("q", "a", "b")])
    with pytest.raises(DataError, match="holds no label yet"):
        label_report(empty)
    with pytest.raises(DataError, match="cannot be read"):
        label_report(store, tmp_path / "none.jsonl")
