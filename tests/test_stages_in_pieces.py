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
from drift.pairs.stages import (
    find_heldout,
    find_heldout_liked,
    find_judged,
    find_liked,
    find_liked_replies,
    find_prompts,
)
from drift.records import Counts
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
    rows += [{**row, "id": f"{row['id']}-more", "messages": row["messages"][:2]} for row in rows[:8]]  # before it grew
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


def judged(folder: Path, out: Path) -> dict[str, tuple[Counts, bytes]]:
    """The other files of judged replies that a run makes of a labelled store: counts and bytes."""
    opened, settings, prompts = Store(folder), LabelSettings(max_per_user=3), out / "prompts"
    made = {
        "prompts": lambda file: find_prompts(file, opened, settings, "train"),
        "heldout": lambda file: find_heldout(file, opened, settings, prompts),
        "liked": lambda file: find_liked(file, opened, "train", 0.5, settings),
        "liked replies": lambda file: find_liked_replies(file, opened, "train", 0.5, settings),
        "held-out liked": lambda file: find_heldout_liked(file, opened, 0.5, settings, prompts),
        "judged": lambda file: find_judged(file, opened, "train", settings, 0.5),
    }
    return {name: (make(out / name), (out / name).read_bytes()) for name, make in made.items()}


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


def thanks(number: int) -> dict[str, Any]:
    """A chat whose user liked the reply: every other one is of one user, and some replies are equal."""
    texts = [f"What is {number % 24} plus 1?", f"It is {number % 24 + 1}.", "Thank you, that is perfect!"]
    words = [f"word{random.Random(number + 100 * k).randrange(1000)}" for k in range(40)]  # no near-duplicates
    turns = enumerate((*texts, "You are welcome.", f"Now explain: {' '.join(words)}", " ".join(reversed(words))))
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in turns]
    return {"id": f"l-{number}", "user": "fan" if number % 2 else f"user-{number}", "messages": messages}


def test_disliked_liked_and_held_out_replies_in_pieces(chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "RANGE_CONVERSATIONS", 60)
    shutil.copytree(chats, tmp_path / "store")
    (tmp_path / "thanks.jsonl").write_bytes(b"".join(orjson.dumps(thanks(n)) + b"\n" for n in range(30)))
    ingest([tmp_path / "thanks.jsonl"], Store(tmp_path / "store"))
    label_store(Store(tmp_path / "store"))
    find_near_duplicates(Store(tmp_path / "store"))
    for folder in ("one", "pieces"):
        (tmp_path / folder).mkdir()
    expected = judged(tmp_path / "store", tmp_path / "one")
    with using_engine(InPieces()):
        assert judged(tmp_path / "store", tmp_path / "pieces") == expected
    counts = {name: found for name, (found, _) in expected.items()}
    assert counts["heldout"]["rows"] > 0
    assert counts["held-out liked"]["rows"] > 0
    assert counts["liked replies"]["rows"] > 3
    assert counts["liked replies"]["dropped.duplicate_prompt"] > 0
    assert counts["liked replies"]["dropped.user_cap"] > 0
    assert counts["judged"]["rows"] == counts["prompts"]["rows"] + counts["liked replies"]["rows"]
    assert not list((tmp_path / "store").glob(".pieces/*"))


def test_ranges_of_a_store_read_every_conversation_once(chats: Path):
    opened = Store(chats)
    whole = [chat.conversation_id for chat in opened.conversations()]
    parts = [opened.within(ids) for ids in (("", "4000"), ("4000", "a"), ("a", None))]
    assert [chat.conversation_id for part in parts for chat in part.conversations()] == whole
    assert sum(part.size() for part in parts) == len(whole)
    assert 0 < parts[1].size() < len(whole)
