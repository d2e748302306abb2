"""The embedded labeller outside English: twelve languages, one linear model over character n-grams.

N-grams of characters need no spaces, so Chinese and Japanese are read as the others are. The model was fitted on the
project's phrase books alone (`python -m drift.feedback.embedded.fit.multilingual`): no labelled chats in these
languages are at hand, so its probabilities assume the base rates of real English chats.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drift.errors import DataError
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.spell import HEAD, cut
from drift.records import stable_hash

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VERSION = "1"
"""Names the features; weights of another version are refused."""
WEIGHTS = Path(__file__).with_name("multilingual.npz")
LANGUAGES = ("ar", "de", "es", "fr", "it", "ja", "ko", "pt", "ru", "tr", "vi", "zh")
"""ISO 639-1: the languages of WildChat with the most conversations besides English."""
BUCKETS, LONGEST = 1 << 16, 4
RELATIONS = ("same", "from_request", "alike", "asks", "exclaims", "length")
REPEATED = 4  # characters in a row that a turn and its request share
_SPACE, _DIGITS = re.compile(r"\s+"), re.compile(r"\d+")
_QUESTION, _EXCLAMATION = re.compile("[?？؟]"), re.compile("[!！]")


class ForeignModel(NamedTuple):
    """`weights` float32 [BUCKETS + RELATIONS, 2] and `bias` float64 [2] give the log-odds of dissatisfaction and of
    approval."""

    weights: np.ndarray
    bias: np.ndarray

    def odds(self, turns: Sequence[Turn]) -> np.ndarray:
        """float64 [n, 2]."""
        return foreign_features(turns) @ self.weights + self.bias

    def probabilities(self, turns: Sequence[Turn]) -> np.ndarray:
        """float64 [n, 2]: p_dsat and p_sat of each turn."""
        return np.round(1 / (1 + np.exp(-self.odds(turns))), 4)


def language_of(turn: Turn) -> str:
    """ISO 639-1 code of the turn's language, read together with its request: a few words alone say little."""
    import py3langid

    return str(py3langid.classify(f"{turn.text[:HEAD]}\n{turn.request[:HEAD]}")[0])


def foreign_features(turns: Sequence[Turn]) -> "csr_array":
    """float32 [n, BUCKETS + RELATIONS]: hashed n-grams of up to LONGEST characters, and RELATIONS."""
    from scipy.sparse import csr_array, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    reader = HashingVectorizer(
        analyzer="char",
        ngram_range=(1, LONGEST),
        n_features=BUCKETS,
        alternate_sign=False,
        binary=True,
        lowercase=False,
        dtype=np.float32,
    )
    grams = reader.transform([f"^{plain(turn.text)}$" for turn in turns])
    relations = np.asarray([_relations(turn) for turn in turns], dtype=np.float32).reshape(len(turns), len(RELATIONS))
    return csr_array(hstack([grams, csr_array(relations)]))


def plain(text: str) -> str:
    """The part that is read, in small letters, with one space for each gap and 0 for each number."""
    return _DIGITS.sub("0", _SPACE.sub(" ", cut(text).lower())).strip()


def _relations(turn: Turn) -> tuple[float, ...]:
    text, request = plain(turn.text), plain(turn.request)
    own, asked = _runs(text), _runs(request)
    shared = len(own & asked)
    return (
        float(bool(text) and _letters(text) == _letters(request)),
        shared / max(len(own), 1),
        shared / max(len(own | asked), 1),
        float(bool(_QUESTION.search(text))),
        float(bool(_EXCLAMATION.search(text))),
        min(len(text), 100) / 100,
    )


def _runs(text: str) -> set[str]:
    return {text[i : i + REPEATED] for i in range(len(text) - REPEATED + 1)}


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def foreign_version() -> str:
    """Identifies the weights and the features."""
    return stable_hash(VERSION, hashlib.sha256(WEIGHTS.read_bytes()).hexdigest())


def save_foreign(path: Path, model: ForeignModel) -> None:
    np.savez_compressed(
        path, features=np.asarray(VERSION), weights=model.weights.astype(np.float16), bias=model.bias.astype(np.float64)
    )


@lru_cache(maxsize=2)
def load_foreign(path: Path = WEIGHTS) -> ForeignModel:
    """Raises DataError if the file is missing, damaged, or fitted on other features."""
    remedy = "Fit the weights again: python -m drift.feedback.embedded.fit.multilingual"
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["features"]) != VERSION:
                raise DataError(
                    f"{path}: features of version {file['features']}, this code computes {VERSION}. {remedy}"
                )
            return ForeignModel(file["weights"].astype(np.float32), file["bias"])
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not usable as weights of the labeller ({error}). {remedy}") from None
