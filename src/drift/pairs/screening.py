"""Screening: check where possible that the chosen reply is better, and drop the other pairs by named reason.

DEVIATION: the paper trains on every pair and assumes that chosen beats rejected. Refusals, near-duplicates and pairs
that the scorer disagrees with break the assumption, so they are dropped here.
"""

import math
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby

from drift.config import RecipeSettings
from drift.pairs.recipes.recipe import PairsOrDrops
from drift.records import Drop, PreferencePair, Reason
from drift.turns import as_text, is_refusal, words_of

MAX_SIMILARITY = 0.98
"""Share of common words, in order, above which two long replies are near-duplicates: one word in 50 differs."""

MIN_WORDS_TO_COMPARE = 50
"""Shorter replies are never near-duplicates: in a short reply each word can matter."""


def screened(rows: Iterable[PreferencePair | Drop], settings: RecipeSettings) -> PairsOrDrops:
    """The pairs that pass the checks; with `match_length` only the pair of each prompt whose lengths are closest."""
    checked = (_checked(row, settings) if isinstance(row, PreferencePair) else row for row in rows)
    yield from (_matched(checked) if settings.match_length else checked)


def _checked(pair: PreferencePair, settings: RecipeSettings) -> PreferencePair | Drop:
    reason = why_unfit(pair, settings)
    return pair if reason is None else _drop(pair, reason)


def why_unfit(pair: PreferencePair, settings: RecipeSettings) -> Reason | None:
    if not pair.is_paired:
        return None
    chosen, rejected = as_text(pair.chosen[-1]), as_text(pair.rejected[-1])
    if is_refusal(chosen) and not is_refusal(rejected):
        return Reason.CHOSEN_REFUSES
    if settings.only_wins and pair.margin is None:
        return Reason.UNSCORED
    needed = math.log(settings.win_probability / (1 - settings.win_probability))
    if settings.only_wins and pair.margin is not None and pair.margin <= needed:
        return Reason.CHOSEN_LOSES
    return Reason.NEAR_DUPLICATE if are_near_duplicates(chosen, rejected, MAX_SIMILARITY) else None


def are_near_duplicates(first: str, second: str, limit: float) -> bool:
    """True if the replies share more than `limit` of their words, in order (2 x matches / words of both).

    DPO on pairs that differ in a word or two pushes both replies down (arXiv 2402.13228, section 3).
    """
    words = words_of(first), words_of(second)
    if min(map(len, words)) < MIN_WORDS_TO_COMPARE:
        return False
    matcher = SequenceMatcher(None, *words, autojunk=False)
    return matcher.real_quick_ratio() > limit and matcher.quick_ratio() > limit and matcher.ratio() > limit


def _matched(rows: Iterable[PreferencePair | Drop]) -> Iterator[PreferencePair | Drop]:
    """Keep one pair per prompt. The rows of one prompt must be adjacent, as the sampler writes them."""
    for _, group in groupby(rows, key=_prompt_id):
        prompt_rows = list(group)
        pairs = [row for row in prompt_rows if isinstance(row, PreferencePair)]
        nearest = min(pairs, key=_length_gap, default=None)
        for row in prompt_rows:
            if isinstance(row, PreferencePair) and row is not nearest:
                yield _drop(row, Reason.OTHER_LENGTH)
            else:
                yield row


def _length_gap(pair: PreferencePair) -> int:
    return abs(len(as_text(pair.chosen[-1])) - len(as_text(pair.rejected[-1])))


def _prompt_id(row: PreferencePair | Drop) -> str:
    return row.prompt_id if isinstance(row, PreferencePair) else row.row_id.split("/")[0]


def _drop(pair: PreferencePair, reason: Reason) -> Drop:
    """A drop whose id starts with the prompt_id, as in the recipes: `_matched` groups rows by it."""
    return Drop(f"{pair.prompt_id}/{pair.pair_id}", reason)
