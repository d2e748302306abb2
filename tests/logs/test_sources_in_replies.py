"""Marks of sources that applications leave in replies: fresh replies have none, so they are taken out and counted."""

import orjson
import pytest

from drift.logs.draft import ConversationDraft, finish
from drift.logs.files.rows import Place
from drift.logs.ingest import ingest
from drift.records import Message
from drift.store import Store


def mark(kind: str, *fields: str) -> str:
    """A mark of ChatGPT: its parts stand between private characters."""
    return "\ue200" + "".join((kind, *("\ue202" + field for field in fields))) + "\ue201"


CITE = mark("cite", "turn0search0", "turn0news1")
PLAIN = "a[1] [^1] 【强调】 † <cite>Emma</cite> excited \ue203"
CASES = {
    "chatgpt, and OpenAI's file search": (f"Spain won {CITE} in 2024 【3†source】.", "Spain won in 2024."),
    "several at the end of a line": (f"1.{CITE}{mark('filecite', 'turn0file0', 'L1-L3')}\n\n2. {CITE}", "1.\n\n2."),
    "pictures before the text": (mark("image_group", "{}") + "\nHello.", "Hello."),
    "a name that is shown": ("In " + mark("entity", '["city","Oslo","capital"]') + ", it rains.", "In Oslo, it rains."),
    "a link that is shown": ("See " + mark("url", "the page", "turn0search1") + ".", "See the page."),
    "a reply that was cut inside a mark": ("It rains. \ue200cite\ue202turn0sea", "It rains."),
    "a mark that is not closed": ("It rains \ue200cite\ue202turn0search0 today.\n\nBye.", "It rains today.\n\nBye."),
    "marks that are not closed": ("A \ue200cite\ue202a\ue202b c \ue200cite", "A c"),
    "highlighted words": ("The \ue203cat sat\ue204 \ue202turn0search0 here.", "The cat sat here."),
    "librechat, spelt out": (r"The cat sat \ue202turn0search0\ue202turn1news2.", "The cat sat."),
    "older chatgpt": ("Hi:contentReference[oaicite:0]{index=0} there", "Hi there"),
    "gemini": ("* [cite_start]**Why:** It is so [cite: 5, 88-91].", "* **Why:** It is so."),
    "claude": ('Now <cite index="0-1,2-3">the grass is green</cite>.', "Now the grass is green."),
    "claude, with its prefix": (f'<{"antml"}:cite index="1-1">Green</{"antml"}:cite> grass', "Green grass"),
    "bing": ("It is so[^1^][1]. And so [^2^] too.", "It is so. And so too."),
    "no marks": (PLAIN, PLAIN),
}  # fmt: skip


def ingested(folder, *rows):
    log = folder / "chats.jsonl"
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    store = Store(folder / "store")
    return ingest([log], store), list(store.conversations())


@pytest.mark.parametrize(("reply", "plain"), CASES.values(), ids=CASES.keys())
def test_a_reply_has_no_marks_of_sources_and_they_are_counted(tmp_path, reply, plain):
    turns = [("user", f"What is {reply}"), ("assistant", reply), ("user", "No, that is wrong.")]
    summary, (chat,) = ingested(tmp_path, {"messages": [{"role": role, "content": text} for role, text in turns]})
    assert [m.content for m in chat.messages] == [f"What is {reply}", plain, "No, that is wrong."]
    assert summary.repaired == ({} if reply == plain else {"sources_removed": 1})


def test_both_sides_of_a_pair_lose_their_marks(tmp_path):
    row = {"prompt": "Who won?", "chosen": f"Spain {CITE} won.", "rejected": f"Italy won {CITE}."}
    summary, (chat,) = ingested(tmp_path, row)
    assert chat.messages[-1].content == "Italy won."
    assert [rating.preferred for rating in chat.ratings if rating.preferred] == ["Spain won."]
    assert summary.repaired == {"sources_removed": 1}


def test_a_chat_keeps_its_id_when_its_marks_are_taken_out(tmp_path):
    """The id of a chat without one in its log is made from its words as they were logged."""
    draft = ConversationDraft(Place(1), (Message("user", "Who?", None, 0), Message("assistant", f"I {CITE}", None, 1)))
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": f"I {CITE}"}]
    _, (chat,) = ingested(tmp_path, {"messages": turns})
    assert chat.conversation_id == finish(draft, "messages", str).conversation_id
