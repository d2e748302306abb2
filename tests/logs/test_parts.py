"""Messages as lists of parts: blocks of one reply, parts of a type that nobody reads."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.logs.entries import messages_of
from drift.logs.ingest import ingest
from drift.store import Store
from drift.turns import needs_media

TEXT = {"type": "text", "text": "What animal is this?"}
CITED = [  # as Anthropic and Claude's export cut a sentence
    {"type": "text", "text": "The capital is "},
    {"type": "text", "text": "Paris", "citations": [{"cited_text": "Paris"}]},
    {"type": "text", "text": ", a city."},
]


def contents(role: str, content: Any) -> list[str]:
    return [message.content for message in messages_of([{"role": role, "content": content}])]


def test_a_reply_that_is_cut_where_it_cites_is_one_text():
    assert contents("assistant", CITED) == ["The capital is Paris, a city."]
    image, thought = {"type": "image"}, {"type": "thinking", "thinking": "hm"}
    assert contents("assistant", [*CITED, image, *CITED]) == ["The capital is Paris, a city.\n[image]\n" + (
        "The capital is Paris, a city.")]  # fmt: skip
    assert contents("assistant", [TEXT, thought, TEXT]) == [f"{TEXT['text']}\n{TEXT['text']}"]
    marked = [{"type": "text", "text": "<thi"}, {"type": "text", "text": "nk>hm</think>\n\n4"}]
    assert contents("assistant", marked) == ["4"]


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_parts_that_were_sent_are_texts_of_their_own(role):
    assert contents(role, [TEXT, {"type": "text", "text": "Be short."}]) == ["What animal is this?\nBe short."]


@pytest.mark.parametrize(
    ("part", "mark"),
    [
        ({"type": "media", "mime_type": "image/png", "data": "x"}, "[image]"),
        ({"type": "chart_widget", "spec": {}, "title": "t"}, "[file]"),
        ({"type": "canvas", "text": "def f(): pass"}, "[file]"),
        ({"file_id": "f"}, "[file]"),
    ],
)
@pytest.mark.parametrize("where", [0, 1])
def test_a_part_of_an_unknown_type_leaves_a_mark_and_is_counted(tmp_path: Path, part, mark, where):
    messages: list[dict[str, Any]] = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "A cat."}]
    messages[where]["content"] = [TEXT, part]
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({"messages": messages}))
    summary = ingest([log], store)
    assert (summary.unread, summary.media) == ({f"messages.content.{part.get('type')}": 1}, 1)
    (conversation,) = store.conversations()
    assert conversation.messages[where].content == f"What animal is this?\n{mark}"
    assert needs_media(conversation, 1)


@pytest.mark.parametrize("part", [{"type": "step-start"}, {"type": "cache_point", "id": "c"}, {"type": "text"}, 5])
def test_a_part_that_holds_nothing_leaves_nothing(tmp_path: Path, part):
    messages = [{"role": "user", "content": [TEXT, part]}, {"role": "assistant", "content": "A cat."}]
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({"messages": messages}))
    assert (ingest([log], store).unread, [m.content for c in store.conversations() for m in c.messages]) == (
        {}, ["What animal is this?", "A cat."],
    )  # fmt: skip
