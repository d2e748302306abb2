"""What the user did, or has, that we cannot work with: one line each, always with the remedy."""

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# What the libraries that write for us say of a disk that refuses, where they raise no OSError with a number.
_FULL = ("No space left on device", "os error 28", "disk is full", "Disk quota exceeded")
_READ_ONLY = ("Read-only file system", "os error 30", "readonly database")


class DriftError(Exception):
    """The command cannot go on. The message names the place, the value, what was allowed and the next command."""


class ConfigError(DriftError):
    """A setting is unknown, misspelt or out of range."""


class DataError(DriftError):
    """A file, a row or a whole funnel of rows cannot be used."""


class NothingToTrainOn(DataError):
    """No preference pair came through; whoever knows the whole run adds the funnel."""


class PrerequisiteError(DriftError):
    """Something outside the project is missing: an extra, a model folder, a device."""


def first_problem(error: "ValidationError", whole: str = "file") -> str:
    """What is wrong first, as `field.inner: why`; `whole` stands for the field where it is none of them."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def disk_trouble(error: BaseException) -> DriftError | None:
    """The error that a full or protected disk lies behind, as one line with the remedy; None if it is none of these."""
    seen: BaseException | None = error
    while seen is not None:
        code, said = getattr(seen, "errno", None), str(seen)
        place = getattr(seen, "filename", None)
        where = f"{place}: " if place else ""
        if code in (errno.ENOSPC, errno.EDQUOT) or any(words in said for words in _FULL):
            return DriftError(
                f"{where}the disk is full. Free some space and give the same command again: what is finished is kept."
            )
        if code == errno.EROFS or any(words in said for words in _READ_ONLY):
            return DriftError(f"{where}the file system is read-only. Name a folder elsewhere with --out or --store.")
        if code in (errno.EACCES, errno.EPERM):
            return DriftError(f"{where}permission denied. Change its permissions, or name another file or folder.")
        seen = seen.__cause__ or seen.__context__
    return None
