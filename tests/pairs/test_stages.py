"""Stages of pairs over a real store."""

from dataclasses import replace

from drift import turns
from drift.config import LabelSettings, RecipeSettings
from drift.pairs.stages import (
    build_pairs,
    find_follow_ups,
    find_heldout,
    find_heldout_liked,
    find_judged,
    find_liked,
    find_liked_replies,
    find_prompts,
    find_random,
)
from drift.records import (
    Completion,
    Conversation,
    FeedbackLabel,
    Message,
    PreferencePair,
    PromptItem,
    Reason,
    Split,
    read_jsonl,
    write_jsonl,
)
from drift.store import Repeat, Store


def complaint(name: str, split: Split) -> Conversation:
    talk = (Message("user", f"about {name}?"), Message("assistant", "no idea"), Message("user", "That is wrong."))
    return Conversation(name, "test", name, talk, split)


def test_what_nearly_repeats_a_conversation_is_not_measured_on(tmp_path):
    store, prompts = Store(tmp_path / "store"), tmp_path / "prompts.jsonl"
    store.add([complaint("a", "train"), complaint("b", "stop"), complaint("c", "stop")])
    store.add_labels(FeedbackLabel(name, 1, 2, "DSAT", "judge", "1") for name in "abc")
    store.note_repeats([Repeat("b", "a", 0.9)])
    find_prompts(prompts, store, LabelSettings(), "train")
    counts = find_heldout(tmp_path / "heldout.jsonl", store, LabelSettings(), prompts)
    assert counts == {"rows": 1, f"dropped.{Reason.NEAR_DUPLICATE_CONVERSATION}": 1}
    assert [item.conversation_id for item in read_jsonl(tmp_path / "heldout.jsonl", PromptItem)] == ["c"]


def test_judged_replies_are_the_disliked_and_the_liked_ones_under_the_same_limits(tmp_path):
    store = Store(tmp_path / "store")
    store.add([complaint(name, "train") for name in "abcde"])
    labels = [("a", "DSAT", 0.9, None), ("b", "SAT", None, 0.9), ("c", "SAT", None, 0.4), ("d", "NEUTRAL", None, None)]
    store.add_labels(
        FeedbackLabel(name, 1, 2, verdict, "judge", "1", p_dsat=p_dsat, p_sat=p_sat)
        for name, verdict, p_dsat, p_sat in [*labels, ("e", "SAT", None, 0.9)]
    )
    store.note_repeats([Repeat("e", "a", 0.9)])
    judged = tmp_path / "judged.jsonl"
    counts = find_judged(judged, store, "train", LabelSettings(), min_p_sat=0.5)
    assert counts == {"rows": 2, f"dropped.{Reason.NEAR_DUPLICATE_CONVERSATION}": 1}
    items = {item.conversation_id: item for item in read_jsonl(judged, PromptItem)}
    assert {name: (item.rejected is None, item.preferred is None) for name, item in items.items()} == {
        "a": (False, True),
        "b": (True, False),
    }
    pairs = tmp_path / "pairs.jsonl"
    counts = build_pairs(pairs, judged, None, RecipeSettings(name="unpaired"))
    assert counts == {"rows": 2, "chosen_characters": 7, "rejected_characters": 7}
    assert {(row.conversation_id, bool(row.chosen)) for row in read_jsonl(pairs, PreferencePair)} == {
        ("a", False),
        ("b", True),
    }
    counts = build_pairs(pairs, judged, None, RecipeSettings(name="unpaired", pairs=5))
    assert (counts["rows"], counts["repeated"]) == (5, 3)
    counts = build_pairs(pairs, judged, None, RecipeSettings(name="unpaired", pairs=1))
    assert (counts["rows"], counts["dropped.beyond_recipe_pairs"]) == (1, 1)


def test_liked_replies_are_prompts_under_the_same_limits_as_for_sft(tmp_path):
    store, liked = Store(tmp_path / "store"), tmp_path / "liked.jsonl"
    store.add([replace(complaint(name, "train"), user_key="u") for name in "abcd"])
    store.add([replace(complaint("e", "train"), tags={"toxic": "true"})])
    p_sat = {"a": 0.9, "b": 0.4, "c": 0.9, "d": 0.9, "e": 0.9}
    store.add_labels(FeedbackLabel(name, 1, 2, "SAT", "judge", "1", p_sat=p) for name, p in p_sat.items())
    store.note_repeats([Repeat("c", "a", 0.9)])
    counts = find_liked(liked, store, "train", 0.5, LabelSettings(max_per_user=1))
    assert counts == {
        "rows": 1,
        f"dropped.{Reason.USER_CAP}": 2,
        f"dropped.{Reason.TOXIC}": 1,
    }
    assert [item.conversation_id for item in read_jsonl(liked, PromptItem)] == ["a"]
    counts = find_liked(liked, store, "train", 0.5, LabelSettings())
    assert (counts["rows"], counts[f"dropped.{Reason.NEAR_DUPLICATE_CONVERSATION}"]) == (2, 1)
    assert counts == find_liked_replies(tmp_path / "sft.jsonl", store, "train", 0.5, LabelSettings())
    prompts = tmp_path / "prompts.jsonl"
    write_jsonl(prompts, list(read_jsonl(liked, PromptItem)) * 3)  # six random turns are asked for, and four are left
    assert find_random(tmp_path / "random.jsonl", store, prompts, "train", 1)["rows"] == 4


def test_held_out_liked_replies_answer_no_request_of_the_training_split(tmp_path):
    """b's request is also one that a liked reply of the training split answers, g's one that a disliked reply answers;
    d nearly repeats a."""
    store = Store(tmp_path / "store")
    asked = {"a": ("train", "x"), "b": ("stop", "x"), "c": ("test", "y"), "d": ("test", "z"), "e": ("stop", "w")}
    asked |= {"f": ("train", "v"), "g": ("test", "v")}
    store.add([replace(complaint(about, split), conversation_id=name) for name, (split, about) in asked.items()])
    store.add_labels(
        FeedbackLabel(name, 1, 2, "DSAT" if name == "f" else "SAT", "judge", "1", p_sat=0.4 if name == "e" else 0.9)
        for name in asked
    )
    store.note_repeats([Repeat("d", "a", 0.9)])
    liked, prompts = tmp_path / "liked.jsonl", tmp_path / "prompts.jsonl"
    find_prompts(prompts, store, LabelSettings(), "train")
    counts = find_heldout_liked(liked, store, 0.5, LabelSettings(), prompts)
    assert counts == {
        "rows": 1,
        f"dropped.{Reason.SEEN_IN_TRAINING}": 2,
        f"dropped.{Reason.NEAR_DUPLICATE_CONVERSATION}": 1,
    }
    rows = read_jsonl(liked, PreferencePair)
    assert [(row.conversation_id, row.chosen[0].content, row.rejected) for row in rows] == [("c", "no idea", ())]


def test_no_user_has_a_limit_among_held_out_liked_replies(tmp_path):
    store, prompts = Store(tmp_path / "store"), tmp_path / "prompts.jsonl"
    store.add(replace(complaint(f"about {n}", "stop"), user_key="one") for n in range(5))
    store.add_labels(FeedbackLabel(f"about {n}", 1, 2, "SAT", "judge", "1", p_sat=0.9) for n in range(5))
    settings = LabelSettings(max_per_user=2)
    find_prompts(prompts, store, settings, "train")
    assert find_heldout_liked(tmp_path / "liked.jsonl", store, 0.5, settings, prompts) == {"rows": 5}


def test_held_out_complaints_share_no_request_with_the_liked_replies_that_are_learned(tmp_path):
    """b complains about a request whose liked reply a the warm start learns from; c about another one."""
    store = Store(tmp_path / "store")
    asked = {"a": ("train", "x"), "b": ("test", "x"), "c": ("stop", "y")}
    store.add([replace(complaint(about, split), conversation_id=name) for name, (split, about) in asked.items()])
    store.add_labels(
        FeedbackLabel(name, 1, 2, "SAT" if name == "a" else "DSAT", "judge", "1", p_sat=0.9, p_dsat=0.9)
        for name in asked
    )
    prompts, held_out = tmp_path / "prompts.jsonl", tmp_path / "heldout.jsonl"
    find_prompts(prompts, store, LabelSettings(), "train")
    learned = find_heldout(held_out, store, LabelSettings(), prompts, min_p_sat=0.5)
    assert learned == {"rows": 1, f"dropped.{Reason.SEEN_IN_TRAINING}": 1}
    assert [row.conversation_id for row in read_jsonl(held_out, PromptItem)] == ["c"]
    assert find_heldout(held_out, store, LabelSettings(), prompts)["rows"] == 2  # liked replies are not learned from


def test_follow_ups_need_no_label_and_their_rows_are_the_number_asked_for(tmp_path):
    store, followed, pairs = Store(tmp_path / "store"), tmp_path / "followed.jsonl", tmp_path / "pairs.jsonl"
    store.add([complaint("a", "train"), complaint("b", "train"), complaint("c", "stop")])
    assert find_follow_ups(followed, store, "train", LabelSettings()) == {"rows": 2}
    assert {item.complaint.content for item in read_jsonl(followed, PromptItem) if item.complaint} == {"That is wrong."}
    recipe = RecipeSettings(name="follow_up", pairs=3)
    counts = build_pairs(pairs, followed, None, recipe)
    assert counts == {"rows": 3, "repeated": 1, "chosen_characters": 7}
    assert all(row.follow_up and not row.rejected for row in read_jsonl(pairs, PreferencePair))


def test_who_has_no_name_is_one_user_per_conversation(tmp_path):
    store, talk = Store(tmp_path / "store"), tuple(Message(("user", "assistant")[i % 2], f"so {i}") for i in range(9))
    store.add([Conversation("a", "test", "a", talk, "train"), Conversation("b", "test", "b", talk[2:], "train")])
    counts = find_follow_ups(tmp_path / "followed.jsonl", store, "train", LabelSettings(max_per_user=2))
    assert counts == {"rows": 4, f"dropped.{Reason.USER_CAP}": 3}


def test_a_chat_without_end_gives_short_prompts_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "MOST_PROMPT_MESSAGES", 4)
    talk = tuple(Message(("user", "assistant")[i % 2], f"That is wrong {i}.") for i in range(40))
    store = Store(tmp_path / "store")
    store.add([Conversation("long", "test", "long", talk, "train")])
    store.add_labels(FeedbackLabel("long", i, i + 1, "DSAT", "judge", "1") for i in range(1, 39, 2))
    counts = find_prompts(tmp_path / "prompts", store, LabelSettings(max_per_user=10), "train")
    assert counts == {"rows": 10, "dropped.user_cap": 9, "without_old_turns": 8}  # who has no name is capped too
    assert [len(item.prompt) for item in read_jsonl(tmp_path / "prompts", PromptItem)] == [1, *[3] * 9]


def test_a_fresh_reply_that_was_cut_makes_a_pair_or_none(tmp_path):
    prompts, fresh, pairs = (tmp_path / name for name in ("prompts", "fresh", "pairs"))
    store = Store(tmp_path / "store")
    store.add([complaint("a", "train")])
    store.add_labels([FeedbackLabel("a", 1, 2, "DSAT", "rating", "1")])
    find_prompts(prompts, store, LabelSettings(), "train")
    (item,) = read_jsonl(prompts, PromptItem)
    write_jsonl(fresh, [Completion(item.prompt_id, 1, 0, False, "a is the first", "length", 1, "w", "t")])
    assert build_pairs(pairs, prompts, fresh, RecipeSettings(), unfinished="match")["rows"] == 1
    counts = build_pairs(pairs, prompts, fresh, RecipeSettings(), unfinished="drop")
    assert (counts["rows"], counts["dropped.truncated"]) == (0, 1)
