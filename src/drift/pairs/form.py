"""The form of a pair's two sides: thoughts, marks of a chat template and calls stand on both of them or on neither.

A model learns whatever tells the sides apart. If that is a thought, a mark or a stock phrase, it learns the form and
nothing about what the user disliked. A linear probe measures how far the form tells the sides apart.
DEVIATION: the paper compares plain replies, and has no such check.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from unicodedata import normalize

from drift.endpoint.thoughts import split_thoughts
from drift.records import ChatMessage, Drop, PreferencePair, Reason, Thinking, stable_hash
from drift.turns import called

_MARK = re.compile(
    r"<\|[^|<>\s]{1,40}\|?>|<[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|</?(?:think|thinking|thought|reasoning|tool_call|tool_response)>",
    re.IGNORECASE,
)
PROBED_WORDS = 8
"""At each end of a reply, for the probe."""
MIN_PROMPTS = 50
"""With fewer, the standard error of a probe that learned nothing is above 0.05, and it has too little to learn from."""
MAX_PROMPTS = 2000
"""Enough for a standard error below 0.01; more would only cost time."""
WARN_ABOVE = 0.7
FOLDS = 5
_FEATURES = 2**12
_TOKEN = re.compile(r"\w+|[^\w\s]|\n+")


def in_one_form(rows: Iterable[PreferencePair | Drop], thinking: Thinking) -> Iterator[PreferencePair | Drop]:
    """The pairs whose two sides have the same form, and a Drop with its reason in place of every other pair.

    Without `thinking: keep`, thoughts are taken off both sides first.
    """
    for row in rows:
        yield _same_form(row, thinking) if isinstance(row, PreferencePair) else row


def _same_form(pair: PreferencePair, thinking: Thinking) -> PreferencePair | Drop:
    chosen, rejected = (tuple(map(with_thoughts_apart, side)) for side in (pair.chosen, pair.rejected))
    if thinking != "keep":
        chosen, rejected = (tuple(replace(m, reasoning=None) for m in side) for side in (chosen, rejected))
    if (chosen, rejected) != (pair.chosen, pair.rejected):
        pair = replace(pair, chosen=chosen, rejected=rejected)
    if not pair.is_paired:  # a reply alone has no other side to differ from
        return pair
    reason = form_difference(chosen[-1], rejected[-1])
    return pair if reason is None else Drop(f"{pair.prompt_id}/{pair.pair_id}", reason)


def with_thoughts_apart(reply: ChatMessage) -> ChatMessage:
    """The reply with the thoughts of its text moved into `reasoning`."""
    if reply.role != "assistant":
        return reply
    thoughts, answer = split_thoughts(reply.content)
    if not thoughts and answer == reply.content:
        return reply
    return replace(reply, content=answer, reasoning=reply.reasoning or thoughts or None)


def says_the_same(first: ChatMessage, second: ChatMessage) -> bool:
    """Whether answers and calls are equal, whatever the thoughts before them, and however lines end and letters with
    marks are stored."""
    one, other = with_thoughts_apart(first), with_thoughts_apart(second)
    return _as_read(one.content) == _as_read(other.content) and called(one) == called(other)


def _as_read(text: str) -> str:
    return normalize("NFC", "\n".join(text.strip().splitlines()))


def form_difference(chosen: ChatMessage, rejected: ChatMessage) -> Reason | None:
    """Why two replies are no pair: one is empty, or has a call, a thought or a template's mark that the other lacks.

    None if they have the same form.
    """
    for side, reason in ((chosen, Reason.EMPTY_CHOSEN), (rejected, Reason.EMPTY_REJECTED)):
        if not side.content.strip() and not side.tool_calls:
            return Reason.CUT_THOUGHT if side.reasoning else reason
    if bool(chosen.tool_calls) != bool(rejected.tool_calls):
        return Reason.CALL_ON_ONE_SIDE
    if bool(chosen.reasoning) != bool(rejected.reasoning):
        return Reason.THOUGHT_ON_ONE_SIDE
    if bool(_MARK.search(chosen.content)) != bool(_MARK.search(rejected.content)):
        return Reason.MARK_ON_ONE_SIDE
    return None


def form_accuracy(pairs: Sequence[PreferencePair]) -> float | None:
    """Does the form of a reply give its side away? Share of replies whose side a linear probe predicts by their first
    and last words, on prompts that it was not fitted on (cross-validation).

    It should be near 0.5, as a coin is. Near 1, the pairs teach a stock phrase, a heading or a mark, and a high
    preference accuracy says nothing about content. Of each prompt the first pair counts. None with fewer than
    MIN_PROMPTS prompts.
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
    for end, words in (("first", tokens[:PROBED_WORDS]), ("last", tokens[: -PROBED_WORDS - 1 : -1])):
        for place, word in enumerate(words):
            yield f"{end} {word}"
            yield f"{end} {place} {word}"
