"""Remove a user or a conversation from a store: for good (`drift forget`), or until its consent comes back."""

import re
from collections.abc import Iterable, Iterator, Set
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from drift.disk import DurableAppender
from drift.endpoint.cache import ANSWERS, Cache
from drift.errors import DataError
from drift.records import read_jsonl, stable_hash, write_jsonl
from drift.store.folder import Folder
from drift.store.forgotten import ForgetSummary, Tombstone, copy_without, read_forgotten
from drift.store.reviews import Review, Reviews
from drift.store.rows import Repeat, file_batches

REPORT = "labels.html"  # of `drift label --report`: it quotes people, and the command can write it again
_KEY = re.compile("[0-9a-f]{16}")
_IDS = ("conversation_id", "source", "source_id", "user_key", "family")


def forget_in(folder: Folder, user: str | None, conversation: str | None) -> ForgetSummary:
    """Remove everything of a user or a conversation: messages, labels, reviews and quarantine notes.

    The tombstone is written first, so that the same command completes one that was interrupted.
    Raises DataError if the store holds neither the id nor a tombstone of it.
    """
    with folder.staging() as staging:
        folder.discard_pieces()  # an ingestion that was killed may have left what this user wrote, unredacted
        manifest = folder.manifest()
        forgotten = read_forgotten(folder.forgotten, manifest.salt)
        users = {stable_hash(manifest.salt, user), user} if user is not None else set()
        ids, families = _matching(folder, users, conversation)
        stones = [("user", key) for key in sorted(users) if _KEY.fullmatch(key)]
        # The id as the user wrote it gets a tombstone too: the same command must find it again.
        named = {conversation} if conversation is not None and ids else set()
        stones += [("conversation", forgotten.key(name)) for name in sorted(ids | families | named)]
        known_before = bool(users & forgotten.users) or (conversation is not None and forgotten.holds(conversation))
        if not ids and not known_before:
            option = f"--user {user}" if conversation is None else f"--conversation {conversation}"
            raise DataError(
                f"{folder.path}: {option}: not found in this store. Use the id of the log, or the id of the store."
            )
        buried = forgotten.users | forgotten.conversations
        _bury(folder.forgotten, [Tombstone(*stone, _now()) for stone in stones if stone[1] not in buried])
        quarantined = _forget_notes(folder, staging, [name for name in (user, conversation) if name])
        reviews = Reviews(folder.path).all(Review)  # an open review page may have written one since
        late = {review.conversation_id for review in reviews if forgotten.holds(review.conversation_id)}
        removed = _remove(folder, staging, ids | late)
        return ForgetSummary(removed.conversations, removed.labels, removed.reviews, quarantined, known_before)


def withdraw_from(folder: Folder, ids: Set[str]) -> int:
    """Remove conversations as `forget_in` does, but without tombstones; returns how many were removed."""
    if not ids:
        return 0
    with folder.staging() as staging:
        stored = {conversation_id for conversation_id, *_ in _stored_ids(folder) if conversation_id in ids}
        return _remove(folder, staging, stored).conversations if stored else 0


@dataclass(frozen=True, slots=True)
class _Removed:
    conversations: int
    labels: int
    reviews: int


def _remove(folder: Folder, staging: Path, ids: set[str]) -> _Removed:
    manifest = folder.manifest()
    generation, counts, files = manifest.generation + 1, {}, {}
    for kind, names in (("conversations", manifest.conversations), ("labels", manifest.labels)):
        counts[kind], files[kind] = 0, []
        for number, name in enumerate(names):
            kept = staging / f"{kind}-{number}.parquet"
            removed = copy_without(folder.path / name, kept, ids)
            if removed:
                counts[kind] += removed
                name = f"{kind}/{generation:06d}-{number}.parquet"
                folder.move_in(kept, name)
            files[kind].append(name)
    _forget_repeats(folder, staging, ids)
    reviews = Reviews(folder.path).forget(ids)
    _forget_answers(folder.path / ANSWERS, ids)
    (folder.path / REPORT).unlink(missing_ok=True)
    folder.save(manifest.model_copy(update={"generation": generation, **{k: tuple(v) for k, v in files.items()}}))
    return _Removed(**counts, reviews=reviews)


def _forget_answers(file: Path, ids: set[str]) -> None:
    """Delete a judge's cached requests and answers: they may quote these conversations."""
    if file.exists():
        with closing(Cache(file)) as cache:
            cache.forget(ids)


def _matching(folder: Folder, users: set[str], conversation: str | None) -> tuple[set[str], set[str]]:
    """The ids of the conversations to remove, and of their families: all paths of a tree, or all chats of a session,
    hold the same texts. `conversation` may be the store's id or the log's, also the id of a family. With a user go
    the conversations of the same family that name no user."""
    ids: set[str] = set()
    families: set[str] = set()
    for conversation_id, source, source_id, user_key, family in _stored_ids(folder):
        if conversation is None:
            matches = user_key in users
        else:
            # A redacted source_id may equal that of another conversation; the hash was taken before redaction.
            is_redacted = source_id is not None and "<" in source_id
            names = (conversation_id, conversation_id if is_redacted else source_id)
            matches = conversation in names or stable_hash(source, conversation) in (conversation_id, family)
        if matches:
            ids.add(conversation_id)
            families |= {family} if family else set()
    for conversation_id, *_, user_key, family in _stored_ids(folder) if families else ():
        if family in families and (conversation is not None or user_key is None):
            ids.add(conversation_id)
    return ids, families if conversation is not None else set()


def _stored_ids(folder: Folder) -> Iterator[tuple[str, str, str | None, str | None, str | None]]:
    """Yield conversation_id, source, source_id, user_key and family of each conversation."""
    for name in folder.manifest().conversations:
        for batch in file_batches(folder.path / name, _IDS):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _bury(file: Path, stones: Iterable[Tombstone]) -> None:
    """Add tombstones. They are on the disk before anything is removed."""
    with closing(DurableAppender(file)) as out:
        out.append(b"".join(orjson.dumps(stone, option=orjson.OPT_APPEND_NEWLINE) for stone in stones))


def _forget_notes(folder: Folder, staging: Path, names: list[str]) -> int:
    """Delete the quarantine notes that quote one of these ids; returns how many there were."""
    if not folder.quarantine.exists():
        return 0
    removed, kept = 0, staging / "quarantine-kept.jsonl"
    quoted = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in names))
    with folder.quarantine.open("rb") as notes, kept.open("wb") as out:
        for line in notes:
            if quoted.search(orjson.loads(line)["detail"]):
                removed += 1
            else:
                out.write(line)
    if removed:
        folder.move_in(kept, folder.quarantine.name)
    return removed


def _forget_repeats(folder: Folder, staging: Path, ids: set[str]) -> None:
    if folder.repeats.exists():
        kept = staging / "repeats.jsonl"
        write_jsonl(kept, (r for r in read_jsonl(folder.repeats, Repeat) if not ids & {r.conversation_id, r.of}))
        folder.move_in(kept, folder.repeats.name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
