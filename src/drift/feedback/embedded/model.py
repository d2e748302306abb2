"""The labeller's model: linear scores of hashed words, and small trees over them.

Three linear scores read a turn's words: `heard` was fitted on all sources, `plain` on the phrase book and IARD alone
and without relations, `sat` on approval. Trees see `heard`, `plain`, the `plain` score of the request (who complained
just now complains again) and the relations, and say how likely the turn is dissatisfied, as log-odds. numpy alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drift.errors import DataError
from drift.feedback.embedded.features import BUCKETS, RELATION, VERSION, Batch
from drift.records import Verdict

WEIGHTS = Path(__file__).with_name("weights.npz")
VERDICTS: tuple[Verdict, ...] = ("DSAT", "SAT")
LINEAR = ("heard", "plain", "sat")
"""The linear scores, in the order of the weights' columns."""
SEEN = ("heard", "plain", "request", *RELATION)
"""The inputs of the trees, in the order of `Trees.columns`."""
DEPTH = 3
INNER, LEAVES = (1 << DEPTH) - 1, 1 << DEPTH


@dataclass(frozen=True, slots=True)
class Trees:
    """T complete binary trees of depth DEPTH; node i has the children 2i+1 (value <= threshold) and 2i+2.

    `columns` int16 [T, INNER], what a node looks at; `thresholds` float32 [T, INNER]; `leaves` float32 [T, LEAVES].
    """

    columns: np.ndarray
    thresholds: np.ndarray
    leaves: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """float64 [n]: the sum over the trees of the leaf that each row of `values` (float32 [n, columns]) falls in."""
        n, number = len(values), len(self.columns)
        flat, width = np.ascontiguousarray(values).ravel(), values.shape[1]
        rows, trees = np.arange(n, dtype=np.int64)[:, None] * width, np.arange(number, dtype=np.int64) * INNER
        columns, thresholds = self.columns.ravel().astype(np.int64), self.thresholds.ravel()
        node = np.zeros((n, number), dtype=np.int64)
        for _ in range(DEPTH):
            at = node + trees
            node = 2 * node + 1 + (flat[rows + columns[at]] > thresholds[at])
        leaf = node - INNER + np.arange(number, dtype=np.int64) * LEAVES
        return self.leaves.ravel()[leaf].sum(axis=1, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Model:
    """Weights of the scores.

    `idf` float32 [BUCKETS]; `linear` float32 [BUCKETS + len(RELATION) + 1, 3], columns as LINEAR, the bias last, `sat`
    in log-odds; `trees` over SEEN, whose sum plus `offset` is the log-odds of dissatisfaction; `subtypes` as `linear`,
    a column for each name in `subtype_names`, each of which belongs to one of `subtype_verdicts`.
    """

    idf: np.ndarray
    linear: np.ndarray
    trees: Trees
    offset: float
    subtypes: np.ndarray
    subtype_names: tuple[str, ...]
    subtype_verdicts: tuple[str, ...]


class TurnScorer:
    """Scores batches. Weights are multiplied by idf once, so that one look-up per bucket serves all scores."""

    def __init__(self, model: Model):
        self.model = model
        self._linear = _by_bucket(model.linear, model.idf)
        self._subtypes = _by_bucket(model.subtypes, model.idf)

    def linear(self, batch: Batch) -> np.ndarray:
        """float32 [n, 3] of the turns, columns as LINEAR."""
        return _related(_word_scores(batch, self._linear), batch.relation, self.model.linear)

    def odds(self, batch: Batch) -> np.ndarray:
        """float64 [n, 2]: the log-odds of dissatisfaction and of approval. The batch is one of turns."""
        words, plain = _word_scores(batch, self._linear), LINEAR.index("plain")
        before = words[batch.asked, plain] + self.model.linear[-1, plain]
        scores = _related(words, batch.relation, self.model.linear)
        dsat = self.model.trees.sums(seen(scores, before, batch.relation)) + self.model.offset
        return np.stack((dsat, scores[:, LINEAR.index("sat")].astype(np.float64)), axis=1)

    def subtypes(self, batch: Batch) -> np.ndarray:
        """float32 [n, subtypes]."""
        return _related(_word_scores(batch, self._subtypes), batch.relation, self.model.subtypes)


def seen(scores: np.ndarray, requests: np.ndarray, relation: np.ndarray) -> np.ndarray:
    """float32 [n, len(SEEN)]: the inputs of the trees."""
    return np.concatenate((scores[:, :2], requests[:, None], relation), axis=1, dtype=np.float32)


def _by_bucket(weights: np.ndarray, idf: np.ndarray) -> np.ndarray:
    """float32 [BUCKETS, columns + 1]: weight times idf, and the square of idf; nothing for bucket 0."""
    table = np.concatenate((weights[:BUCKETS] * idf[:, None], idf[:, None] ** 2), axis=1, dtype=np.float32)
    table[0] = 0
    return table


def _word_scores(batch: Batch, table: np.ndarray) -> np.ndarray:
    """float32 [texts, columns]: scores by the words of each text, 0 for one without words.

    A row does not depend on the others: every sum runs over one text in a fixed order.
    """
    words, sums = batch.spoken, np.zeros((len(batch.spoken.counts), table.shape[1]), dtype=np.float32)
    values = np.zeros((len(words.owners), table.shape[1]), dtype=np.float32)
    for buckets in batch.buckets:
        values += table.take(buckets, axis=0)
    spoken = words.counts > 0
    if spoken.any():
        sums[spoken] = np.add.reduceat(values, words.starts()[spoken], axis=0)
    return sums[:, :-1] / np.sqrt(np.maximum(sums[:, -1:], 1e-9))


def _related(words: np.ndarray, relation: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 [n, columns]: scores of the turns, relations and bias added."""
    return words[: len(relation)] + weights[-1] + np.einsum("nr,rc->nc", relation, weights[BUCKETS:-1])


def save_model(path: Path, model: Model) -> None:
    np.savez_compressed(
        path,
        features=np.asarray(VERSION),
        idf=model.idf.astype(np.float16),
        linear=model.linear.astype(np.float16),
        columns=model.trees.columns,
        thresholds=model.trees.thresholds,
        leaves=model.trees.leaves,
        offset=np.asarray(model.offset),
        subtypes=model.subtypes.astype(np.float16),
        subtype_names=np.asarray(model.subtype_names),
        subtype_verdicts=np.asarray(model.subtype_verdicts),
    )


def load_model(path: Path) -> Model:
    """Raises DataError if the file is missing, damaged, or fitted on features that this code does not compute."""
    remedy = "Fit the weights again: python -m drift.feedback.embedded.fit --iard FILE --gold FILE --store DIR"
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["features"]) != VERSION:
                raise DataError(
                    f"{path}: fitted on features of version {file['features']}, this code computes {VERSION}. {remedy}"
                )
            return Model(
                file["idf"].astype(np.float32),
                file["linear"].astype(np.float32),
                Trees(file["columns"], file["thresholds"], file["leaves"]),
                float(file["offset"]),
                file["subtypes"].astype(np.float32),
                tuple(map(str, file["subtype_names"])),
                tuple(map(str, file["subtype_verdicts"])),
            )
    except (OSError, EOFError, KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not usable as weights of the labeller ({error}). {remedy}") from None
