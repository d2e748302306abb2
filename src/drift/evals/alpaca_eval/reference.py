"""The two fixed files of the length-controlled win rate: each instruction's difficulty, and the gamed baselines."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drift.errors import DataError
from drift.evals.files import read_text

DIFFICULTY, GAMED = "instruction_difficulty", "df_gamed"
OFFICIAL = {f"{DIFFICULTY}.csv", f"{GAMED}.csv"}


@dataclass(frozen=True, slots=True)
class LengthControlReference:
    """`difficulty`: by position. Of the gamed rows (G, 1610 in the original): `gamed_preference` float64 [G] in [0, 1],
    `gamed_length` float64 [G], standardised length difference, and `gamed_difficulty` float64 [G].
    """

    difficulty: dict[int, float]
    gamed_preference: np.ndarray
    gamed_length: np.ndarray
    gamed_difficulty: np.ndarray
    files: tuple[str, ...]

    @property
    def official(self) -> bool:
        """Do the files have the names of the original ones?"""
        return set(self.files) == OFFICIAL


def read_reference(folder: Path) -> LengthControlReference:
    """Reads `instruction_difficulty*.csv` and `df_gamed*.csv`. Raises DataError naming what is missing or wrong."""
    difficulty_file, gamed_file = _only(folder, DIFFICULTY), _only(folder, GAMED)
    difficulty = _columns(difficulty_file, ("", DIFFICULTY))
    gamed = _columns(gamed_file, ("preference", "std_delta_len", DIFFICULTY))
    return LengthControlReference(
        difficulty={int(place): value for place, value in zip(difficulty[""], difficulty[DIFFICULTY], strict=True)},
        gamed_preference=gamed["preference"],
        gamed_length=gamed["std_delta_len"],
        gamed_difficulty=gamed[DIFFICULTY],
        files=(difficulty_file.name, gamed_file.name),
    )


def _only(folder: Path, stem: str) -> Path:
    """The only file of that name; the original's name wins."""
    matching = sorted(folder.glob(f"{stem}*.csv"))
    exact = [path for path in matching if path.name in OFFICIAL]
    if len(exact or matching) == 1:
        return (exact or matching)[0]
    problem = f"{len(matching)} files match" if matching else "there is no"
    raise DataError(f"{folder}: {problem} {stem}*.csv; the length-controlled win rate needs one (--reference DIR).")


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Numeric columns by name; "" is the first column, whatever its name (the index that pandas wrote)."""
    rows = list(csv.reader(io.StringIO(read_text(path))))
    header, values = (rows[0], rows[1:]) if rows else ([], [])
    missing = [name for name in names if name and name not in header]
    if missing or not values:
        raise DataError(f"{path}:1: needs the column {missing[0]!r}." if missing else f"{path}: holds no rows.")
    places = {name: header.index(name) if name else 0 for name in names}
    try:
        return {name: np.array([float(row[place]) for row in values if row]) for name, place in places.items()}
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: a number is missing or invalid: {error}.") from None
