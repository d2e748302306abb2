"""The folder of a store: its manifest, its lock, and one write at a time that happens completely or not at all.

manifest.json names the Parquet files that count, and is replaced last. What an interrupted command leaves behind is
ignored, and the next writer deletes it.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from drift.disk import FOLDER_LOCK, atomic_write, move_file, take_lock
from drift.errors import DataError, disk_trouble, first_problem
from drift.records import stable_hash
from drift.rundir import layout
from drift.rundir.manifest import former_state
from drift.rundir.view import RunView

_MANIFEST, _STAGING, _PIECES = "manifest.json", ".staging", ".pieces"
_MOST_NAMED = 5  # stores in a message
_UNFINISHED_MANIFESTS = f".{_MANIFEST}.*"  # temporary files of a killed `save`, also of earlier versions


class StoreManifest(BaseModel):
    """STORE/manifest.json. `conversations`, `labels`: files, relative to the store. `generation` counts the writes.

    `privacy`: of the latest ingestion, its settings of redaction and consent. Left out of the file if there are none,
    so that earlier versions can read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    generation: int = 0
    salt: str
    conversations: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    privacy: dict[str, Any] = {}

    @property
    def consent(self) -> dict[str, str]:
        """The tags that a conversation must have to be read, with their values."""
        return self.privacy.get("require_consent", {})

    @property
    def store_id(self) -> str:
        """The same for a store that was moved, another one for every other store."""
        return stable_hash("store", self.salt)


class Folder:
    """The files of one store. Raises DataError if `path` is a file, or a folder that holds something else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.quarantine = path / "quarantine.jsonl"
        self.forgotten = path / "forgotten.jsonl"
        self.repeats = path / "near_duplicates.jsonl"
        if path.exists() and not path.is_dir():
            raise DataError(f"{path}: is a file, but a store is a folder. Name another one: --store DIR.")
        self.manifest()

    def manifest(self) -> StoreManifest:
        """What is committed. A store that does not exist yet gets an empty manifest with a new salt."""
        file = self.path / _MANIFEST
        if not file.exists():
            if self.path.exists() and not all(map(_is_leftover, self.path.iterdir())):
                inside = _stores_meant_by(self.path)
                remedy = _named(inside, "It holds a store", "It holds stores") or "Name another one: --store DIR"
                raise DataError(f"{self.path}: this folder is not a store, and not empty. {remedy}.")
            return StoreManifest(salt=secrets.token_hex(16))
        try:
            return StoreManifest.model_validate_json(file.read_bytes())
        except ValidationError as error:
            if not _has_salt(file):
                inside = _stores_meant_by(self.path)
                remedy = _named(inside, "Its store", "Its stores") or "Name its store: --store DIR"
                raise DataError(f"{self.path}: this folder is a run, not a store. {remedy}.") from None
            raise DataError(
                f"{file}: not a manifest that this version reads: {first_problem(error)}. Name another: --store DIR."
            ) from None

    def save(self, manifest: StoreManifest) -> None:
        """Commit: from here on the write counts. Then delete the Parquet files that no longer count."""
        unset = None if manifest.privacy else {"privacy"}
        atomic_write(self.path / _MANIFEST, manifest.model_dump_json(indent=2, exclude=unset).encode())
        for name in ("conversations", "labels"):
            for file in (self.path / name).glob("*.parquet"):
                if f"{name}/{file.name}" not in (*manifest.conversations, *manifest.labels):
                    file.unlink()
        self.discard_pieces()  # of work on what the store was before

    def set_privacy(self, privacy: dict[str, Any]) -> None:
        if privacy != self.manifest().privacy:
            with self.staging():
                self.save(self.manifest().model_copy(update={"privacy": privacy}))

    def paths(self, files: Iterable[str]) -> list[str]:
        """The files of a manifest, as a query takes them."""
        return [str(self.path / file) for file in files]

    def discard_pieces(self) -> None:
        """Delete what work that was killed has left to go on with."""
        shutil.rmtree(self.path / _PIECES, ignore_errors=True)

    @contextmanager
    def working(self, name: str, plan: str) -> Iterator[Path]:
        """Lock the store and yield `pieces_of`; it is deleted at the end, but kept after an error."""
        with self.staging():
            folder = self.pieces_of(name, plan)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)

    def pieces_of(self, name: str, plan: str) -> Path:
        """The folder for the pieces of some work, which are kept when the work is killed. Those of another plan go."""
        folder = self.path / _PIECES / f"{name}-{plan}"
        for other in folder.parent.glob(f"{name}-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def move_in(self, file: Path, name: str) -> None:
        """Move a finished file into the store as `name`. A Parquet file counts only once the manifest names it."""
        target = self.path / name
        target.parent.mkdir(exist_ok=True)
        move_file(file, target)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Lock the store and yield a folder for what is not committed yet.

        After an error before the first commit, nothing of a new store stays. Raises DataError if another command holds
        the lock, or if the folder cannot be created.
        """
        is_new_folder, manifest = not self.path.exists(), self.manifest()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_trouble(error) or DataError(
                f"{self.path}: cannot create this folder: {error.strerror}. Name another one: --store DIR."
            ) from None
        lock = take_lock(self.path, "--store DIR")
        try:
            is_new_store, staging = not (self.path / _MANIFEST).exists(), self.path / _STAGING
            try:
                for leftover in self.path.glob(_UNFINISHED_MANIFESTS):
                    leftover.unlink()
                if is_new_store:
                    self.save(manifest)
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir()
                yield staging
                shutil.rmtree(staging)
            except BaseException:
                is_resumable = (self.path / _PIECES).exists()  # the same command goes on with them
                for entry in list(self.path.iterdir()) if is_new_store and not is_resumable else [staging]:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
                if is_new_folder and is_new_store and not is_resumable:
                    with suppress(OSError):  # another command may have begun here
                        self.path.rmdir()
                raise
        finally:
            os.close(lock)


def _is_leftover(entry: Path) -> bool:
    """True for what a command that was killed before the first commit may leave."""
    return entry.name in (_STAGING, FOLDER_LOCK) or entry.match(_UNFINISHED_MANIFESTS)


def stores_in(folder: Path) -> list[Path]:
    """The stores in a folder of stores, or in a run's folder, whose stages have manifests too."""
    files = (file for pattern in ("*/", "store/*/") for file in folder.glob(pattern + _MANIFEST))
    return sorted(file.parent for file in files if _has_salt(file))


def named_by_run(folder: Path) -> list[Path]:
    """The store that the config of a run names, if it is one; paths in a config are relative to the working folder."""
    config = folder / "config.yaml"
    try:
        named = yaml.safe_load(config.read_text("utf-8")) if config.exists() else None
    except yaml.YAMLError:
        return []
    store = named.get("store") if isinstance(named, dict) else None
    return [Path(store)] if store and is_store(Path(store)) else []


def _stores_meant_by(folder: Path) -> list[Path]:
    """What may be meant by RUN, RUN/store or a folder of stores: the store that the run has read, else all of them."""
    above = folder.resolve().parent
    run = above if folder.resolve().name == layout.STORE and layout.is_run(above) else folder
    state, stores = former_state(run), stores_in(folder)
    read = [store for store in stores if state and state.store_id == store_id_in(store)]
    return named_by_run(run) or read or stores


def _named(stores: Sequence[Path], one: str, several: str) -> str:
    """For a message: which stores there are; empty if there are none."""
    shown = ", ".join(f"--store {store}" for store in stores[:_MOST_NAMED])
    more = f", and {len(stores) - _MOST_NAMED} more" if len(stores) > _MOST_NAMED else ""
    return f"{one if len(stores) == 1 else several}: {shown}{more}" if stores else ""


def folder_of_run_store(run: RunView) -> Path | None:
    """Where the run's store is; None if it is gone. Other logs leave another store in the run's folder: of those, it is
    the one that the run has read."""
    stores = [folder for folder in run.store_folders if is_store(folder)]
    if run.settings.get("store") or run.state.store_id is None:  # or a run of an earlier version
        return next(iter(stores), None)
    ids = {folder: store_id_in(folder) for folder in stores}
    read = [folder for folder in stores if ids[folder] == run.state.store_id]
    damaged = [folder for folder in stores if ids[folder] is None]  # opening it says what is wrong
    return next(iter(read + damaged), None)


def store_id_in(folder: Path) -> str | None:
    """The id of the store in this folder; None if its manifest is damaged."""
    try:
        return StoreManifest.model_validate_json((folder / _MANIFEST).read_bytes()).store_id
    except ValidationError:
        return None


def _has_salt(manifest: Path) -> bool:
    """Whether a manifest is one of a store. A damaged one is: its own error says what is wrong with it."""
    try:
        return "salt" in orjson.loads(manifest.read_bytes())
    except orjson.JSONDecodeError:
        return True


def is_store(folder: Path) -> bool:
    return (folder / _MANIFEST).is_file()
