"""Files behind URLs: `s3://` and `gs://` by pyarrow's own clients, `hf://` and others by fsspec.

Raw logs are read in place, block by block: nothing of them is copied to the disk before it is redacted.
"""

import io
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from drift.disk import files_under
from drift.errors import DataError, DriftError, PrerequisiteError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_S3, _GS, _HF = ("s3", "s3a"), ("gs", "gcs"), ("hf",)
_NOT_FILES = {"http", "https", "sqlite", "postgresql", "postgres"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MAGIC = re.compile(r"[*?\[]")
_BLOCK = 2**23  # of one request: storage answers late and then sends fast
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 10, 60
_EXTRA = "pip install 'drift-training[remote]'"
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of somebody who may do this",
    "gs": "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "Run `hf auth login`, or set HF_TOKEN",
}


def is_remote(name: object) -> bool:
    """Whether a name is the URL of a file or folder on object storage, or on another file system of fsspec."""
    match = _URL.match(name) if isinstance(name, str) else None
    return match is not None and match.group(1).lower() in (*_S3, *_GS, *_HF, *_others())


@lru_cache(1)
def _others() -> frozenset[str]:
    """The schemes that fsspec knows, if it is installed."""
    if find_spec("fsspec") is None:
        return frozenset()
    from fsspec.registry import known_implementations

    return frozenset(known_implementations) - _NOT_FILES


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file behind a URL, as a listing showed it. `version`: changes when its content does, as far as the storage
    tells. It can be read wherever a path of a local file can be."""

    url: str
    size: int
    version: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.url).suffix

    def resolve(self) -> "RemoteFile":
        return self

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, member: str) -> "RemoteFile":
        """A file inside of this archive, for messages."""
        return RemoteFile(f"{self.url}/{member}", 0, self.version)

    def open(self) -> BinaryIO:
        """For reading from any place on. Raises a DriftError of one line."""
        files, path = _storage(self.url)
        with _in_one_line(self.url):
            return io.BufferedReader(_Blocks(self.url, files.open_input_file(path)), _BLOCK)


class _Blocks(io.RawIOBase):
    """pyarrow's file, whose errors are one line that names the URL."""

    def __init__(self, url: str, file) -> None:
        self._url = url
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview", /) -> int:  # type: ignore[override]
        with _in_one_line(self._url):
            return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def list_files(url: str) -> list[RemoteFile]:
    """The file of this URL, or all files below it, or those that match its `*`, `?`, `[...]` and `**`; sorted.

    Raises DataError if there are none, and DataError or PrerequisiteError if the storage cannot be asked.
    """
    from pyarrow.fs import FileSelector, FileType

    files, path = _storage(url)
    place, pattern = _without_pattern(path)
    with _in_one_line(url):
        (info,) = files.get_file_info([place])
        if info.type == FileType.NotFound:
            raise DataError(f"{url}: nothing is there. Name chat logs that exist, or a folder of them.")
        found = [info] if info.type == FileType.File else files.get_file_info(FileSelector(place, recursive=True))
    here = url.removesuffix(path)
    named = [(one.path if path.startswith("/") else one.path.lstrip("/"), one) for one in found]
    listed = [
        (name, one) for name, one in named if one.type == FileType.File and (not pattern or pattern.fullmatch(name))
    ]
    if not listed:
        what = "no file matches this pattern" if pattern else "no file is in this folder"
        raise DataError(f"{url}: {what}. Name chat logs that exist, or a folder of them.")
    return [
        RemoteFile(here + name, one.size or 0, _version(files, one)) for name, one in sorted(listed, key=itemgetter(0))
    ]


def _version(files: "FileSystem", info) -> str:
    """When it was written, by the storage's clock; of fsspec, what identifies its content (`ukey`)."""
    if fsspec := getattr(getattr(files, "handler", None), "fs", None):
        return str(fsspec.ukey(info.path))
    return str(info.mtime_ns)


def _without_pattern(path: str) -> tuple[str, re.Pattern[str] | None]:
    """The folder in which to look, and what the names in it must match."""
    if not _MAGIC.search(path):
        return path.rstrip("/"), None
    parts = path.split("/")
    first = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
    rule = ""
    for number, part in enumerate(parts[first:], first):
        one = "".join(map(_rule, re.findall(r"\[[^]]+\]|.", part)))
        deep = "(?:[^/]+/)*" if number < len(parts) - 1 else "(?:[^/]+/)*[^/]+/"
        rule += deep if part == "**" else f"{one}/"
    place = "/".join(parts[:first])
    return place, re.compile(re.escape(f"{place}/") + rule.removesuffix("/"))


def _rule(token: str) -> str:
    """One sign of a pattern, or its `[...]`, as a regular expression."""
    if token.startswith("[") and len(token) > 1:
        return f"[{token[1:-1].replace('!', '^', 1) if token[1] == '!' else token[1:-1]}]"
    return {"*": "[^/]*", "?": "[^/]"}.get(token, re.escape(token))


@contextmanager
def local_twin(target: str, option: str, *, keep_on_error: bool = False) -> Iterator[Path]:
    """Yield a path to write a file or folder to. For a URL it is a temporary one, uploaded at the end of the block if
    that succeeds; whether the storage can be written is tried before.

    `option`: how the user names the target. `keep_on_error`: what is there when a DriftError ends the block is worth
    keeping, and is uploaded too. Raises DataError if the URL is a folder with something in it.
    """
    if not is_remote(target):
        yield Path(target)
        return
    target = target.rstrip("/")
    with _in_one_line(f"{option} {target}"):
        _check_target(target, option)
    with tempfile.TemporaryDirectory(prefix="drift-upload-") as folder:
        twin = Path(folder) / PurePosixPath(target).name
        try:
            yield twin
        except DriftError as error:
            text = str(error).replace(str(twin), target)
            if keep_on_error and files_under(Path(folder)):
                _upload(Path(folder), target, option)
                text += f" A command that names {target} needs a copy of it on this machine, and its path."
            error.args = (text,)
            raise
        _upload(Path(folder), target, option)


def _check_target(target: str, option: str) -> None:
    """Raises what the storage raises if it cannot be written, and DataError for a folder with something in it."""
    from pyarrow.fs import FileSelector, FileType

    files, path = _storage(target)
    (there,) = files.get_file_info([path])
    if there.type == FileType.Directory and files.get_file_info(FileSelector(path)):
        raise DataError(f"{option} {target}: there is a folder with something in it. Name another: {option} URL.")
    probe = f"{path}.{uuid.uuid4().hex}"
    with files.open_output_stream(probe) as empty:
        empty.write(b"drift tries whether it can write here")
    files.delete_file(probe)


def _upload(folder: Path, target: str, option: str) -> None:
    """Every file of the folder to beside the target: the target itself is one of them, or the folder above them."""
    from pyarrow.fs import LocalFileSystem, copy_files

    files, path = _storage(target)
    beside = path.rpartition("/")[0]
    with _in_one_line(f"{option} {target}"):
        for file in files_under(folder):
            name = file.relative_to(folder).as_posix()
            if "/" in name:
                files.create_dir(f"{beside}/{name}".rpartition("/")[0], recursive=True)
            copy_files(str(file), f"{beside}/{name}", source_filesystem=LocalFileSystem(), destination_filesystem=files)


def _storage(url: str) -> "tuple[FileSystem, str]":
    """The file system of a URL, and the path in it."""
    scheme, _, path = url.partition("://")
    return _file_system(scheme.lower(), os.getpid()), path


@lru_cache(8)
def _file_system(scheme: str, process: int) -> "FileSystem":
    """One for each process: their connections do not survive a fork."""
    from pyarrow import fs

    if scheme in _S3:
        address = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return fs.S3FileSystem(
            region=region or ("us-east-1" if address.netloc else None),
            endpoint_override=address.netloc or None,
            scheme=address.scheme or "https",
            connect_timeout=_SECONDS_TO_CONNECT,
            request_timeout=_SECONDS_TO_ANSWER,
            allow_delayed_open=True,  # small files in one request
        )
    if scheme in _GS:
        server = os.environ.get("STORAGE_EMULATOR_HOST") or ""  # as Google's own libraries name it
        address = urlsplit(server if "://" in server or not server else f"http://{server}")
        own = {"anonymous": True, "scheme": address.scheme, "endpoint_override": address.netloc} if server else {}
        # by default it tries for 15 minutes, also where there are no credentials
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_SECONDS_TO_ANSWER), **own)
    if find_spec("fsspec") is None or (scheme in _HF and find_spec("huggingface_hub") is None):
        raise PrerequisiteError(f"{scheme}://: the library that reads it is missing. Install it: {_EXTRA}")
    import fsspec

    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except ImportError as error:  # fsspec names the package
        raise PrerequisiteError(f"{scheme}://: {' '.join(str(error).split())}") from None


@contextmanager
def _in_one_line(url: str) -> Iterator[None]:
    """Raises what storage says as a DriftError of one line, with the remedy."""
    try:
        yield
    except DriftError:
        raise
    except Exception as error:  # every library has errors of its own
        raise _explained(url, error) from None


_KINDS = (
    (("NO_SUCH_BUCKET", "NoSuchBucket", "bucket does not exist"), "there is no such bucket. Check its name"),
    (("NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "Path does not exist", "NoSuchKey"), "nothing is there. Check the name"),
    (
        ("NETWORK_CONNECTION", "curlCode", "Could not connect", "Connection refused", "resolve host"),
        "the storage does not answer. Check the network and, for a server of your own, AWS_ENDPOINT_URL "
        "(gs://: STORAGE_EMULATOR_HOST)",
    ),
)
_NO_TOKEN = "Could not create a OAuth2 access token"
"""Google's client says so, and then why, which without credentials is that a server of its cloud does not answer."""
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE", "UNRECOGNIZED_CLIENT", "Forbidden", "Unauthorized",
            "HTTP status 403", "HTTP response code 403", "credentials", "EXPIRED_TOKEN", "401 Client",
            "PERMISSION_DENIED", "UNAUTHENTICATED")  # fmt: skip


def _explained(url: str, error: Exception) -> DriftError:
    text = " ".join(str(error).split())
    for words, why in _KINDS:
        if any(word in text for word in words) and _NO_TOKEN not in text:
            return DataError(f"{url}: {why}.")
    scheme = url.rpartition(" ")[2].partition("://")[0].lower()
    family = "s3" if scheme in _S3 else "gs" if scheme in _GS else scheme
    if any(word in text for word in (*_REFUSED, _NO_TOKEN)):
        remedy = _CREDENTIALS.get(family, "Check your credentials")
        return PrerequisiteError(f"{url}: access is denied, or there are no credentials. {remedy}.")
    if isinstance(error, FileNotFoundError):
        return DataError(f"{url}: nothing is there. Check the name.")
    return DataError(f"{url}: {text[:300]}. Check the URL and that you may do this.")
