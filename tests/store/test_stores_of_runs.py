"""Which store a run has read, where its folder holds several: other logs in the same folder leave another store."""

from pathlib import Path

import pytest

from drift.config import parse_config
from drift.errors import DataError
from drift.generations import open_parent
from drift.records import Conversation, Counts, Message, ReadMark
from drift.rundir import RunDir, load_run
from drift.store import Store, store_of

CHAT = Conversation("a", "test", "a", (Message("user", "?"), Message("assistant", "!")), "train")


def keep(out: Path) -> Counts:
    out.mkdir()
    (out / "config.json").write_text("{}")
    return {"iteration": 0}


def a_run(folder: Path, read: str | None, stores: tuple[str, ...], config: str = "") -> Path:
    """A finished run whose folder holds these stores, of which it has read one."""
    for name in stores:
        Store(folder / "store" / name).add([CHAT])
    (folder / "run.json").write_text("{}")  # so that a folder that is not empty counts as one of a run
    with RunDir.open(folder, config or "policy: {model: embedded}\nevaluation: {split: hash}\n", 1) as run:
        if read:
            store = Store(folder / "store" / read)
            run.pin_reading(1, store.store_id(), (ReadMark(store.read_up_to(), 1),))
        run.stage("policy", keep)
    return folder


@pytest.mark.parametrize("inside", ["", "store"])
def test_the_store_that_the_run_has_read_is_named(tmp_path, inside):
    run = a_run(tmp_path / "run", "b", ("a", "b", "c"))
    with pytest.raises(DataError, match=rf"(Its|It holds a) store: --store {run}/store/b\.$"):
        Store(run / inside)


@pytest.mark.parametrize("inside", ["", "store"])
def test_all_are_named_where_that_is_not_known(tmp_path, inside):
    """Of a run of an earlier version."""
    run = a_run(tmp_path / "run", None, tuple("abcdefg"))
    named = ", ".join(f"--store {run}/store/{name}" for name in "abcde")
    with pytest.raises(DataError, match=rf"(Its|It holds) stores: {named}, and 2 more\.$"):
        Store(run / inside)


def test_the_store_that_the_config_names_comes_before_one_in_the_folder(tmp_path):
    Store(tmp_path / "named").add([CHAT])
    run = a_run(tmp_path / "run", None, ("a",), f"store: {tmp_path / 'named'}\n")
    for folder in (run, run / "store"):
        with pytest.raises(DataError, match=rf"store: --store {tmp_path}/named\.$"):
            Store(folder)


def test_a_chain_goes_on_with_the_store_that_was_read(tmp_path):
    run = a_run(tmp_path / "run", "b", ("a", "b"))
    parent = open_parent(parse_config({"from": str(run)}, "test"))
    assert parent is not None
    assert parent.store == run / "store" / "b"
    (run / "store/a/manifest.json").write_text("{")  # what is wrong with another one does not matter
    found = store_of(load_run(run))
    assert found is not None
    assert found.path == parent.store


def test_another_store_is_not_taken_for_the_one_that_is_gone(tmp_path):
    run = a_run(tmp_path / "run", "b", ("a", "b"))
    (run / "store" / "b").rename(tmp_path / "moved")
    assert store_of(load_run(run)) is None
    with pytest.raises(
        DataError, match=r"its store is gone \(.*/store/\.\.\.; those that are there are others\)\. Put"
    ):
        open_parent(parse_config({"from": str(run)}, "test"))
    parent = open_parent(parse_config({"from": str(run), "store": str(tmp_path / "moved")}, "test"))
    assert parent is not None
    assert parent.store == tmp_path / "moved"


def test_the_store_of_a_run_is_named_where_its_folder_is_given(tmp_path):
    inner = tmp_path / "run" / "store" / "abc"
    Store(inner).add([CHAT])
    with pytest.raises(DataError, match=f"not a store, and not empty. It holds a store: --store {inner}"):
        Store(tmp_path / "run" / "store")
    (tmp_path / "run" / "manifest.json").write_text('{"stages": {}}')
    with pytest.raises(DataError, match=f"is a run, not a store. Its store: --store {inner}"):
        Store(tmp_path / "run")
    stages = tmp_path / "run" / "base"
    stages.mkdir()
    (stages / "manifest.json").write_text('{"stages": {}}')
    with pytest.raises(DataError, match=f"Its store: --store {inner}"):  # and not RUN/base, which sorts before it
        Store(tmp_path / "run")
    with pytest.raises(DataError, match=r"is a run, not a store\. Name its store: --store DIR"):
        Store(stages)
    (stages / "config.yaml").write_text(f"store: {inner}\n")  # a run whose config names a store somewhere else
    with pytest.raises(DataError, match=f"is a run, not a store. Its store: --store {inner}"):
        Store(stages)
