"""Does the form of a reply give its side away? A linear probe tells chosen from rejected by their first and last words.

It should be near 0.5, as a coin is. Near 1, the pairs teach a stock phrase, a heading or a mark, and a high preference
accuracy says nothing about content.
"""

import math
import re
from collections.abc import Iterator, Sequence

from drift.records import PreferencePair, stable_hash

WORDS = 8
"""At each end of a reply."""
MIN_PROMPTS = 50
"""With fewer, the standard error of a probe that learned nothing is above 0.05, and it has too little to learn from."""
MAX_PROMPTS = 2000
"""Enough for a standard error below 0.01; more would only cost time."""
WARN_ABOVE = 0.7
FOLDS = 5
_FEATURES = 2**12
_TOKEN = re.compile(r"\w+|[^\w\s]|\n+")


def form_accuracy(pairs: Sequence[PreferencePair]) -> float | None:
    """Share of replies whose side the probe predicts, on prompts that it was not fitted on (cross-validation).

    Of each prompt the first pair counts. None with fewer than MIN_PROMPTS prompts.
    """
    prompts = sorted({pair.prompt_id for pair in pairs}, key=lambda prompt: stable_hash("probe", prompt))[:MAX_PROMPTS]
    if len(prompts) < MIN_PROMPTS:
        return None
    import numpy as np
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    first_of = {pair.prompt_id: pair for pair in reversed(pairs)}
    sides = [reply for prompt in prompts for reply in (first_of[prompt].chosen, first_of[prompt].rejected)]
    rows = FeatureHasher(_FEATURES, input_type="string").transform(list(_ends(side[-1].content)) for side in sides)
    is_chosen = np.tile([1, 0], len(prompts))
    groups = np.repeat(np.arange(len(prompts)), 2)
    probe, folds = LogisticRegression(max_iter=200), GroupKFold(FOLDS)
    predicted = np.asarray(cross_val_predict(probe, rows, is_chosen, groups=groups, cv=folds))
    return round(float(np.mean(predicted == is_chosen)), 3)


def gives_sides_away(accuracy: float, prompts: int) -> bool:
    """Whether an accuracy on two replies per prompt is above WARN_ABOVE by more than its standard error."""
    return accuracy - math.sqrt(accuracy * (1 - accuracy) / (2 * prompts)) > WARN_ABOVE


def _ends(text: str) -> Iterator[str]:
    """The probe's features: the first and the last words, each with its place in its end and without it."""
    tokens = _TOKEN.findall(text)
    for end, words in (("first", tokens[:WORDS]), ("last", tokens[: -WORDS - 1 : -1])):
        for place, word in enumerate(words):
            yield f"{end} {word}"
            yield f"{end} {place} {word}"
