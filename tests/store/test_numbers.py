"""Every conversation knows the write that brought it and the one that changed it last: so a run knows what is new."""

import itertools
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift.records import Conversation, FeedbackLabel, Message, ReadMark
from drift.store import Store


def chat(name: str, turns: int = 1, day: int | None = None) -> Conversation:
    said = (Message("user", f"hi {name}"), Message("assistant", "hello"))
    when = None if day is None else f"2026-01-{day:02d}T12:00:00+00:00"
    return Conversation(name, "test", name, tuple(itertools.chain(*[said] * turns)), "train", started_at=when)


def ids(store: Store, after: int | None = None, upto: int | None = None) -> list[str]:
    return [conversation.conversation_id for conversation in store.conversations(after=after, upto=upto)]


def test_what_came_and_what_changed_since_a_reading(tmp_path):
    store = Store(tmp_path / "s")
    store.add([chat("a"), chat("b")])
    store.add_labels([FeedbackLabel("a", 1, None, "SAT", "rating", "1")])  # a write too
    read = store.read_up_to()
    assert (store.news(read), ids(store, after=read), ids(store, upto=read)) == ((0, 0), [], ["a", "b"])
    store.add([chat("a"), chat("b", 2), chat("c")])  # a is a duplicate, b has grown
    assert store.news(read) == (1, 1)
    assert (ids(store, after=read), ids(store, upto=read)) == (["b", "c"], ["a"])
    later = store.read_up_to()
    store.add([chat("a"), chat("b", 2), chat("c")])  # nothing new
    assert store.news(later) == (0, 0)
    assert store.read_up_to() == later
    store.forget(conversation="c")
    assert (store.news(read), ids(store, after=read)) == ((0, 1), ["b"])
    assert [len(labels) for _, labels in store.labelled(upto=read)] == [1]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3), max_size=4), min_size=1, max_size=4))
def test_news_are_what_a_reader_of_all_writes_would_note(tmp_path_factory, writes):
    store, stored = Store(tmp_path_factory.mktemp("s") / "s"), {}
    seen: list[tuple[int, dict[str, int]]] = [(0, {})]
    for write in writes:
        store.add(chat(name, turns) for name, turns in write.items())
        stored = {name: max(write.get(name, 0), stored.get(name, 0)) for name in {*stored, *write}}
        seen.append((store.read_up_to(), dict(stored)))
    for read, before in seen:
        changed = {name for name, turns in stored.items() if before.get(name) not in (None, turns)}
        new = stored.keys() - before.keys()
        assert store.news(read) == (len(new), len(changed))
        assert set(ids(store, after=read)) == new | changed
        assert set(ids(store, upto=read)) == stored.keys() - new - changed


def strip_numbers(store: Path) -> None:
    """The store as an earlier version wrote it."""
    for file in (store / "conversations").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["first_ingested", "last_ingested"]), file)


def test_a_store_of_an_earlier_version_is_read_and_goes_on(tmp_path):
    store = Store(tmp_path / "s")
    store.add([chat("a"), chat("b")])
    before = store.fingerprint()
    strip_numbers(tmp_path / "s")
    assert (store.fingerprint(), store.news(0), ids(store, after=0), ids(store)) == (before, (0, 0), [], ["a", "b"])
    read = store.read_up_to()
    store.add([chat("b", 2), chat("c")])
    assert (store.news(read), ids(store, after=read)) == ((1, 1), ["b", "c"])
    assert ids(store, upto=0) == ["a"]


def test_numbers_are_no_content(tmp_path):
    """Equal logs are equal, however many commands read them."""
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    one.add([chat("a"), chat("b")])
    two.add([chat("a")])
    two.add([chat("b")])
    assert one.fingerprint() == two.fingerprint()
    assert one.store_id() != two.store_id() == Store((tmp_path / "two").rename(tmp_path / "moved")).store_id()


def splits(store: Store) -> dict[str, str]:
    return {conversation.conversation_id: conversation.split for conversation in store.conversations()}


@pytest.mark.parametrize("days", [(21, 22, 23, 24, 25, 26, 27, 28, 29, 30), (21,), (None,)])
def test_what_was_held_out_in_time_order_stays_held_out(tmp_path, days):
    """The borders move as the store grows; what a generation read keeps those of its generation."""
    Store(tmp_path / "s").add(chat(f"old-{day:02d}", day=day) for day in range(1, 21))
    first = Store(tmp_path / "s", "time")
    before, mark = splits(first), ReadMark(first.read_up_to(), 20, first.borders())
    assert [name for name, split in before.items() if split == "test"] == ["old-18", "old-19", "old-20"]
    first.add([*(chat(f"new-{day}", day=day) for day in days), chat("old-20", 2, day=20)])
    second = Store(tmp_path / "s", "time", [mark])
    after = splits(second)
    assert {name: split for name, split in after.items() if name in before} == before
    new = {name: split for name, split in after.items() if name not in before}
    if len(days) == 10:  # the 8th, 9th and 9th of 10 are the borders
        late = {"new-28": "stop", "new-29": "test", "new-30": "test"}
        assert new == {f"new-{day}": "train" for day in range(21, 28)} | late
    if days == (None,):
        assert (new, second.borders()) == ({"new-None": "train"}, None)
    assert splits(Store(tmp_path / "s", "time")) != after or len(days) < 10  # without the mark, borders move
    assert second.fingerprint() != Store(tmp_path / "s", "time").fingerprint()
