"""The errors that a command reports as one line, always with the remedy."""

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# Messages of libraries that write for us and raise no OSError with a number.
_FULL = ("No space left on device", "os error 28", "disk is full", "Disk quota exceeded")
_READ_ONLY = ("Read-only file system", "os error 30", "readonly database")


class DriftError(Exception):
    """The command cannot go on. The message names the place, the value, what is allowed and the next command."""


class ConfigError(DriftError):
    """A setting is unknown, misspelt or out of range."""


class DataError(DriftError):
    """A file, a row or a folder cannot be used, or no rows are left."""


class NothingToTrainOn(DataError):
    """No preference pairs are left. The run adds the funnel: how many rows each step dropped, and why."""


class PrerequisiteError(DriftError):
    """Something outside the project is missing: an extra, a model folder, a device."""


def first_problem(error: "ValidationError", subject: str = "file") -> str:
    """The first problem as `field.inner: why`; `subject` stands for the field if the problem is in no single field."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or subject}: {first['msg']}"


def disk_trouble(error: BaseException) -> DriftError | None:
    """A one-line error with the remedy if a full or protected disk is the cause of `error`; None for other causes."""
    cause: BaseException | None = error
    while cause is not None:
        code, message = getattr(cause, "errno", None), str(cause)
        place = getattr(cause, "filename", None)
        where = f"{place}: " if place else ""
        if code in (errno.ENOSPC, errno.EDQUOT) or any(words in message for words in _FULL):
            return DriftError(
                f"{where}the disk is full. Free some space and run the same command again: finished work is kept."
            )
        if code == errno.EROFS or any(words in message for words in _READ_ONLY):
            return DriftError(f"{where}the file system is read-only. Name another folder: --out DIR or --store DIR.")
        if code in (errno.EACCES, errno.EPERM):
            return DriftError(f"{where}permission denied. Change its permissions, or name another file or folder.")
        cause = cause.__cause__ or cause.__context__
    return None
