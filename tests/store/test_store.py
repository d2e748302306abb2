"""The store: what is written comes back, whole or not at all, and equal content is equal."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.disk import FOLDER_LOCK
from drift.errors import DataError, DriftError
from drift.records import Conversation, FeedbackLabel, Message, Rating, Reason
from drift.store import AddSummary, Quarantined, Review, Store, StoreCounts, runs


def chat(name: str, length: int = 2, **fields) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[index % 2], f"{name} {index}", source_index=index) for index in range(length))
    return Conversation(name, "test", None, messages, fields.pop("split", "train"), **fields)


UP, DOWN, LATER = Rating(1, "thumb", 1.0), Rating(1, "thumb", -1.0, "why"), Rating(3, "thumb", 1.0)
SCORE, LOW = Rating(1, "score", 0.5), Rating(1, "score", -0.5)


def label(name: str, reply: int = 1, verdict="DSAT", labeller="embedded", **fields) -> FeedbackLabel:
    return FeedbackLabel(name, reply, reply + 1, verdict, labeller, fields.pop("labeller_version", "1"), **fields)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != FOLDER_LOCK}


def test_opening_creates_nothing_and_holds_nothing(store):
    assert (
        list(store.conversations()) == list(store.labels()) == list(store.labelled()) == list(store.quarantined()) == []
    )
    assert store.counts() == StoreCounts()
    assert not store.path.exists()


def test_a_conversation_comes_back_as_it_was(store):
    full = Conversation(
        "id",
        "source",
        "source-id",
        (Message("user", "a\x00\U0001f600", "2024-01-01", 3), Message("assistant", "", None, 5)),
        "validation",
        user_key="u",
        model="m",
        language="en",
        started_at="2024",
        ratings=(Rating(1, "thumb", -1.0, "bad"), Rating(1, "score", 0.5)),
        tags={"toxic": "true", "licence": "x"},
    )
    store.add([full, chat("bare")])
    assert {c.conversation_id: c for c in store.conversations()} == {"id": full, "bare": chat("bare")}


def test_conversations_come_in_order_of_their_ids_and_by_split(store):
    store.add([chat("c"), chat("a", split="test")])
    store.add([chat("b")])
    assert [c.conversation_id for c in store.conversations()] == ["a", "b", "c"]
    assert [c.conversation_id for c in store.conversations("test")] == ["a"]


def test_longer_versions_replace_and_others_are_duplicates(store):
    assert store.add([chat("a", 2), chat("a", 4), chat("a", 3), chat("b")]) == AddSummary(2, 1, 1)
    assert store.add([chat("a", 4), chat("b", 3)]) == AddSummary(0, 1, 1)
    assert [len(c.messages) for c in store.conversations()] == [4, 3]
    assert len(list((store.path / "conversations").iterdir())) == 1


versions = st.lists(
    st.tuples(st.sampled_from(["0a", "3", "7f", "80", "c", "c0", "ff", "ffff"]), st.integers(1, 6)), max_size=20
)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(versions, min_size=1, max_size=3), small=st.booleans())
def test_any_order_of_versions_keeps_the_longest(tmp_path_factory, batches, small):
    sizes = ("RUN_CHARACTERS", "READ_BYTES", "WINDOW_BYTES")
    before = {name: getattr(runs, name) for name in sizes}
    runs.__dict__.update(dict.fromkeys(sizes, 600) if small else {})  # many runs and windows to merge, or one
    try:
        store, longest = Store(tmp_path_factory.mktemp("any") / "store"), {}
        for batch in batches:
            expected = AddSummary()
            for name, length in batch:
                old = longest.get(name)
                longest[name] = max(length, old or 0)
                fate = "accepted" if old is None else "updated" if length > old else "duplicate"
                expected = replace(expected, **{fate: getattr(expected, fate) + 1})
            assert store.add(chat(name, length) for name, length in batch) == expected
    finally:
        runs.__dict__.update(before)
    assert [(c.conversation_id, len(c.messages)) for c in store.conversations()] == sorted(longest.items())


def rated(name: str, length: int, *ratings: Rating, **tags: str) -> Conversation:
    return chat(name, length, ratings=ratings, tags=tags)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("versions", "kept", "fates"),
    [
        # A log that has grown and says nothing of the reply any more
        ([rated("a", 2, UP), rated("a", 4)], rated("a", 4, UP), (1, 1, 0)),
        ([rated("a", 4), rated("a", 2, UP)], rated("a", 4, UP), (1, 1, 0)),
        # The longer version's judgement counts; of equals the newer's
        ([rated("a", 2, UP), rated("a", 4, DOWN, LATER)], rated("a", 4, DOWN, LATER), (1, 1, 0)),
        ([rated("a", 4, DOWN), rated("a", 2, UP)], rated("a", 4, DOWN), (1, 0, 1)),
        ([rated("a", 2, UP), rated("a", 2, DOWN)], rated("a", 2, DOWN), (1, 1, 0)),
        # Judgements of several kinds, and several of one kind, stand side by side
        ([rated("a", 2, SCORE, LOW), rated("a", 2, UP)], rated("a", 2, SCORE, LOW, UP), (1, 1, 0)),
        # Consent that was given, and withdrawn
        ([rated("a", 2, consent="yes"), rated("a", 2, consent="no")], rated("a", 2, consent="no"), (1, 1, 0)),
        ([rated("a", 2, consent="no"), rated("a", 4, consent="yes")], rated("a", 4, consent="yes"), (1, 1, 0)),
        ([rated("a", 4, consent="yes"), rated("a", 2, consent="no")], rated("a", 4, consent="yes, no"), (1, 1, 0)),
        ([rated("a", 4, consent="no"), rated("a", 2, consent="yes")], rated("a", 4, consent="no, yes"), (1, 1, 0)),
        ([rated("a", 4, consent="no"), rated("a", 2)], rated("a", 4, consent="no"), (1, 0, 1)),
        # Which replies were cut: each call says it of its own reply
        ([rated("a", 2, cut_turns="1"), rated("a", 4, cut_turns="3")], rated("a", 4, cut_turns="1,3"), (1, 1, 0)),
        ([rated("a", 4, cut_turns="3"), rated("a", 2, cut_turns="1")], rated("a", 4, cut_turns="1,3"), (1, 1, 0)),
        ([rated("a", 2, cut_turns="1"), rated("a", 4)], rated("a", 4, cut_turns="1"), (1, 1, 0)),
        ([rated("a", 4), rated("a", 2)], rated("a", 4), (1, 0, 1)),
        ([rated("a", 2, UP), rated("a", 2), rated("a", 3), rated("a", 2)], rated("a", 3, UP), (1, 1, 2)),
    ],
)
def test_what_any_version_tells_is_kept(store, versions, kept, fates, apart):
    batches = [[version] for version in versions] if apart else [versions]
    added = [store.add(batch) for batch in batches]
    assert list(store.conversations()) == [kept]
    assert tuple(map(sum, zip(*((a.accepted, a.updated, a.duplicate) for a in added), strict=True))) == fates
    assert store.add([kept]) == AddSummary(0, 0, 1)


def test_contradicting_versions_change_nothing_when_they_come_again(store):
    versions = [rated("a", 2, UP), rated("a", 2, DOWN)]
    assert store.add(versions) == AddSummary(1, 1, 0)
    before = contents(store.path)
    assert store.add(versions) == AddSummary(0, 0, 2)
    assert contents(store.path) == before


def test_a_user_that_one_version_names_is_kept(store):
    store.add([chat("a", user_key="u", model="m"), chat("a", 4), chat("b")])
    assert store.add([chat("b", user_key="v", family="f")]) == AddSummary(0, 1, 0)
    kept = [(c.user_key, c.model, c.family, len(c.messages)) for c in store.conversations()]
    assert kept == [("u", "m", None, 4), ("v", None, "f", 2)]


def test_a_judgement_follows_its_reply(store):
    first = Message("system", "be nice")
    later = replace(chat("a", 4), messages=(first, *chat("a", 4).messages))
    store.add([rated("a", 2, DOWN), later])
    assert list(store.conversations()) == [replace(later, ratings=(replace(DOWN, reply_index=2),))]


def test_labels_stay_where_only_times_and_places_in_the_log_differ(store):
    store.add([chat("a")])
    store.add_labels([label("a")])
    moved = tuple(replace(m, timestamp="2024-01-01", source_index=9 + n) for n, m in enumerate(chat("a", 4).messages))
    assert store.add([replace(chat("a", 4), messages=moved)]) == AddSummary(0, 1, 0)
    assert [told.conversation_id for told in store.labels()] == ["a"]


def test_labels_of_a_reply_that_has_changed_go(store):
    store.add([chat("a"), chat("b")])
    store.add_labels([label("a"), label("b")])
    changed = replace(
        chat("a", 4), messages=(*chat("a").messages[:1], Message("assistant", "new"), *chat("a").messages)
    )
    assert store.add([changed, chat("b", 4)]) == AddSummary(0, 2, 0)
    assert [told.conversation_id for told in store.labels()] == ["b"]


def test_a_judgement_does_not_move_to_another_reply(store):
    other = replace(rated("a", 2, DOWN), messages=(Message("user", "a 0"), Message("assistant", "something else")))
    store.add([other, chat("a", 4)])
    assert list(store.conversations()) == [chat("a", 4)]


def test_a_store_of_an_earlier_version_is_read_and_grows(store, tmp_path):
    store.add([chat("a"), chat("b")])
    (file,) = (store.path / "conversations").iterdir()
    pq.write_table(pq.read_table(file).drop_columns(["family"]), file)
    assert store.add([chat("b", 4, family="f"), chat("c", family="f")]) == AddSummary(1, 1, 0)
    assert list(store.conversations()) == [chat("a"), chat("b", 4, family="f"), chat("c", family="f")]
    assert store.forget(conversation="b").conversations == 2


def test_equal_content_has_an_equal_hash_in_any_store(tmp_path, store):
    other = Store(tmp_path / "other")
    store.add([chat("a", user_key="salted here"), chat("b")])
    other.add([chat("b")])
    assert store.content_hash() != other.content_hash()
    other.add([chat("a", user_key="salted there")])
    assert store.content_hash() == other.content_hash()
    other.add([chat("a", 3)])
    assert store.content_hash() != other.content_hash()


def test_the_fingerprint_changes_with_conversations_and_with_labels(store):
    store.add([chat("a")])
    seen = {store.fingerprint()}
    store.add_labels([label("a")])
    seen.add(store.fingerprint())
    store.add([chat("b")])
    seen.add(store.fingerprint())
    assert len(seen) == 3
    assert store.fingerprint() in seen


def test_the_fingerprint_tells_who_is_the_same_user_whatever_the_salt(tmp_path, store):
    """Pairs can be capped per user."""
    store.add([chat("a", user_key="x1"), chat("b", user_key="x1"), chat("c", user_key="x2")])
    same, other = Store(tmp_path / "same"), Store(tmp_path / "other")
    same.add([chat("a", user_key="y2"), chat("b", user_key="y2"), chat("c", user_key="y1")])
    other.add([chat("a", user_key="x1"), chat("b", user_key="x2"), chat("c", user_key="x2")])
    assert store.fingerprint() == same.fingerprint() != other.fingerprint()
    assert store.content_hash() == other.content_hash()


def test_the_fingerprint_changes_with_a_label_under_a_review(store):
    """What reviews say of it tells how far the other labels are believed."""
    store.add([chat("a")])
    store.add_labels([label("a", p_dsat=0.9)])
    store.reviews.add(Review("ann", "a", 1, 2, "SAT"))
    before, winners = store.fingerprint(), store.label_hash()
    store.add_labels([label("a", p_dsat=0.6)])
    assert (store.label_hash() == winners, store.fingerprint() == before) == (True, False)


def test_users_get_one_name_per_store(tmp_path, store):
    with store.writer() as first:
        key = first.user_key("ann")
        first.commit()
    with store.writer() as second:
        assert second.user_key("ann") == key
        assert second.user_key("bob") != key
    with Store(tmp_path / "other").writer() as elsewhere:
        assert elsewhere.user_key("ann") != key


@pytest.mark.parametrize("before", [0, 1])
def test_an_error_on_the_way_leaves_the_store_as_it_was(store, before):
    if before:
        store.add([chat("a")])
        store.add_labels([label("a")])
    kept = contents(store.path)

    def broken(item):
        yield item
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        store.add(broken(chat("b")))
    with pytest.raises(RuntimeError):
        store.add_labels(broken(label("b")))
    assert contents(store.path) == kept
    assert store.path.exists() == bool(before)


def test_what_a_killed_writer_left_behind_does_not_count(store):
    store.add([chat("a")])
    (store.path / ".staging").mkdir()
    (store.path / ".staging" / "run-0.parquet").write_bytes(b"half")
    (store.path / "conversations" / "000009.parquet").write_bytes(b"half")
    for name in (".manifest.json.tmp", ".manifest.json.123.drift-tmp"):  # of earlier versions, and of this one
        (store.path / name).write_bytes(b"half")
    assert [c.conversation_id for c in store.conversations()] == ["a"]
    store.add([chat("b")])
    assert [c.conversation_id for c in store.conversations()] == ["a", "b"]
    assert {file.name for file in contents(store.path)} == {"manifest.json", "000002.parquet"}


def test_a_store_whose_first_writer_was_killed_is_still_empty(tmp_path):
    path = tmp_path / "store"
    (path / ".staging").mkdir(parents=True)
    (path / ".manifest.json.tmp").write_bytes(b"half")
    (path / ".manifest.json.123.drift-tmp").write_bytes(b"half")
    assert Store(path).add([chat("a")]).accepted == 1
    assert {file.name for file in contents(path)} == {"manifest.json", "000001.parquet"}


def test_two_writers_at_once_are_refused(store):
    store.add([chat("a")])
    handle = os.open(store.path / FOLDER_LOCK, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match=r"process \d+ is writing here\. Wait until"):
        store.add([chat("b")])
    os.close(handle)
    assert store.add([chat("b")]).accepted == 1


@pytest.mark.parametrize("there", ["file", "folder", "manifest"])
def test_what_is_no_store_is_refused(tmp_path, there):
    path = tmp_path / "thing"
    if there == "file":
        path.write_text("x")
    else:
        path.mkdir()
        (path / ("manifest.json" if there == "manifest" else "notes.txt")).write_text("{}")
    with pytest.raises(DataError, match=str(path)):
        Store(path)


def test_damaged_files_are_named(store):
    store.add([chat("a")])
    (file,) = (store.path / "conversations").iterdir()
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=f"{store.path}: cannot read the store"):
        list(store.conversations())


def test_what_is_no_damage_is_not_called_so(store, monkeypatch):
    """The remedy for damage is to ingest all logs again."""
    store.add([chat("a")])
    monkeypatch.setattr("drift.store.queries.MEMORY_LIMIT", "1B")
    with pytest.raises(DriftError, match="TMPDIR") as told:
        list(store.conversations())
    assert "Ingest" not in str(told.value)
    full = duckdb.IOException("Could not write file: No space left on device")
    monkeypatch.setattr("drift.store.queries.open_tables", raising(full))
    with pytest.raises(DriftError, match="the disk is full"):
        list(store.conversations())


def raising(error: Exception):
    """A connection whose queries end like this."""

    class Connection:
        def close(self):
            pass

        def sql(self, *_, **__):
            raise error

    return lambda *_: Connection()


def test_a_store_of_another_format_is_not_read(store):
    store.add([chat("a")])
    manifest = store.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DataError, match="this version reads: format: Input should be 1"):
        Store(store.path)


def test_an_empty_folder_may_become_a_store(tmp_path):
    (tmp_path / "empty").mkdir()
    assert Store(tmp_path / "empty").add([chat("a")]).accepted == 1


def test_labels_are_kept_once(store):
    first = [label("a", 1, p_dsat=0.9, evidence="no"), label("a", 3, "SAT"), label("b")]
    assert store.add_labels(first) == 3
    digest, files = store.label_hash(), contents(store.path)
    assert store.add_labels(first) == 0
    assert (store.label_hash(), contents(store.path)) == (digest, files)
    assert list(store.labels()) == first
    assert store.add_labels([replace(first[0], p_dsat=0.1)]) == 1
    assert next(store.labels()).p_dsat == 0.1
    assert store.label_hash() != digest


def test_the_newest_label_of_the_strongest_labeller_wins(store):
    ladder = ["embedded", "judge", "source", "rating", "review"]
    for strength, labeller in enumerate(ladder):
        store.add_labels([label("a", labeller=labeller, verdict="SAT")])
        store.add_labels([label("a", labeller=weaker, verdict="DSAT") for weaker in ladder[:strength]])
        (winner,) = store.labels()
        assert (winner.labeller, winner.label) == (labeller, "SAT")
    store.add_labels([label("a", labeller="review", verdict="NEUTRAL")])
    store.add_labels([label("a", labeller="review", verdict="SAT")])
    assert [winner.label for winner in store.labels()] == ["SAT"]


def test_of_two_labels_in_one_call_the_later_counts(store):
    assert store.add_labels([label("a", verdict="SAT"), label("a", verdict="DSAT")]) == 1
    assert [winner.label for winner in store.labels()] == ["DSAT"]


def test_labelled_conversations_come_with_their_labels_in_order(store):
    store.add([chat("a", 4), chat("b", split="test"), chat("c", 6), chat("e")])
    store.add_labels([label("c", 3), label("d"), label("c", 1), label("e"), label("a")])
    found = {c.conversation_id: [x.reply_index for x in labels] for c, labels in store.labelled()}
    assert found == {"a": [1], "b": [], "c": [1, 3], "e": [1]}
    assert [(c.conversation_id, len(labels)) for c, labels in store.labelled("test")] == [("b", 0)]


def test_counts(store):
    store.add([chat("a", 4, ratings=(Rating(1, "thumb", 1.0),)), chat("b", split="test")])
    store.add_labels([label("a"), label("a", labeller="review", verdict="SAT"), label("b")])
    with store.writer() as transaction:
        transaction.quarantine(Quarantined("log", 3, Reason.BROKEN_JSON, "no"))
        transaction.commit()
    assert store.counts() == StoreCounts(2, 6, 1, 1, {"train": 1, "test": 1}, {"SAT": 1, "DSAT": 1})
    assert store.size() == 2


def test_a_conversation_whose_versions_contradict_each_other_about_being_toxic_is_toxic(tmp_path: Path):
    store = Store(tmp_path / "store")
    for version in (rated("a", 4, toxic="true"), rated("a", 2, toxic="false")):
        store.add([version])
    assert [chat.is_toxic(1) for chat in store.conversations()] == [True]
