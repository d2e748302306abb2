"""The form of a pair's two sides: thoughts, marks of a chat template and calls stand on both of them or on neither.

A model learns whatever tells the sides apart. If that is a thought, a mark or a stock phrase, it learns the form and
nothing about what the user disliked.
DEVIATION: the paper compares plain replies, and has no such check.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from unicodedata import normalize

from drift.endpoint.thoughts import split_thoughts
from drift.records import ChatMessage, Drop, PreferencePair, Reason, Thinking
from drift.turns import called

_MARK = re.compile(
    r"<\|[^|<>\s]{1,40}\|?>|<[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|</?(?:think|thinking|thought|reasoning|tool_call|tool_response)>",
    re.IGNORECASE,
)


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
