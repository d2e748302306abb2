"""What a benchmark publishes as files: rows of results, the data set with its tasks, and the prompt of its judge.

1. `read_rows`: a public file of rows (JSON array, JSON Lines or Parquet), each row checked.
2. `locate_dataset`: the benchmark's data set, from a given file or from the Hugging Face hub.
3. `read_template`, `filled`: the judge's prompt, the benchmark's own or ours.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from drift.errors import DataError, PrerequisiteError


class PublicRow(BaseModel):
    """A row of a public file: the fields that we read are checked, other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


AnyRow = TypeVar("AnyRow", bound=PublicRow)


def read_rows(path: Path, row: type[AnyRow]) -> list[AnyRow]:
    """Every row of the file. Raises DataError naming file:line (or the element's number) of the first invalid one."""
    rows = []
    for place, value in _values(path):
        try:
            rows.append(row.model_validate(value))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "row"
            raise DataError(f"{path}:{place}: {field}: {first['msg']}, not {_short(first['input'])}.") from None
    if not rows:
        raise DataError(f"{path}: holds no rows.")
    return rows


def read_json(path: Path) -> Any:
    """One JSON value; NaN is accepted, because public files contain it. Raises DataError."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: invalid JSON: {error.msg}.") from None


def read_text(path: Path) -> str:
    """Raises DataError if the file does not exist or is not UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
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
            raise DataError(
                f"{path}:{number}: invalid JSON: {error.msg}. Expected one object per line, or one array."
            ) from None


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


def locate_dataset(local: Path | None, repository: str, name: str) -> Path:
    """`local`, else the file `name` of the Hugging Face data set `repository` (downloaded once, then cached).

    Raises DataError if `local` does not exist, PrerequisiteError naming the file to download if the hub is not reached.
    """
    if local is not None:
        if not local.is_file():
            raise DataError(f"{local}: no such file. --data takes the file {name} of {repository}.")
        return local
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise PrerequisiteError(
            f"huggingface.co/datasets/{repository} cannot be reached ({type(error).__name__}). Download {name} "
            "from there and name the file: --data FILE."
        ) from None


@dataclass(frozen=True, slots=True)
class Template:
    """`official`: a file that the user named as the benchmark's own prompt; its text cannot be checked here."""

    text: str
    official: bool


def read_template(path: Path | None, own: str, places: Sequence[str]) -> Template:
    """The file's, else `own`. Raises DataError if one of the placeholders `places` is missing."""
    if path is None:
        return Template(own, False)
    text = read_text(path)
    missing = [place for place in places if place not in text]
    if missing:
        raise DataError(f"{path}: not a judge prompt of this benchmark: {', '.join(missing)} missing.")
    return Template(text, True)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Fill all placeholders in one pass, so that a value that contains a placeholder stays as it is."""
    placeholder = re.compile("|".join(map(re.escape, values)))
    return placeholder.sub(lambda match: values[match[0]], text)
