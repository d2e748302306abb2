"""Labels, near-duplicates and prompts in pieces: the same bytes as in one process, whatever the number of pieces."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.bench.ingest import write_log
from drift.config import LabelSettings
from drift.engine import Local, using_engine
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.logs.near_duplicates import find_near_duplicates
from drift.pairs.stages import find_prompts
from drift.store import Store, store


class InPieces(Local):
    """Pieces in this process, the last one first."""

    workers = 2

    def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number in reversed(range(len(pieces))):
            yield number, work(pieces[number])


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of chats with complaints: of one loud user, about the same request, and nearly the same."""
    folder = tmp_path_factory.mktemp("chats")
    write_log(folder / "log.jsonl", 60, seed=3)
    rows = []
    for number in range(24):
        # the last eight nearly repeat earlier ones
        words = random.Random(number % 16).choices(
            ["harbour", "lights", "were", "red", "and", "ships", "came", "in", "with", "tide"], k=40
        )
        turns = [f"Go on: {' '.join(words)}", f"{' '.join(words)} {'again ' * (number // 16)}", "No, that is wrong."]
        roles = ("user", "assistant", "user")
        messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
        rows.append({"id": f"c-{number}", "user": "loud" if number % 2 else f"user-{number}", "messages": messages})
    with (folder / "log.jsonl").open("ab") as out:
        out.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    ingest([folder / "log.jsonl"], Store(folder / "store"))
    return folder / "store"


def everything(folder: Path, out: Path) -> tuple[Any, ...]:
    """Near-duplicates, labels and prompts of a store, and all that the stages report."""
    opened = Store(folder)
    near = find_near_duplicates(opened)
    summary = label_store(opened, out.with_suffix(".labels"))
    again = label_store(opened)
    counts = find_prompts(out, opened, LabelSettings(max_per_user=3), None)
    train = find_prompts(out.with_suffix(".train"), opened, LabelSettings(max_per_user=3), "train")
    files = [out, out.with_suffix(".labels"), out.with_suffix(".train"), folder / "near_duplicates.jsonl"]
    return near, summary, again, counts, train, opened.label_hash(), *(file.read_bytes() for file in files)


@pytest.mark.parametrize("each", [40, 6])
def test_the_same_bytes_in_any_number_of_pieces(
    chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: int
):
    monkeypatch.setattr(store, "RANGE_CONVERSATIONS", each)
    shutil.copytree(chats, tmp_path / "one")
    shutil.copytree(chats, tmp_path / "pieces")
    expected = everything(tmp_path / "one", tmp_path / "one.jsonl")
    with using_engine(InPieces()):
        found = everything(tmp_path / "pieces", tmp_path / "pieces.jsonl")
    assert found == expected
    near, summary, again, counts, *_ = expected
    assert near.near_duplicates > 3
    assert summary.added > 24
    assert again.added == 0  # labels that are there are not written again
    assert counts["rows"] > 3
    assert counts["dropped.user_cap"] > 0
    assert counts["dropped.near_duplicate_conversation"] > 0
    assert not list((tmp_path / "pieces").glob(".pieces/*"))
    labels = list((tmp_path / "pieces/labels").iterdir())
    assert len(labels) == len(Store(tmp_path / "pieces").id_ranges()) == {40: 4, 6: 16}[each]


def test_ranges_of_a_store_read_every_conversation_once(chats: Path):
    opened = Store(chats)
    whole = [chat.conversation_id for chat in opened.conversations()]
    parts = [opened.within(ids) for ids in (("", "4000"), ("4000", "a"), ("a", None))]
    assert [chat.conversation_id for part in parts for chat in part.conversations()] == whole
    assert sum(part.size() for part in parts) == len(whole)
    assert 0 < parts[1].size() < len(whole)
