"""A store's folder. manifest.json names the Parquet files that count and is replaced last, so that a write happens
whole or not at all; whatever an interrupted command leaves behind is ignored and swept up by the next one.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from drift.disk import fsync_path
from drift.errors import DataError, disk_trouble, first_problem

_LEFT_BEHIND = (".manifest.json.tmp", ".staging")  # by a command that was killed before its store had a manifest


class StoreManifest(BaseModel):
    """`conversations` and `labels`: files, relative to the store. `generation` counts the writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    generation: int = 0
    salt: str
    conversations: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class Folder:
    """Raises DataError if `path` is a file, or a folder with other things in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.quarantine = path / "quarantine.jsonl"
        self.forgotten = path / "forgotten.jsonl"
        self.repeats = path / "near_duplicates.jsonl"
        if path.exists() and not path.is_dir():
            raise DataError(f"{path}: a store is a folder, this is a file. Name another one with --store DIR.")
        self.manifest()

    def manifest(self) -> StoreManifest:
        """What is committed; for a store that does not exist yet: nothing, and a new salt."""
        file = self.path / "manifest.json"
        if not file.exists():
            if self.path.exists() and any(entry.name not in _LEFT_BEHIND for entry in self.path.iterdir()):
                raise DataError(
                    f"{self.path}: this folder is no store, but not empty. Name a new one with --store DIR."
                )
            return StoreManifest(salt=secrets.token_hex(16))
        try:
            return StoreManifest.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise DataError(
                f"{file}: no manifest of a store that this version reads: {first_problem(error)}. Name another with "
                "--store DIR."
            ) from None

    def save(self, manifest: StoreManifest) -> None:
        """The moment from which a write counts; then the files that no longer count are removed."""
        temporary = self.path / ".manifest.json.tmp"
        temporary.write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        fsync_path(temporary)
        temporary.replace(self.path / "manifest.json")
        fsync_path(self.path)
        for name in ("conversations", "labels"):
            for file in (self.path / name).glob("*.parquet"):
                if f"{name}/{file.name}" not in (*manifest.conversations, *manifest.labels):
                    file.unlink()

    def move_in(self, file: Path, name: str) -> None:
        """Bring a finished file to its place; it does not count before the manifest names it."""
        place = self.path / name
        place.parent.mkdir(exist_ok=True)
        fsync_path(file)
        file.replace(place)
        fsync_path(place.parent)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for what is not committed yet; one writer at a time. What an error leaves empty is removed."""
        made, manifest = not self.path.exists(), self.manifest()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_trouble(error) or DataError(
                f"{self.path}: cannot be made: {error.strerror}. Name another folder with --store DIR."
            ) from None
        with self._locked():
            fresh, staging = not (self.path / "manifest.json").exists(), self.path / ".staging"
            try:
                if fresh:
                    self.save(manifest)
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir()
                yield staging
                shutil.rmtree(staging)
            except BaseException:
                for entry in list(self.path.iterdir()) if fresh else [staging]:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
                if made and fresh:
                    self.path.rmdir()
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{self.path}: another command is writing here. Wait for it and run this again."
                ) from None
            yield
        finally:
            os.close(handle)
