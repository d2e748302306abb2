"""The user's held-out requests: those of the test split, each with the reply in the logs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drift.errors import ConfigError, DataError
from drift.evals.replies import EvalRequest
from drift.records import ChatMessage, FeedbackLabel, PromptItem, Reason, Split, read_jsonl, stable_hash
from drift.rundir import layout, load_run
from drift.store import Store
from drift.turns import prompt_of

UNLABELLED = "unlabelled"
Which = Literal["disliked", "all"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`subtype`: what the user disliked about the logged reply, by its label."""

    request: EvalRequest
    conversation_id: str
    subtype: str


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """`seen_in_training`: requests that were dropped because the training split contains the same text."""

    items: tuple[HeldOut, ...]
    seen_in_training: int
    source: str


def heldout_requests(model: str, store: Path | None, which: str, limit: int) -> HeldOutSet:
    """From the store's test split; without a store, from the run that `model` names.

    Raises ConfigError if there is neither, or if `which` is unknown.
    """
    if which not in ("disliked", "all"):
        raise ConfigError(f"--requests {which}: allowed: disliked, all.")
    if store is not None:
        if which == "all":
            return from_store(Store(store), "all", limit)
        return from_store(Store(store), "disliked", limit, remedy="Or take every answered request: --requests all.")
    if not layout.is_run(Path(model)):
        raise ConfigError(f"{model}: not a run, so it has no requests of its own. Name a store with --store DIR.")
    return from_run(Path(model), limit)


def from_store(
    store: Store, which: Which, limit: int, split: Split = "test", remedy: str = "Name another store with --store DIR."
) -> HeldOutSet:
    """Requests whose reply was disliked, or all that were answered. Raises DataError if there is none; `remedy`: what
    the command can do about it."""
    store.require_conversations()
    trained = {stable_hash(messages) for messages in _training_prompts(store)}
    candidates = list(_answered(store, which, split))
    unseen = [item for item in candidates if stable_hash(item.request.messages) not in trained]
    if not unseen:
        missing = "disliked reply" if which == "disliked" else "answered request"
        raise DataError(
            f"{store.path}: the {split} split holds no {missing} that training has not seen. Label the store with "
            f"`drift label`. {remedy}"
        )
    return HeldOutSet(_drawn(unseen, limit), len(candidates) - len(unseen), str(store.path))


def from_run(run: Path, limit: int) -> HeldOutSet:
    """The requests that the run held out for testing. Raises DataError if it has none."""
    view = load_run(run)
    heldout, labels = view.file(layout.HELDOUT), view.file(layout.LABELS)
    rows = read_jsonl(labels, FeedbackLabel) if labels else iter(())
    subtypes = {(label.conversation_id, label.reply_index): label.subtype for label in rows}
    items = read_jsonl(heldout, PromptItem) if heldout else iter(())
    tested = [
        _from_item(item, subtypes.get((item.conversation_id, item.reply_index)))
        for item in items
        if item.split == "test"
    ]
    if not tested:
        raise DataError(f"{run}: holds no held-out request of the test split. Name a store with --store DIR.")
    return HeldOutSet(_drawn(tested, limit), 0, str(run))


def _from_item(item: PromptItem, subtype: str | None) -> HeldOut:
    logged = item.rejected.content if item.rejected else None
    request = EvalRequest(item.prompt_id, item.prompt, logged, item.tools)
    return HeldOut(request, item.conversation_id, subtype or UNLABELLED)


def _training_prompts(store: Store) -> Iterator[tuple[ChatMessage, ...]]:
    for conversation in store.conversations("train"):
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant":
                yield tuple(m.chat() for m in conversation.messages[:i])


def _answered(store: Store, which: Which, split: Split) -> Iterator[HeldOut]:
    for conversation, labels in store.labelled(split):
        disliked = {label.reply_index: label.subtype or "disliked" for label in labels if label.label == "DSAT"}
        for i, message in enumerate(conversation.messages):
            if message.role != "assistant" or (which == "disliked" and i not in disliked):
                continue
            prompt = prompt_of(conversation.messages, i)
            if not isinstance(prompt, Reason):
                request = EvalRequest(
                    stable_hash(conversation.conversation_id, i), prompt, message.content, conversation.tools
                )
                yield HeldOut(request, conversation.conversation_id, disliked.get(i, UNLABELLED))


def _drawn(items: Iterable[HeldOut], limit: int) -> tuple[HeldOut, ...]:
    """Draw by hash: the same items for the same logs, in whatever order they are read."""
    return tuple(sorted(items, key=lambda item: stable_hash("drawn", item.request.item_id))[:limit])
