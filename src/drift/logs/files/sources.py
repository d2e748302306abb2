"""Find logs: a file, the files of a folder, a glob or a zip archive, also behind URLs, `-` for stdin, or a database."""

import glob
import itertools
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drift.errors import DataError
from drift.logs.files.databases import database_of, is_url
from drift.logs.files.opening import (
    KINDS,
    STDIN,
    AnyFile,
    Progress,
    Repair,
    kind_of,
    open_file,
    size_of,
)
from drift.logs.files.remote import RemoteFile, is_remote, list_files
from drift.logs.files.rows import LogRow, Reject, read_rows

ARCHIVE = ".zip"
SUFFIXES = tuple(kind + packed for kind in KINDS for packed in ("", ".gz", ".zst"))


class NotALog(DataError):
    """A file holds no rows, or none of a known format. `why`: in a few words."""

    def __init__(self, name: str, why: str, remedy: str) -> None:
        super().__init__(f"{name}: {why}. {remedy}")
        self.why = why


class Source(Protocol):
    """Where rows come from. `name`: for people, without secrets. `size`: bytes, for progress; 0 if unknown.
    `is_named`: the user named it, so it must be a log; others are skipped if they are none. `has_columns`: each row
    names all columns, also the empty ones."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def is_named(self) -> bool: ...
    @property
    def has_columns(self) -> bool: ...
    def rows(self, progress: Progress, repairs: Counter[Repair]) -> Iterator[LogRow | Reject]: ...


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file, also one behind a URL, or stdin."""

    path: AnyFile
    is_named: bool = True

    @property
    def name(self) -> str:
        return "-" if self.path == STDIN else str(self.path.resolve())

    @property
    def size(self) -> int:
        return 0 if self.path == STDIN else size_of(self.path)

    @property
    def has_columns(self) -> bool:
        return kind_of(self.path) in (".csv", ".tsv", ".parquet")

    def rows(self, progress: Progress, repairs: Counter[Repair]) -> Iterator[LogRow | Reject]:
        return read_rows(self.path, progress, repairs)


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in a zip archive, as chat applications pack their exports. `size`: in bytes, unpacked."""

    archive: AnyFile
    member: str
    size: int
    is_named: bool = False

    @property
    def name(self) -> str:
        return str(self.archive.resolve() / self.member)

    @property
    def has_columns(self) -> bool:
        return kind_of(Path(self.member)) in (".csv", ".tsv")

    def rows(self, progress: Progress, repairs: Counter[Repair]) -> Iterator[LogRow | Reject]:
        return read_rows(self.archive, progress, repairs, self.member)


@dataclass(frozen=True, slots=True)
class FoundLogs:
    """`skipped`: files of folders that are no logs, and why."""

    sources: list[Source]
    skipped: dict[str, str]


def find_logs(logs: Sequence[Path | str]) -> FoundLogs:
    """The logs that paths and URLs name, each once; those of a folder or a glob are sorted.

    Raises DataError if one is missing, or if one that is named itself is empty.
    """
    databases = list(dict.fromkeys(database_of(str(log)) for log in logs if is_url(log) and not is_remote(log)))
    found: dict[AnyFile, bool] = {}
    others: dict[str, str] = {}
    for log in logs:
        if is_remote(log):
            for file in _remote_files(str(log), others):
                found[file] = found.get(file, False) or file.url == log
        elif not is_url(log):
            path = Path(log)
            for file in [path] if path == STDIN else _files_at(path, others):
                found[file] = found.get(file, False) or file == path
    names = {str(file) for file in found}
    skipped = {name: why for name, why in others.items() if name not in names}
    sources: list[Source] = []
    for file, is_named in found.items():
        if file != STDIN and file.suffix.lower() == ARCHIVE and size_of(file):
            sources += _members(file, is_named, skipped)
        elif file == STDIN or size_of(file):
            sources.append(LogFile(file, is_named))
        elif is_named:
            raise DataError(f"{file}: the file is empty. Leave it out, or export the log again.")
        else:
            skipped[str(file)] = "the file is empty"
    return FoundLogs([*sources, *databases], skipped)


def _members(archive: AnyFile, is_named: bool, skipped: dict[str, str]) -> list[Source]:
    """The logs in an archive. Raises DataError if the user named it and there are none."""
    try:
        with open_file(archive) as file, zipfile.ZipFile(file) as opened:
            files = [info for info in opened.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        if is_named:
            raise DataError(f"{archive}: a damaged zip archive: {error}. Download it again.") from None
        skipped[str(archive)] = "a damaged zip archive"
        return []
    in_zip = tuple(suffix for suffix in SUFFIXES if not suffix.startswith(".parquet"))
    logs = [info for info in files if info.filename.lower().endswith(in_zip) and info.file_size]
    for info in files:
        if info not in logs:
            skipped[str(archive.resolve() / info.filename)] = "another kind of file"
    if not logs and is_named:
        raise DataError(f"{archive}: no log in this zip archive; Parquet files have to be unpacked first.")
    return [ZipMember(archive, info.filename, info.file_size) for info in sorted(logs, key=lambda info: info.filename)]


def _remote_files(url: str, others: dict[str, str]) -> list[RemoteFile]:
    """As `_files_at`: the file of this URL, else those of a folder or a pattern whose names are of logs."""
    files = list_files(url)
    if [file.url for file in files] == [url]:
        return files
    logs = [file for file in files if file.name.lower().endswith((*SUFFIXES, ARCHIVE))]
    if not logs:
        raise DataError(f"{url}: no {_kinds()} file in this folder. Name the log files themselves.")
    of_logs = set(logs)
    others |= {file.url: "another kind of file" for file in files if file not in of_logs}
    return logs


def _files_at(path: Path, others: dict[str, str]) -> list[Path]:
    if path.is_dir():
        files = sorted(_files_below(path, others))
        logs = [file for file in files if file.name.lower().endswith((*SUFFIXES, ARCHIVE))]
        if not logs:
            raise DataError(f"{path}: no {_kinds()} file in this folder. Name the log files themselves.")
        of_logs = set(logs)
        others |= {str(file): "another kind of file" for file in files if file not in of_logs}
        return logs
    if path.exists():
        return [path]
    named = list(map(Path, glob.glob(str(path), recursive=True)))
    others |= {str(link): "a link to nothing" for link in named if not link.exists()}
    matches = sorted(file for file in named if file.is_file())
    if not matches:
        what = "no file matches this pattern" if glob.has_magic(str(path)) else "no such file or folder"
        raise DataError(f"{path}: {what}. Name the chat logs: drift ingest LOGS... --store DIR")
    return matches


def _files_below(folder: Path, others: dict[str, str]) -> Iterator[Path]:
    """The files of a folder and of all folders in it, also behind links; those of a folder once: links come
    last, so that a file has its own name here if it has one. `others` gets the links to nothing or to a folder that
    holds them, and the folders that cannot be read."""

    def unreadable(error: OSError) -> None:
        others[str(error.filename)] = f"cannot be read: {error.strerror}"

    root, seen = folder.resolve(), set[Path]()
    places = [folder]
    for name, folders, files in itertools.chain.from_iterable(os.walk(start, onerror=unreadable) for start in places):
        place = Path(name)
        if (real := place.resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for link in [place / inner for inner in folders if (place / inner).is_symlink()]:
            if any(below.is_relative_to(link.resolve()) for below in (real, root)):
                others[str(link)] = "a link to a folder that holds it"
            else:
                places.append(link)
        for file in map(place.joinpath, files):
            if file.is_file():
                yield file
            elif file.is_symlink():
                others[str(file)] = "a link to nothing"


def _kinds() -> str:
    return f"{', '.join(KINDS)} (also .gz, .zst)"
