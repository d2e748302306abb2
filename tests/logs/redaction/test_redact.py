"""Redaction on its way into the store: consistent within a conversation, nothing raw on the disk."""

from dataclasses import replace

import orjson
import pytest

from drift.config import IngestionSettings
from drift.errors import DataError
from drift.logs.files.rows import Place, Reject
from drift.logs.ingest import ingest
from drift.logs.redaction import Redactor
from drift.logs.redaction.audit import audit_store
from drift.records import Conversation, Message, Rating, Reason
from drift.store import Store

SECRETS = (b"ann@example.com", b"4111", b"s3cr3t99", b"bob@example.com", b"user-7")
DOWN = {"thumb": "down", "comment": "mail bob@example.com"}
ROW = {
    "id": "chat of ann@example.com",
    "user": "user-7",
    "consent": True,
    "metadata": {"license": "contact bob@example.com"},
    "messages": [
        {"role": "user", "content": "I am ann@example.com, card 4111 1111 1111 1111"},
        {"role": "assistant", "content": "Hello ANN@example.com", "feedback": DOWN},
        {"role": "user", "content": "postgres://me:s3cr3t99@host/db"},
    ],
}  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def log(tmp_path, *rows):
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return file


def conversation(*texts: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation("c", "s", None, tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), "train")


def texts_of(redactor: Redactor, *rows: Conversation) -> list[list[str]]:
    return [[m.content for m in row.messages] for row in redactor.each(rows) if isinstance(row, Conversation)]


def test_nothing_raw_is_written(tmp_path, store):
    bad = {"messages": [{"role": "ann@example.com", "content": ""}]}
    summary = ingest([log(tmp_path, ROW, bad)], store)
    assert summary.redacted == {"email": 5, "card": 1, "password": 1}
    assert summary.adds_up
    (stored,) = store.conversations()
    assert [m.content for m in stored.messages] == [
        "I am <EMAIL_1>, card <CARD_1>",
        "Hello <EMAIL_1>",
        "postgres://<PASSWORD_1>@host/db",
    ]
    assert stored.ratings[0].comment == "mail <EMAIL_2>"
    assert stored.tags == {"consent": "true", "license": "contact <EMAIL_2>"}
    assert stored.source_id == "chat of <EMAIL_1>"
    written = b"".join(file.read_bytes() for file in store.path.rglob("*") if file.is_file())
    written += repr((stored, list(store.quarantined()))).encode()
    assert [secret for secret in SECRETS if secret in written] == []


def test_what_is_kept_by_name_stays(tmp_path, store):
    ingest([log(tmp_path, ROW)], store, settings=IngestionSettings(keep=("email",)))
    (stored,) = store.conversations()
    assert stored.messages[0].content == "I am ann@example.com, card <CARD_1>"


def test_redaction_changes_neither_identity_nor_split(tmp_path, store):
    raw = Store(tmp_path / "raw")
    row = {**ROW, "id": None}
    ingest([log(tmp_path, row)], store)
    ingest([log(tmp_path, row)], raw, settings=IngestionSettings(redact=False))
    (clean,), (as_it_was,) = store.conversations(), raw.conversations()
    assert (clean.conversation_id, clean.split) == (as_it_was.conversation_id, as_it_was.split)
    assert as_it_was.messages[0].content.startswith("I am ann@")
    assert ingest([log(tmp_path, row)], store).duplicate == 1


def test_numbers_start_anew_in_each_conversation_and_spare_those_that_are_there():
    redactor = Redactor()
    assert texts_of(redactor, conversation("a@b.de c@d.de", "a@b.de"), conversation("c@d.de <EMAIL_3>")) == [
        ["<EMAIL_1> <EMAIL_2>", "<EMAIL_1>"],
        ["<EMAIL_4> <EMAIL_3>"],
    ]
    assert redactor.counts == {"email": 4}


def test_names_go_through_the_finder_that_is_given():
    from drift.logs.redaction.span import PersonalSpan

    def persons(text: str):
        return [PersonalSpan(at, at + 3, "person", "ann") for at in [text.find("Ann")] if at >= 0]

    assert texts_of(Redactor(persons=persons), conversation("I am Ann, a@b.de")) == [["I am <PERSON_1>, <EMAIL_1>"]]


def test_a_growing_conversation_keeps_its_placeholders():
    short = texts_of(Redactor(), conversation("a@b.de"))[0]
    assert texts_of(Redactor(), conversation("a@b.de", "ok", "x@y.de"))[0] == [*short, "ok", "<EMAIL_2>"]


def test_details_of_rejected_rows_are_redacted():
    row = Reject(Place(1), Reason.BAD_CONTENT, "feedback 'a@b.de' is not a thumb")
    assert list(Redactor().each([row])) == [replace(row, detail="feedback '<EMAIL_1>' is not a thumb")]


def test_consent_filters_by_the_sources_own_field(tmp_path, store):
    rows = [{**ROW, "id": str(n), "consent": value} for n, value in enumerate((True, False, "true", None))]
    summary = ingest([log(tmp_path, *rows)], store, settings=IngestionSettings(require_consent={"consent": "true"}))
    assert (summary.read, summary.accepted, summary.filtered) == (4, 2, 2)
    assert summary.filtered_by == {Reason.NO_CONSENT: 2}
    assert summary.adds_up


def test_the_audit_counts_and_shows_no_value(tmp_path, store):
    with pytest.raises(DataError, match="holds no conversations"):
        audit_store(store)
    raw = Store(tmp_path / "raw")
    rows = [ROW, {"messages": [{"role": "user", "content": "My name is Ann, born on 1 May 1990, @ann_99"}]}]
    ingest([log(tmp_path, *rows)], raw, settings=IngestionSettings(redact=False))
    audit = audit_store(raw)
    assert (audit.conversations, audit.with_findings) == (2, 1)
    assert audit.found == {"email": 5, "card": 1, "password": 1}
    assert audit.hints == {"own_name": 1, "birth_date": 1, "handle": 1, "long_number": 1}
    ingest([log(tmp_path, *rows)], store)
    clean = audit_store(store)
    assert (clean.with_findings, clean.found) == (0, {})
    assert clean.placeholders == {"email": 5, "card": 1, "password": 1}


def test_a_rating_without_a_comment_and_empty_text_pass():
    row = replace(conversation("a@b.de", ""), ratings=(Rating(1, "thumb", 1.0),))
    (clean,) = Redactor().each([row])
    assert isinstance(clean, Conversation)
    assert clean.ratings == row.ratings
