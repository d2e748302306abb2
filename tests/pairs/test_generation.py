"""What a generation learns from: news first, a share of what is older, and a name for everything else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.config import DefenceSettings, GenerationSettings, LabelSettings
from drift.pairs.defence import Defence
from drift.pairs.generation import Since
from drift.pairs.stages import find_follow_ups, find_heldout, find_liked, find_prompts, find_random, list_earlier
from drift.records import (
    ChatMessage,
    Conversation,
    Counts,
    FeedbackLabel,
    Message,
    PreferencePair,
    PromptItem,
    Split,
    TrainedReply,
    Verdict,
    read_jsonl,
    stable_hash,
    write_jsonl,
)
from drift.store import Repeat, Store

SETTINGS = LabelSettings()


def chat(
    name: str, *replies: str, model: str = "bot-1", split: Split = "train", user: str | None = None
) -> Conversation:
    """Each reply is disliked in the next turn."""
    said = [Message("user", f"question of {name[0]}")]
    for reply in replies:
        said += [Message("assistant", reply), Message("user", f"no, not {reply}")]
    return Conversation(name, "test", name, tuple(said), split, user_key=user, model=model)


def judge(store: Store, *chats: Conversation, label: Verdict = "DSAT") -> None:
    """Every reply of these conversations gets this label."""
    store.add_labels(
        FeedbackLabel(one.conversation_id, place, place + 1, label, "embedded", "1", p_dsat=0.9, p_sat=0.9)
        for one in chats
        for place, message in enumerate(one.messages)
        if message.role == "assistant"
    )


def fill(store: Store, *chats: Conversation, label: Verdict = "DSAT") -> int:
    """Ingest, note how far a run would read, and label, in this order as a run does."""
    store.add(chats)
    read = store.read_up_to()
    judge(store, *chats, label=label)
    return read


def learned(folder: Path, prompts: Path, generation: int = 1, before: Path | None = None) -> Path:
    """The list of what a run was trained on that made one pair of each of these prompts."""
    pairs, out = folder / f"pairs-{generation}.jsonl", folder / f"earlier-{generation}.jsonl"
    fresh = (ChatMessage("assistant", "fresh"),)
    write_jsonl(
        pairs,
        (
            PreferencePair(
                stable_hash(item.prompt_id), item.prompt_id, item.conversation_id, item.reply_index, "drift", 1, "w",
                item.prompt, fresh, (item.rejected,) if item.rejected else (),
            )
            for item in read_jsonl(prompts, PromptItem)
        ),
    )  # fmt: skip
    list_earlier(out, generation, (prompts,), (pairs,), before)
    return out


def found(file: Path) -> list[tuple[str, int]]:
    return [(item.conversation_id, item.reply_index) for item in read_jsonl(file, PromptItem)]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_news_come_first_then_a_share_of_older_complaints(tmp_path, store):
    read = fill(store, *(chat(f"{n}-old", f"bad {n}") for n in range(8)))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    fill(store, *(chat(f"{n}-new", f"worse {n}") for n in range(6)))
    counts = {}
    for replay, expected in ((0.25, 2), (0.0, 0), (0.5, 6), (0.9, 8)):  # 6 new: 6 * .25 / .75 = 2 older; at most all 8
        since = Since(earlier, read, GenerationSettings(replay=replay), seed=1)
        counts = find_prompts(tmp_path / "out", store, SETTINGS, "train", since)
        rows = found(tmp_path / "out")
        assert [name for name, _ in rows[:6]] == [f"{n}-new" for n in range(6)]
        assert len(rows) == 6 + expected == counts["rows"]
        assert all(name.endswith("old") for name, _ in rows[6:])
        assert (counts["new"], counts["replayed"], counts["came_back"]) == (6, expected, 0)
        assert counts.get("dropped.trained_earlier", 0) == 8 - expected  # every complaint is accounted for


def test_what_is_replayed_differs_by_generation_and_not_by_chance(tmp_path, store):
    read = fill(store, *(chat(f"{n}-old", f"bad {n}") for n in range(9)))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    fill(store, *(chat(f"{n}-new", f"worse {n}") for n in range(9)))

    def replayed(read: int, seed: int) -> list[tuple[str, int]]:
        find_prompts(tmp_path / "out", store, SETTINGS, "train", Since(earlier, read, GenerationSettings(), seed))
        return found(tmp_path / "out")[9:]

    assert replayed(read, 1) == replayed(read, 1)
    assert len({tuple(replayed(read, seed)) for seed in range(6)}) > 1


def test_a_conversation_that_grew_brings_only_its_new_complaints(tmp_path, store):
    read = fill(store, chat("a", "one"), chat("b", "two"))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    fill(store, chat("a", "one", "three"))
    assert store.news(read) == (0, 1)
    counts = find_prompts(
        tmp_path / "out", store, SETTINGS, "train", Since(earlier, read, GenerationSettings(replay=0.0), 1)
    )
    assert found(tmp_path / "out") == [("a", 3)]
    assert (counts["new"], counts["dropped.trained_earlier"]) == (1, 2)  # the old complaints of a and of b


def test_a_long_thread_of_one_user_is_not_capped_by_what_was_learned(tmp_path, store):
    """The cap per user counts what this generation may learn, not what earlier ones did."""
    capped = SETTINGS.model_copy(update={"max_per_user": 2})
    read = fill(store, chat("a", "one", "two", user="u"))
    find_prompts(tmp_path / "first", store, capped, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    fill(store, chat("a", "one", "two", "three", user="u"))
    find_prompts(tmp_path / "out", store, capped, "train", Since(earlier, read, GenerationSettings(replay=0.0), 1))
    assert found(tmp_path / "out") == [("a", 5)]


def test_the_same_complaint_is_news_only_about_the_deployed_policy(tmp_path, store):
    read = fill(store, chat("a", "wrong"))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    # all four names begin with "a", so all ask the same question
    fill(
        store,
        chat("a1", "wrong", model="bot-2"),
        chat("a0", "wrong", model="bot-1"),
        chat("a2", "other", model="bot-1"),
    )

    def sort(deployed: str | None) -> tuple[list[tuple[str, int]], Counts]:
        settings = GenerationSettings(replay=0.0, deployed=deployed)
        counts = find_prompts(tmp_path / "out", store, SETTINGS, "train", Since(earlier, read, settings, 1))
        return found(tmp_path / "out"), counts

    rows, counts = sort("bot-2")
    assert rows == [("a1", 1), ("a2", 1)]  # the deployed policy's first, though its id sorts behind
    # a0 and the stored a say the same as a1, which is news
    assert (counts["new"], counts["came_back"], counts["dropped.duplicate_prompt"]) == (2, 1, 2)
    rows, counts = sort("bot-3")  # nobody answered under this name: all of it is about earlier models
    assert rows == [("a2", 1)]
    assert (counts["new"], counts["came_back"], counts["dropped.trained_earlier"]) == (1, 0, 1)
    rows, counts = sort(None)  # not named: whatever came since counts as the deployed policy's
    assert rows == [("a0", 1), ("a2", 1)]
    assert (counts["new"], counts["came_back"]) == (2, 1)


def test_older_complaints_that_nobody_learned_are_named_apart(tmp_path, store):
    read = fill(store, chat("a", "one"), chat("b", "two"))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    rows = list(read_jsonl(tmp_path / "first", PromptItem))
    write_jsonl(tmp_path / "half", rows[:1])  # the pair of b was dropped, say because its reply was empty
    earlier = learned(tmp_path, tmp_path / "half")
    fill(store, chat("c", "three"))
    counts = find_prompts(
        tmp_path / "out", store, SETTINGS, "train", Since(earlier, read, GenerationSettings(replay=0.0), 1)
    )
    assert (counts["dropped.trained_earlier"], counts["dropped.not_replayed"]) == (1, 1)


def test_the_list_of_what_was_learned_grows_along_the_chain_and_holds_no_text(tmp_path, store):
    fill(store, chat("a", "secret one"), chat("b", "secret two"))
    find_prompts(tmp_path / "both", store, SETTINGS, "train")
    rows = list(read_jsonl(tmp_path / "both", PromptItem))
    write_jsonl(tmp_path / "one", rows[:1])
    first = learned(tmp_path, tmp_path / "one")
    second = learned(tmp_path, tmp_path / "both", generation=2, before=first)
    listed = list(read_jsonl(second, TrainedReply))
    assert [(row.conversation_id, row.generation) for row in listed] == [("a", 1), ("b", 2)]
    assert "secret" not in second.read_text()
    assert set(json.loads(second.read_text().splitlines()[0])) == {
        "prompt_id", "conversation_id", "request", "content", "generation",
    }  # fmt: skip


def test_held_out_complaints_share_nothing_with_what_the_chain_learned(tmp_path, store):
    read = fill(store, chat("a", "wrong"), chat("t", "near twin of an old one"), chat("x", "learned"))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    fill(store, chat("a-held", "too", split="test"), chat("h", "kept", split="test"), chat("n", "near", split="stop"))
    store.note_repeats([Repeat("x", "n", 0.9)])  # n sorts first, so x, which was trained on, is now the repeat
    since = Since(earlier, read, GenerationSettings(), 1)
    find_prompts(tmp_path / "out", store, SETTINGS, "train", since)
    counts = find_heldout(tmp_path / "held", store, SETTINGS, tmp_path / "out", since=since)
    assert found(tmp_path / "held") == [("h", 1)]
    assert (counts["dropped.seen_in_training"], counts["dropped.near_duplicate_conversation"]) == (1, 1)
    without = find_heldout(tmp_path / "held", store, SETTINGS, tmp_path / "out")
    assert without["rows"] == 3


@settings(max_examples=8, deadline=None)
@given(
    first=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4),
    then=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3), max_size=6),
    replay=st.sampled_from([0.0, 0.25, 0.6]),
)
def test_every_complaint_is_learned_or_named(tmp_path_factory, first, then, replay):
    """Whatever came and grew: news are what was not learned, and all complaints add up."""
    folder = tmp_path_factory.mktemp("chain")
    store = Store(folder / "store")

    def ingested(turns: dict[str, int]) -> int:
        return fill(store, *(chat(name, *(f"{name} {k}" for k in range(count))) for name, count in turns.items()))

    read = ingested(first)
    find_prompts(folder / "first", store, SETTINGS, "train")
    earlier = learned(folder, folder / "first")
    ingested(then)
    counts = find_prompts(
        folder / "out", store, SETTINGS, "train", Since(earlier, read, GenerationSettings(replay=replay), 1)
    )
    before = {(name, 2 * k + 1) for name, count in first.items() for k in range(count)}
    stored = before | {(name, 2 * k + 1) for name, count in then.items() for k in range(count)}
    rows = found(folder / "out")
    assert set(rows[: int(counts["new"])]) == stored - before
    assert set(rows[int(counts["new"]) :]) <= before
    assert counts["replayed"] == min(len(before), round(len(stored - before) * replay / (1 - replay)))
    assert len(rows) + counts.get("dropped.trained_earlier", 0) == len(stored)


def test_liked_replies_and_random_turns_are_news_too(tmp_path, store):
    read = fill(store, chat("a", "good"), chat("b", "fine"), label="SAT")
    find_liked(tmp_path / "first", store, "train", 0.5, LabelSettings())
    earlier = learned(tmp_path, tmp_path / "first")
    fill(store, chat("c", "great"), label="SAT")
    since = Since(earlier, read, GenerationSettings(replay=0.5), 1)
    counts = find_liked(tmp_path / "out", store, "train", 0.5, LabelSettings(), since)
    assert (counts["new"], counts["replayed"]) == (1, 1)
    assert found(tmp_path / "out")[0] == ("c", 1)
    find_random(tmp_path / "random", store, tmp_path / "first", "train", 1, since)
    assert [name for name, _ in found(tmp_path / "random")] == ["c"]
    grown = chat("a", "good", "better")
    store.add([grown])
    counts = find_follow_ups(tmp_path / "followed", store, "train", SETTINGS, since)
    assert counts == {"rows": 2, "new": 2, "dropped.trained_earlier": 1}
    assert found(tmp_path / "followed") == [("a", 3), ("c", 1)]


def test_the_fingerprint_is_the_content_and_not_the_place(tmp_path):
    for name in ("one", "two"):
        write_jsonl(tmp_path / name, [TrainedReply("p", "c", "r", "x", 1)])
    one, two = (Since(tmp_path / name, 3, GenerationSettings(), 1) for name in ("one", "two"))
    assert one.fingerprint() == two.fingerprint()
    others = (Since(one.earlier, 4, one.settings, 1), Since(one.earlier, 3, GenerationSettings(replay=0.1), 1))
    assert len({one.fingerprint(), *(other.fingerprint() for other in others)}) == 3


def test_what_the_defence_drops_is_no_news(tmp_path, store):
    """Four users took the reply that one complained about: the complaint is contested, and nothing is new."""
    read = fill(store, chat("old", "bad"))
    find_prompts(tmp_path / "first", store, SETTINGS, "train")
    earlier = learned(tmp_path, tmp_path / "first")
    taken = [chat(f"n-taken{n}", "worse") for n in range(4)]
    store.add([*(replace(one, user_key=one.conversation_id) for one in taken), chat("new", "worse")])
    judge(store, *taken, label="NEUTRAL")
    judge(store, chat("new", "worse"))
    since, defence = (
        Since(earlier, read, GenerationSettings(), seed=1),
        Defence(DefenceSettings(drop_contested=True), store),
    )
    assert find_prompts(tmp_path / "out", store, SETTINGS, "train", since)["new"] == 1
    counts = find_prompts(tmp_path / "out", store, SETTINGS, "train", since, defence)
    assert (counts["rows"], counts["new"], counts["dropped.contested"]) == (0, 0, 1)
