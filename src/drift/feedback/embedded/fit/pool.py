"""The training pool: turns with a known truth from three sources, with their features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, hstack, vstack

from drift.feedback.embedded.book.expand import PhraseExample, expand, read_book
from drift.feedback.embedded.features import BUCKETS, Batch, features, features_of_texts
from drift.feedback.embedded.fit.sources import FOLDS, GoldTurn, IardTurn, fold_of
from drift.feedback.embedded.labeller import reactions
from drift.records import Conversation

BOOK, IARD, GOLD = range(3)
TURNS_PER_BATCH = 2048


@dataclass(frozen=True, slots=True)
class Pool:
    """n turns with their truth and features.

    `source` int8 [n]: BOOK, IARD, GOLD; `dsat` bool [n]; `sat` int8 [n], -1 where it is unknown; `fold` int8 [n],
    shared by the turns of a pattern, a dialogue, a conversation; `subtypes` [n], "" where there is none; `idf` float32
    [BUCKETS]; `turn_words` and `request_words` float64 [n, BUCKETS], each row of length 1; `relation` float32
    [n, len(RELATION)].
    """

    source: np.ndarray
    dsat: np.ndarray
    sat: np.ndarray
    fold: np.ndarray
    subtypes: np.ndarray
    idf: np.ndarray
    turn_words: csr_array
    request_words: csr_array
    relation: np.ndarray

    @property
    def related(self) -> csr_array:
        """float64 [n, BUCKETS + relations]."""
        return _indexed(csr_array(hstack([self.turn_words, csr_array(self.relation.astype(np.float64))])))


def pool(
    examples: Sequence[PhraseExample], iard: Sequence[IardTurn], gold: Sequence[GoldTurn], texts: Iterable[str]
) -> Pool:
    """`texts`: what users of real logs wrote, from which, with the other sources, idf is learnt."""
    turns = [row.turn for source in (examples, iard, gold) for row in source]
    batches = [features(turns[i : i + TURNS_PER_BATCH]) for i in range(0, len(turns), TURNS_PER_BATCH)]
    every = [_counts(batch) for batch in batches]
    of_turns = ((each, np.arange(len(batch.relation))) for each, batch in zip(every, batches, strict=True))
    counts = _stacked(of_turns)
    source = np.repeat(np.asarray([BOOK, IARD, GOLD], dtype=np.int8), [len(examples), len(iard), len(gold)])
    idf = _idf(
        [
            *(csr_array(counts[np.flatnonzero(source == each)]) for each in (BOOK, IARD)),
            _counts(features_of_texts(list(texts))),
        ]
    )
    dsat = [e.verdict == "DSAT" for e in examples] + [t.dissatisfied for t in iard] + [t.truth == "DSAT" for t in gold]
    sat = [int(e.verdict == "SAT") for e in examples]
    sat += [int(t.accepts and not t.dissatisfied) if t.accepts or t.dissatisfied else -1 for t in iard]
    fold = (
        [e.pattern % FOLDS for e in examples] + [fold_of(f"fold {t.dialogue}") for t in iard] + [t.fold for t in gold]
    )
    return Pool(
        source,
        np.asarray(dsat),
        np.asarray([*sat, *(int(t.truth == "SAT") for t in gold)], dtype=np.int8),
        np.asarray(fold, dtype=np.int8),
        np.asarray([*(e.subtype for e in examples), *[""] * (len(iard) + len(gold))]),
        idf,
        weighed(counts, idf),
        weighed(_stacked((each, batch.asked) for each, batch in zip(every, batches, strict=True)), idf),
        np.concatenate([batch.relation for batch in batches]),
    )


def weighed(counts: csr_array, idf: np.ndarray) -> csr_array:
    """Counts times idf, each row scaled to length 1; a word that occurs twice counts twice in the length."""
    each = np.diff(counts.indptr)
    rows = np.repeat(np.arange(len(each)), each)
    values = idf.astype(np.float64)[counts.indices]
    length = np.sqrt(np.bincount(rows, counts.data * values**2, minlength=len(each)))
    values *= counts.data / np.maximum(length, 1e-9)[rows]
    return _indexed(csr_array((values, counts.indices, counts.indptr), shape=counts.shape))


def _stacked(parts: Iterable[tuple[csr_array, np.ndarray]]) -> csr_array:
    """The chosen rows of all matrices, stacked."""
    return csr_array(vstack([csr_array(matrix[rows]) for matrix, rows in parts]))


def _counts(batch: Batch) -> csr_array:
    """float64 [texts, BUCKETS]: how often each text uses each bucket."""
    used = batch.buckets > 0
    owners = np.broadcast_to(batch.spoken.owners, used.shape)[used]
    counts = csr_array((np.ones(len(owners)), (owners, batch.buckets[used])), shape=(len(batch.spoken.counts), BUCKETS))
    counts.sum_duplicates()
    return counts


def _idf(sources: Sequence[csr_array]) -> np.ndarray:
    """float32 [BUCKETS], rounded as it will be stored; each source counts alike, whatever its size."""
    rows = 2000
    counts = ((part.indices, len(part.indptr) - 1) for part in sources)
    shares = [np.bincount(buckets, minlength=BUCKETS) / number for buckets, number in counts if number]
    return (np.log((1 + rows) / (1 + rows * np.mean(shares, axis=0))) + 1).astype(np.float16).astype(np.float32)


def _indexed(matrix: csr_array) -> csr_array:
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    return matrix  # liblinear accepts 32-bit indices only


def project_pool(iard: Sequence[IardTurn], gold: Sequence[GoldTurn], conversations: Iterable[Conversation]) -> Pool:
    """The pool of the shipped weights: the phrase book, IARD's training dialogues, gold labels of real chats."""
    texts = (reaction.turn.text for conversation in conversations for reaction in reactions(conversation))
    return pool(expand(read_book(), 0), [turn for turn in iard if not turn.is_test], gold, texts)
