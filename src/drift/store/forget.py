"""Taking a user or a conversation out of a store: for good, or until its consent comes back."""

import os
import re
from collections.abc import Iterable, Iterator, Set
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from drift.endpoint.cache import ANSWERS, Cache
from drift.errors import DataError
from drift.records import read_jsonl, stable_hash, write_jsonl
from drift.store.folder import Folder
from drift.store.forgotten import ForgetSummary, Forgotten, Tombstone, copy_without, read_forgotten
from drift.store.reviews import Reviews
from drift.store.rows import Repeat, file_batches

REPORT = "labels.html"  # of `drift label --report`: it quotes people, and is written anew when it is asked for
_KEY = re.compile("[0-9a-f]{16}")
_IDS = ("conversation_id", "source", "source_id", "user_key", "family")


def forget_in(folder: Folder, user: str | None, conversation: str | None) -> ForgetSummary:
    """Remove what belongs to a user or to a conversation: its messages, labels, reviews and notes of quarantine.

    The tombstone is written first, so that a command that was cut off is completed by giving it again.
    Raises DataError if the store knows neither the id nor a tombstone of it.
    """
    with folder.staging() as staging:
        manifest = folder.manifest()
        known = read_forgotten(folder.forgotten, manifest.salt)
        users = {stable_hash(manifest.salt, user), user} if user is not None else set()
        ids, families = _matching(folder, users, conversation)
        stones = [("user", key) for key in sorted(users) if _KEY.fullmatch(key)]
        named = {conversation} if conversation is not None and ids else set()  # so that it is known when given again
        stones += [("conversation", known.key(name)) for name in sorted(ids | families | named)]
        known_before = _is_known(known, users, conversation)
        if not ids and not known_before:
            raise DataError(_unknown(folder.path, user, conversation))
        buried = known.users | known.conversations
        _bury(folder.forgotten, [Tombstone(*stone, _now()) for stone in stones if stone[1] not in buried])
        quarantined = _forget_notes(folder, staging, [name for name in (user, conversation) if name])
        removed = _remove(folder, staging, ids)
        return ForgetSummary(removed.conversations, removed.labels, removed.reviews, quarantined, known_before)


def withdraw_from(folder: Folder, ids: Set[str]) -> int:
    """Remove conversations, as `forget_in` does, but without a tombstone; returns how many there were."""
    if not ids:
        return 0
    with folder.staging() as staging:
        found = {ident for ident, *_ in _known_ids(folder) if ident in ids}
        return _remove(folder, staging, found).conversations if found else 0


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
    """What a judge was told and answered about them may quote them."""
    if file.exists():
        with closing(Cache(file)) as cache:
            cache.forget(ids)


def _matching(folder: Folder, users: set[str], conversation: str | None) -> tuple[set[str], set[str]]:
    """Ids of the conversations that are meant, and of their families: the paths of one tree and the conversations of
    one session hold the same texts. `conversation` may be our id or the log's own, also of a family. With a user
    go those of a family that name no user."""
    ids: set[str] = set()
    families: set[str] = set()
    for ident, source, source_id, user_key, family in _known_ids(folder):
        if conversation is None:
            meant = user_key in users
        else:  # what the log calls it may have been redacted, to what others were: its hash has not
            redacted = source_id is not None and "<" in source_id
            named = ident if redacted else source_id
            meant = conversation in (ident, named) or stable_hash(source, conversation) in (ident, family)
        if meant:
            ids.add(ident)
            families |= {family} if family else set()
    for ident, *_, user_key, family in _known_ids(folder) if families else ():
        if family in families and (conversation is not None or user_key is None):
            ids.add(ident)
    return ids, families if conversation is not None else set()


def _known_ids(folder: Folder) -> Iterator[tuple[str, str, str | None, str | None, str | None]]:
    """Of each conversation: conversation_id, source, source_id, user_key, family."""
    for name in folder.manifest().conversations:
        for batch in file_batches(folder.path / name, _IDS):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _is_known(known: Forgotten, users: set[str], conversation: str | None) -> bool:
    return bool(users & known.users) or (conversation is not None and known.holds(conversation))


def _bury(file: Path, stones: Iterable[Tombstone]) -> None:
    """Add tombstones; they are on the disk before anything is removed."""
    with file.open("ab") as out:
        for stone in stones:
            out.write(orjson.dumps(stone, option=orjson.OPT_APPEND_NEWLINE))
        out.flush()
        os.fsync(out.fileno())


def _forget_notes(folder: Folder, staging: Path, names: list[str]) -> int:
    """Quarantine keeps where a row stands and what is wrong with it; a note that quotes the id goes."""
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


def _unknown(store: Path, user: str | None, conversation: str | None) -> str:
    what = f"--user {user}" if conversation is None else f"--conversation {conversation}"
    return f"{store}: {what}: nothing of it in this store. Give the id as the log has it, or as the store does."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
