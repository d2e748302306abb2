"""Stages of pairs over a real store."""

from drift.config import LabelSettings
from drift.pairs.stages import find_heldout, find_prompts
from drift.records import Conversation, FeedbackLabel, Message, PromptItem, Reason, Split, read_jsonl
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
