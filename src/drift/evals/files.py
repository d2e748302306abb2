"""Rows of other people's files: JSON arrays, JSON Lines or Parquet, checked one by one at the border."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from drift.errors import DataError, PrerequisiteError


class PublicRow(BaseModel):
    """A row of a public file: what we read of it is checked, what we do not know is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


AnyRow = TypeVar("AnyRow", bound=PublicRow)


def read_rows(path: Path, row: type[AnyRow]) -> list[AnyRow]:
    """Every row of the file. Raises DataError with file:line (or the element's number) for the first that is none."""
    rows = []
    for where, value in _values(path):
        try:
            rows.append(row.model_validate(value))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "row"
            raise DataError(f"{path}:{where}: {field}: {first['msg']}, not {_short(first['input'])}.") from None
    if not rows:
        raise DataError(f"{path}: holds no row.")
    return rows


def read_json(path: Path) -> Any:
    """One JSON value. NaN is accepted, because the public files hold it. Raises DataError."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: no JSON: {error.msg}.") from None


def read_text(path: Path) -> str:
    """Raises DataError if there is no such file, or if it is no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}.") from None


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif read_text(path).lstrip().startswith("["):
        yield from ((f"element {number}", value) for number, value in enumerate(read_json(path), 1))
    else:
        yield from _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield str(number), json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: no JSON: {error.msg}. One object per line, or one array.") from None


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        values = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}.") from None
    yield from ((f"row {number}", value) for number, value in enumerate(values, 1))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def locate_dataset(given: Path | None, repository: str, name: str) -> Path:
    """`given`, or `name` of the data set `repository` on the Hugging Face hub (downloaded once, then cached there).

    Raises DataError if the given file is not there, PrerequisiteError naming the file to bring
    if the hub cannot be reached.
    """
    if given is not None:
        if not given.is_file():
            raise DataError(f"{given}: there is no such file. --data takes {name} of {repository}.")
        return given
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise PrerequisiteError(
            f"huggingface.co/datasets/{repository} cannot be reached ({type(error).__name__}). Bring the file {name} "
            "from there and name it: --data FILE."
        ) from None


@dataclass(frozen=True, slots=True)
class Template:
    """`official`: the user brought the benchmark's own prompt; what is in it cannot be checked here."""

    text: str
    official: bool


def read_template(path: Path | None, own: str, places: Sequence[str]) -> Template:
    """The file's, else `own`. Raises DataError if one of the `places` for a text is missing."""
    if path is None:
        return Template(own, False)
    text = read_text(path)
    missing = [place for place in places if place not in text]
    if missing:
        raise DataError(f"{path}: no judge's prompt of this benchmark: {', '.join(missing)} missing.")
    return Template(text, True)


def filled(text: str, values: Mapping[str, str]) -> str:
    """All places at once, so that a value that looks like a place stays as it is."""
    place = re.compile("|".join(map(re.escape, values)))
    return place.sub(lambda found: values[found[0]], text)
