"""Which pairs are good enough: what DRIFT assumes of the chosen reply, checked where it can be, each drop by name."""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby

from drift.config import RecipeSettings
from drift.pairs.recipes.recipe import PairsOrDrops
from drift.records import Drop, PreferencePair, Reason
from drift.turns import is_refusal

STAGE = "pairs"
MAX_SIMILARITY = 0.98
"""Share of common words, in order, above which two long replies are near-duplicates: one word in 50 differs."""

LONG_ENOUGH = 50
"""Words from which on two replies can be near-duplicates: of a short one, every word may be the point."""


def screened(rows: Iterable[PreferencePair | Drop], settings: RecipeSettings) -> PairsOrDrops:
    """The pairs that pass, then, with `match_length`, the one of each prompt whose replies are nearest in length."""
    checked = (_checked(row, settings) if isinstance(row, PreferencePair) else row for row in rows)
    yield from (_matched(checked) if settings.match_length else checked)


def _checked(pair: PreferencePair, settings: RecipeSettings) -> PreferencePair | Drop:
    reason = why_unfit(pair, settings)
    return pair if reason is None else _drop(pair, reason)


def why_unfit(pair: PreferencePair, settings: RecipeSettings) -> Reason | None:
    chosen, rejected = pair.chosen[-1].content, pair.rejected[-1].content
    if is_refusal(chosen) and not is_refusal(rejected):
        return Reason.CHOSEN_REFUSES
    if settings.only_wins and pair.margin is None:
        return Reason.UNSCORED
    if settings.only_wins and pair.margin is not None and pair.margin <= 0:
        return Reason.CHOSEN_LOSES
    return Reason.NEAR_DUPLICATE if are_near_duplicates(chosen, rejected, MAX_SIMILARITY) else None


def are_near_duplicates(first: str, second: str, limit: float) -> bool:
    """Do the replies share more than `limit` of their words, in order? (2 x matches / words of both)

    DPO on pairs that differ in a word or two pushes both replies down (arXiv 2402.13228, section 3).
    """
    words = first.split(), second.split()
    if min(map(len, words)) < LONG_ENOUGH:
        return False
    matcher = SequenceMatcher(None, *words, autojunk=False)
    return matcher.real_quick_ratio() > limit and matcher.quick_ratio() > limit and matcher.ratio() > limit


def _matched(rows: Iterable[PreferencePair | Drop]) -> Iterator[PreferencePair | Drop]:
    """Samples of one prompt stand together, as the sampler wrote them."""
    for _, group in groupby(rows, key=_prompt_id):
        same = list(group)
        pairs = [row for row in same if isinstance(row, PreferencePair)]
        nearest = min(pairs, key=_length_gap, default=None)
        for row in same:
            if isinstance(row, PreferencePair) and row is not nearest:
                yield _drop(row, Reason.OTHER_LENGTH)
            else:
                yield row


def _length_gap(pair: PreferencePair) -> int:
    return abs(len(pair.chosen[-1].content) - len(pair.rejected[-1].content))


def _prompt_id(row: PreferencePair | Drop) -> str:
    return row.prompt_id if isinstance(row, PreferencePair) else row.row_id.split("/")[0]


def _drop(pair: PreferencePair, reason: Reason) -> Drop:
    """Under its prompt's name, as the recipes' drops are: `_matched` keeps a prompt's rows together by it."""
    return Drop(f"{pair.prompt_id}/{pair.pair_id}", STAGE, reason)
