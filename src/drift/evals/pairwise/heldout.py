"""The user's held-out requests: those of the test split, each with the reply in the logs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drift.errors import ConfigError, DataError
from drift.evals.replies import EvalRequest
from drift.records import ChatMessage, FeedbackLabel, PromptItem, ReadMark, Reason, read_jsonl, stable_hash
from drift.rundir import RunView, layout, load_run, run_of
from drift.store import Store, store_of
from drift.turns import prompt_of

UNLABELLED = "unlabelled"
OTHER_STORE = "Name another store with --store DIR."
OTHER_REQUESTS = "Or take every answered request: --requests all."
Which = Literal["disliked", "all"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`subtype`: what the user disliked about the logged reply, by its label. `user`, `chat`: whose request it is, as
    `Conversation` says."""

    request: EvalRequest
    conversation_id: str
    subtype: str
    user: str
    chat: str


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """`seen_in_training`: requests that were dropped because the training split contains the same text."""

    items: tuple[HeldOut, ...]
    seen_in_training: int
    source: str


def heldout_requests(models: Sequence[str], store: Path | None, which: str, limit: int) -> HeldOutSet:
    """From the store's test split, as the run of the first model that belongs to one splits it; without a store, from
    the run that the first model is. What another of the models was trained on is left out, as far as the store tells.
    Raises ConfigError if there is neither, or if `which` is unknown.
    """
    if which not in ("disliked", "all"):
        raise ConfigError(f"--requests {which}: allowed: disliked, all.")
    if store is not None:
        first, *others = stores_for(models, store)
        return from_store(first, which, limit, OTHER_REQUESTS if which == "disliked" else OTHER_STORE, others)
    run = Path(models[0])
    if not layout.is_run(run):
        raise ConfigError(f"{run}: not a run, so it has no requests of its own. Name a store with --store DIR.")
    own = store_of(load_run(run))
    return from_run(run, limit, stores_for(models, own.path)[1:] if own else ())


def stores_for(models: Sequence[str], path: Path) -> list[Store]:
    """The store as the first run among the models splits it, so that nothing that it was trained on is held out; then
    as others do that were trained on other parts of it. Without a run: with the splits of ingestion."""
    runs = [load_run(run) for model in models if (run := run_of(model))]
    first, *others = [_split_as(run, path) for run in runs] or [Store(path)]
    return [first, *(other for other in others if not _shares_splits(other, first))]


def _split_as(run: RunView, path: Path) -> Store:
    evaluation = run.settings.get("evaluation")
    if not isinstance(evaluation, dict) or evaluation.get("split") != "time":
        return Store(path)
    marks = run.state.read
    if run.state.store_id not in (None, Store(path).store_id()):  # the numbers of its writes say nothing here
        cuts = [mark.cuts for mark in marks if mark.cuts]  # the latest ones: older logs may have come later
        marks = (ReadMark(None, 0, tuple(map(max, *cuts)) if len(cuts) > 1 else cuts[0]),) if cuts else ()
    return Store(path, "time", marks)


def _shares_splits(store: Store, other: Store) -> bool:
    """By hash, or in one chain, where `other` is of the same or of a later generation."""
    is_earlier = store.marks == other.marks[: len(store.marks)]
    return store.split_by == other.split_by and (is_earlier or store.split_by == "hash")


def from_store(
    store: Store, which: Which, limit: int, remedy: str = OTHER_STORE, others: Sequence[Store] = ()
) -> HeldOutSet:
    """Requests of the test split whose reply was disliked, or all that were answered. Raises DataError if there is
    none. `remedy`: what the command can do about it; `others`: the same store as other runs split it: what these were
    trained on is left out too."""
    store.require_conversations()
    trained = {stable_hash(messages) for each in (store, *others) for messages in _training_prompts(each)}
    candidates = list(_answered(store, which))
    unseen = [item for item in candidates if stable_hash(item.request.messages) not in trained]
    if not unseen:
        missing = "disliked reply" if which == "disliked" else "answered request"
        why = "Label the store with `drift label`."
        if store.split_by == "time":
            why = (
                "The run holds out the latest conversations: none without a time, and of another store none before the "
                "end of its training. If that is not why, label the store with `drift label`."
            )
        raise DataError(f"{store.path}: the test split holds no {missing} that training has not seen. {why} {remedy}")
    return HeldOutSet(_drawn(unseen, limit), len(candidates) - len(unseen), str(store.path))


def from_run(run: Path, limit: int, others: Sequence[Store] = ()) -> HeldOutSet:
    """The requests that the run held out for testing. Raises DataError if it has none. `others`: its store as other
    runs split it: conversations that these were trained on are left out."""
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
    trained = trained_in(others)
    unseen = [item for item in tested if item.conversation_id not in trained]
    if not unseen:
        which = " that the other model was not trained on" if tested else ""
        raise DataError(f"{run}: holds no held-out request of the test split{which}. Name a store with --store DIR.")
    return HeldOutSet(_drawn(unseen, limit), len(tested) - len(unseen), str(run))


def trained_in(stores: Sequence[Store]) -> set[str]:
    """The ids of the conversations of their training splits."""
    return {conversation.conversation_id for store in stores for conversation in store.conversations("train")}


def _from_item(item: PromptItem, subtype: str | None) -> HeldOut:
    logged = item.rejected.content if item.rejected else None
    request = EvalRequest(item.prompt_id, item.prompt, logged, item.tools)
    return HeldOut(request, item.conversation_id, subtype or UNLABELLED, item.user, item.chat)


def _training_prompts(store: Store) -> Iterator[tuple[ChatMessage, ...]]:
    for conversation in store.conversations("train"):
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant":
                yield tuple(m.chat() for m in conversation.messages[:i])


def _answered(store: Store, which: Which) -> Iterator[HeldOut]:
    for conversation, labels in store.labelled("test"):
        disliked = {label.reply_index: label.subtype or "disliked" for label in labels if label.label == "DSAT"}
        for i, message in enumerate(conversation.messages):
            if message.role != "assistant" or (which == "disliked" and i not in disliked):
                continue
            prompt = prompt_of(conversation.messages, i)
            if not isinstance(prompt, Reason):
                request = EvalRequest(
                    stable_hash(conversation.conversation_id, i), prompt, message.content, conversation.tools
                )
                ids = conversation.conversation_id, disliked.get(i, UNLABELLED), conversation.user, conversation.chat
                yield HeldOut(request, *ids)


def _drawn(items: Iterable[HeldOut], limit: int) -> tuple[HeldOut, ...]:
    """Draw by hash: the same items for the same logs, in whatever order they are read."""
    return tuple(sorted(items, key=lambda item: stable_hash("drawn", item.request.item_id))[:limit])
