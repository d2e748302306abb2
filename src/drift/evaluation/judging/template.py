"""A judge's prompt: the benchmark's own if the user brings it, else in our words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drift.errors import DataError
from drift.evaluation.rows import read_text


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
