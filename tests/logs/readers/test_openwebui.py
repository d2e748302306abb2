"""Open WebUI's trees: paths, growth, regenerations, feedback, and trees that are none."""

import csv
import json
import sqlite3
from pathlib import Path

import orjson
import pytest

from drift.feedback.label import label_store
from drift.logs import trees
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation, Rating, Reason
from drift.store import Store


def message(name, parent, role, content, children=(), **more) -> tuple[str, dict]:
    entry = {"id": name, "parentId": parent, "childrenIds": list(children), "role": role, "content": content, **more}
    return name, entry


def chat(*messages, current=None, name="c1") -> dict:
    history = {"messages": dict(messages), "currentId": current or messages[-1][0]}
    return {
        "id": name,
        "user_id": "u1",
        "title": "t",
        "created_at": 1714557600,
        "chat": {"models": ["m"], "history": history},
    }


def tree(current="a3") -> dict:
    """q1 -> a1 | a2; a2 -> q2 -> a3."""
    return chat(
        message("q1", None, "user", "joke", ["a1", "a2"], timestamp=1714557600),
        message("a1", "q1", "assistant", "bad joke", model="m1"),
        message("a2", "q1", "assistant", "good joke", ["q2"], model="m1", annotation={"rating": 1}),
        message("q2", "a2", "user", "haha", ["a3"]),
        message(
            "a3",
            "q2",
            "assistant",
            ":)",
            model="m2",
            annotation={"rating": -1, "reason": "Too short", "comment": "more"},
        ),
        current=current,
    )


def read(tmp_path: Path, rows: list) -> tuple[IngestSummary, list[Conversation]]:
    file = tmp_path / "log.json"
    file.write_bytes(orjson.dumps(rows))
    store = Store(tmp_path / "store")
    summary = ingest([file], store)
    assert summary.adds_up
    return summary, sorted(store.conversations(), key=lambda c: (-len(c.messages), c.messages[-1].content))


def test_each_path_is_a_conversation_and_siblings_are_regenerations(tmp_path):
    summary, (long, short) = read(tmp_path, [tree()])
    assert [m.content for m in long.messages] == ["joke", "good joke", "haha", ":)"]
    assert [m.content for m in short.messages] == ["joke", "bad joke"]
    assert long.ratings == (Rating(1, "thumb", 1.0), Rating(3, "thumb", -1.0, "Too short: more"))
    assert short.ratings == (Rating(1, "regeneration", -1.0),)
    assert (long.source_id, short.source_id) == ("c1/a2", "c1")
    assert long.split == short.split
    assert (long.model, short.model, long.started_at) == ("m2", "m1", "2024-05-01T10:00:00+00:00")
    assert [m.source_index for m in long.messages] == [0, 2, 3, 4]
    assert (summary.rows, summary.read, summary.formats) == (1, 2, {"openwebui": 1})


def test_a_reply_the_user_came_back_to_was_not_disliked(tmp_path):
    _, (_, short) = read(tmp_path, [tree(current="a1")])
    assert short.ratings == ()


def test_replies_of_several_models_asked_at_once_are_no_regenerations(tmp_path):
    row = tree()
    for place, name in enumerate(("a1", "a2")):
        row["chat"]["history"]["messages"][name]["modelIdx"] = place
    _, (_, short) = read(tmp_path, [row])
    assert short.ratings == ()


@pytest.mark.parametrize(
    ("models", "replied", "given_up"),
    [
        (["m1", "m2"], ["m1", "m2"], 0),
        (["m1", "m2"], ["m1", "m2", "m1"], 1),
        (["m1", "m1"], ["m1", "m1"], 0),
        (["m1"], ["m1", "m2"], 1),
        (None, ["m1", "m2"], 1),
    ],
)
def test_several_models_are_told_by_what_the_message_was_sent_to(tmp_path, models, replied, given_up):
    names = [f"a{number}" for number in range(len(replied))]
    question = message("q", None, "user", "hi", names, models=models)
    replies = [message(name, "q", "assistant", name, model=m) for name, m in zip(names, replied, strict=True)]
    _, found = read(tmp_path, [chat(question, *replies)])
    assert sum(len(c.ratings) for c in found) == given_up


def test_a_reply_the_user_went_on_with_was_not_disliked(tmp_path):
    row = chat(
        message("q1", None, "user", "a story", ["a1", "b1"]),
        message("a1", "q1", "assistant", "one", ["q2"]),
        message("q2", "a1", "user", "great, go on", ["a2"]),
        message("a2", "q2", "assistant", "more"),
        message("b1", "q1", "assistant", "two"),
    )
    _, found = read(tmp_path, [row])
    assert [c.ratings for c in found] == [(), ()]


def test_a_chat_that_grows_keeps_the_names_of_its_paths(tmp_path):
    read(tmp_path, [tree()])
    grown = tree(current="q3")
    messages = grown["chat"]["history"]["messages"]
    messages["a1"]["childrenIds"] = ["q3"]
    messages |= dict([message("q3", "a1", "user", "another")])
    summary, found = read(tmp_path, [grown])
    assert (summary.updated, summary.duplicate, summary.accepted) == (1, 1, 0)
    assert len(found) == 2


def feedback(rating, about="a3", **more) -> dict:
    data = {"rating": rating, "model_id": "m", "reason": "Not accurate", "comment": "", "sibling_model_ids": None}
    snapshot = {"chat": tree()}
    return {
        "id": "f", "user_id": "u1", "type": "rating", "data": data,
        "meta": {"chat_id": "c1", "message_id": about}, "snapshot": snapshot, **more,
    }  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the older export later"])
def test_a_user_who_goes_back_to_an_earlier_reply_takes_the_regeneration_back(tmp_path, order):
    first, second = (message(name, "q", "assistant", text) for name, text in (("a1", "It is 4."), ("a2", "Four.")))
    asked = message("q", None, "user", "2+2?", ["a1", "a2"])
    day_1 = chat(asked, first, second)
    first[1]["childrenIds"] = ["q2"]
    day_2 = chat(asked, first, second, message("q2", "a1", "user", "Perfect, thank you!"))
    for day in order:
        read(tmp_path, [(day_1, day_2)[day]])
        label_store(Store(tmp_path / "store"))
    labels = {label.reply_index: label.label for _, row in Store(tmp_path / "store").labelled() for label in row}
    assert labels == {1: "SAT"}
    assert [c.ratings for c in Store(tmp_path / "store").conversations()] == [(), ()]


def test_exported_feedback_brings_its_chat_along_and_joins_the_chat_itself(tmp_path):
    plain = tree()
    for entry in plain["chat"]["history"]["messages"].values():
        entry.pop("annotation", None)
    summary, (long, _) = read(tmp_path, [plain, feedback(-1)])
    assert long.ratings[-1] == Rating(3, "thumb", -1.0, "Not accurate")
    assert (summary.rows, summary.accepted, summary.updated, summary.duplicate) == (2, 2, 1, 1)


def test_feedback_is_read_as_its_table_has_it(tmp_path):
    """The database keeps objects as JSON text, in which a table exported as CSV has them too."""
    row = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in feedback(-1).items()}
    with sqlite3.connect(tmp_path / "webui.db") as connection:
        connection.execute(f"CREATE TABLE feedback ({', '.join(row)})")
        connection.execute(f"INSERT INTO feedback VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    with (tmp_path / "feedback.csv").open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, list(row))
        table.writeheader()
        table.writerow(row)
    for number, log in enumerate((f"sqlite:///{tmp_path}/webui.db?table=feedback", tmp_path / "feedback.csv")):
        store = Store(tmp_path / str(number))
        assert ingest([log], store).formats == {"openwebui": 1}
        ratings = [rating for chat in store.conversations() for rating in chat.ratings if rating.reply_index == 3]
        assert ratings == [Rating(3, "thumb", -1.0, "Not accurate")]


@pytest.mark.parametrize("row", [feedback(1, about="gone"), feedback(1, snapshot=None), feedback(1, meta={})])
def test_feedback_about_nothing_is_named(tmp_path, row):
    summary, _ = read(tmp_path, [row])
    assert summary.quarantined == {Reason.ORPHAN_FEEDBACK: 1}


def test_cycles_are_named_and_cost_only_themselves(tmp_path):
    row = chat(
        message("q", None, "user", "hi", ["a"]),
        message("a", "q", "assistant", "hello"),
        message("x", "y", "user", "round", ["y"]),
        message("y", "x", "assistant", "and round", ["x"]),
        message("self", "self", "user", "me"),
        current="x",
    )
    summary, (only,) = read(tmp_path, [row])
    assert [m.content for m in only.messages] == ["hi", "hello"]
    assert summary.quarantined == {Reason.CYCLIC_TREE: 1}
    assert (summary.rows, summary.read) == (1, 2)


def test_ten_thousand_turns_and_a_comb_of_regenerations(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "_MAX_MESSAGES", 20_000)
    line = [message("0", None, "user", "0", ["1"])]
    for number in range(1, 10_000):
        children = [str(number + 1)] if number < 9_999 else []
        line.append(
            message(str(number), str(number - 1), "user" if number % 2 == 0 else "assistant", str(number), children)
        )
    _, (only,) = read(tmp_path, [chat(*line)])
    assert len(only.messages) == 10_000
    comb = line + [message(f"b{n}", str(n - 1), "assistant", "b") for n in range(1, 10_000, 2)]
    summary, found = read(tmp_path, [chat(*comb, current="9999", name="c2")])
    assert summary.quarantined == {Reason.TOO_LARGE: 1}, "all paths together would be 25 million messages"
    assert len(found) > 30


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"history": {"messages": {}}}, Reason.NO_MESSAGES),
        ({"history": {"messages": {"a": "text"}}}, Reason.NOT_AN_OBJECT),
        ({"history": {"messages": dict([message("a", None, "alien", "x")])}}, Reason.UNKNOWN_ROLE),
        ({"history": {"messages": dict([message("a", None, "user", 7)])}}, Reason.BAD_CONTENT),
        ({"history": {"messages": dict([message("a", None, "assistant", "hi")])}}, Reason.NO_USER_TURN),
    ],
)
def test_chats_that_cannot_be_used_are_named(tmp_path, broken, reason):
    summary, _ = read(tmp_path, [{**tree(), "chat": broken}])
    assert summary.quarantined == {reason: 1}


def judged(reply: str = "moon eagle", **more) -> dict:
    question = message("q", None, "user", "Sort: moon eagle", ["a"])
    return chat(question, message("a", "q", "assistant", reply, model="m", **more))


def test_a_reply_that_the_user_edited_is_the_models_and_the_edit_corrects_it(tmp_path):
    edited = judged("eagle moon", originalContent="moon eagle", annotation={"rating": -1})
    summary, (only,) = read(tmp_path, [edited])
    assert only.messages[-1].content == "moon eagle"
    assert only.ratings == (Rating(1, "thumb", -1.0), Rating(1, "correction", -1.0, preferred="eagle moon"))
    assert not any("originalContent" in name for name in summary.unread)


@pytest.mark.parametrize("original", ["moon eagle", " moon eagle\n", "", None])
def test_without_a_change_nothing_was_corrected(tmp_path, original):
    _, (only,) = read(tmp_path, [judged(originalContent=original)])
    assert (only.messages[-1].content.strip(), only.ratings) == ("moon eagle", ())


def test_the_thoughts_of_an_edited_reply_are_no_part_of_the_correction(tmp_path):
    thought = '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> hm\n</details>\n'
    _, (only,) = read(tmp_path, [judged(thought + "eagle moon", originalContent=thought + "moon eagle")])
    assert (only.messages[-1].content, only.messages[-1].reasoning) == ("moon eagle", "hm")
    assert only.ratings == (Rating(1, "correction", -1.0, preferred="eagle moon"),)


def items(*texts: str) -> list[dict]:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    content = [{"type": "output_text", "text": text} for text in texts]
    return [thought, {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}]


def test_a_reply_in_items_is_read(tmp_path):
    summary, (only,) = read(tmp_path, [judged("", output=items("moon eagle"), annotation={"rating": -1})])
    reply = only.messages[-1]
    assert (reply.content, reply.reasoning, only.ratings) == ("moon eagle", "hm", (Rating(1, "thumb", -1.0),))
    assert not any("output" in name for name in summary.unread)


def test_items_beside_the_text_are_counted_as_unread(tmp_path):
    summary, (only,) = read(tmp_path, [judged("moon eagle", output=items("moon eagle"))])
    assert (only.messages[-1].content, summary.unread["messages.output"]) == ("moon eagle", 1)


@pytest.mark.parametrize("rating", [1, -1])
def test_the_thumb_of_the_first_versions_stands_on_the_message(tmp_path, rating):
    _, (only,) = read(tmp_path, [judged(rating=rating)])
    assert only.ratings == (Rating(1, "thumb", float(rating)),)
