"""Diversity of a method's replies: n-grams, self-BLEU, Vendi, cosine distance, and coverage of good replies."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

BLEU_ORDER = 4


def distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all n-grams, in [0, 1]; 0 if every text is shorter than n."""
    grams = [gram for text in texts for gram in _grams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(groups: Sequence[Sequence[str]]) -> float:
    """Mean BLEU-4 of each reply against the others to the same prompt: 1 where all are equal.

    An order without a match has precision 1 / (2 * number of n-grams); orders longer than the reply are left out.
    """
    scores = [
        _bleu(group[i].split(), [other.split() for j, other in enumerate(group) if j != i])
        for group in groups
        for i in range(len(group))
        if len(group) > 1
    ]
    return float(np.mean(scores)) if scores else float("nan")


def vendi(embeddings: np.ndarray) -> float:
    """Effective number of different items (arXiv 2210.02410): exp of the entropy of the eigenvalues of K / n.

    embeddings: float [n, D], L2-normalised; K = cosine similarity. In [1, n].
    """
    singular = np.linalg.svd(embeddings, compute_uv=False) ** 2 / len(embeddings)
    shares = singular[singular > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def cosine_distance(embeddings: np.ndarray) -> float:
    """Mean over all pairs of different items of 1 - cosine; embeddings: float [n, D], L2-normalised, n > 1."""
    n = len(embeddings)
    total = float((embeddings.sum(axis=0) ** 2).sum())  # all pairs, each item with itself included
    return 1 - (total - n) / (n * (n - 1))


def coverage(good: int, samples: int, k: int) -> float:
    """Probability that k of the samples, drawn without replacement, include a good one: 1 - C(n - c, k) / C(n, k)."""
    return 1 - math.comb(samples - good, k) / math.comb(samples, k)


def _bleu(words: Sequence[str], others: Sequence[Sequence[str]]) -> float:
    if not words:
        return float(any(not other for other in others))
    orders = range(1, min(BLEU_ORDER, len(words)) + 1)
    logs = [math.log(_precision(words, others, n)) for n in orders]
    nearest = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
    brevity = min(0.0, 1 - nearest / len(words))
    return math.exp(brevity + sum(logs) / len(logs))


def _precision(words: Sequence[str], others: Sequence[Sequence[str]], n: int) -> float:
    own = Counter(_grams(words, n))
    most: Counter[tuple[str, ...]] = Counter()
    for other in others:
        most |= Counter(_grams(other, n))
    matches = sum(min(count, most[gram]) for gram, count in own.items())
    total = sum(own.values())
    return (matches or 0.5) / total


def _grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
