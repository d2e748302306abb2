"""Does the form of a reply give its side away? A linear probe on the first and last words of both sides of every pair.

An accuracy near 0.5 is what pairs should have. Near 1, "preference accuracy" says nothing about content: the policy is
rewarded for a stock phrase, a heading or a mark.
"""

import math
import re
from collections.abc import Iterator, Sequence

from drift.records import PreferencePair, stable_hash

WORDS = 8
"""At each end of a reply."""
MIN_PAIRS = 50
"""Of different prompts. With fewer, one standard error of a probe that learned nothing is above 0.05, and it learns
little: a figure would say nothing."""
MAX_PAIRS = 2000
WARN_ABOVE = 0.7
FOLDS = 5
_FEATURES = 2**12
_TOKEN = re.compile(r"\w+|[^\w\s]|\n+")


def form_accuracy(pairs: Sequence[PreferencePair]) -> float | None:
    """Share of replies whose side the probe names, on prompts that it was not fitted on; None with too few prompts."""
    prompts = sorted({pair.prompt_id for pair in pairs}, key=lambda prompt: stable_hash("probe", prompt))[:MAX_PAIRS]
    if len(prompts) < MIN_PAIRS:
        return None
    import numpy as np
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    one_each = {pair.prompt_id: pair for pair in reversed(pairs)}
    sides = [reply for prompt in prompts for reply in (one_each[prompt].chosen, one_each[prompt].rejected)]
    rows = FeatureHasher(_FEATURES, input_type="string").transform(list(_ends(side[-1].content)) for side in sides)
    is_chosen = np.tile([1, 0], len(prompts))
    groups = np.repeat(np.arange(len(prompts)), 2)
    probe, folds = LogisticRegression(max_iter=200), GroupKFold(FOLDS)
    named = np.asarray(cross_val_predict(probe, rows, is_chosen, groups=groups, cv=folds))
    return round(float(np.mean(named == is_chosen)), 3)


def is_telling(accuracy: float, prompts: int) -> bool:
    """Whether an accuracy is above WARN_ABOVE by more than its standard error."""
    return accuracy - math.sqrt(accuracy * (1 - accuracy) / (2 * prompts)) > WARN_ABOVE


def _ends(text: str) -> Iterator[str]:
    """The first and the last words, each with its place, and each without."""
    tokens = _TOKEN.findall(text)
    for end, words in (("first", tokens[:WORDS]), ("last", tokens[: -WORDS - 1 : -1])):
        for place, word in enumerate(words):
            yield f"{end} {word}"
            yield f"{end} {place} {word}"
