"""Preference pairs as token ids. Every pair that cannot be trained on is dropped for a named reason and counted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from drift.errors import DataError, NothingToTrainOn
from drift.policy.chat import (
    ChatFormat,
    EncodedPrompt,
    encode_completion,
    encode_prompt,
    is_written_as,
    without_turns,
)
from drift.policy.chat.template import token_ids
from drift.policy.guided import informed_messages
from drift.policy.model import Policy
from drift.records import ChatMessage, Finish, PreferencePair, Reason, read_jsonl
from drift.rundir import layout

_Ids = tuple[int, ...]

_REMEDIES = {
    Reason.PROMPT_TOO_LONG: "Raise max_prompt_length.",
    Reason.EMPTY_CHOSEN: "Change the sampling settings, so that fresh replies are not empty.",
    Reason.TEMPLATE_HIDES: "Use a chat template that shows every message and tool call.",
    Reason.TEMPLATE_REFUSES: "Use a chat template that takes these conversations.",
}
"""What to do where none of the pairs can be trained on, by why they were dropped."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Token ids of a pair; prompt + chosen and prompt + rejected are its two sequences.

    `rejected`: empty for a liked reply alone, which the losses `sft` and `kto` learn from; `chosen`: empty for a
    disliked reply alone (`kto`). `weight`: of its loss. `noise`: the probability that chosen and rejected are swapped.
    `ref_*_logps`: summed log-probs under the reference, in nats; NaN until they are measured. `history`, for the
    diagnostics: summed log-probs of chosen and rejected under the policy at the iteration's start, then under the warm
    start, in nats; NaN if they are not measured. `mismatched`, for `kto`: another row's reply, see `with_mismatched`.
    `informed`, for `self_distillation`: the prompt with the follow-up.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    weight: float = 1.0
    noise: float = 0.0
    ref_chosen_logps: float = nan
    ref_rejected_logps: float = nan
    history: tuple[float, float, float, float] = (nan, nan, nan, nan)
    mismatched: tuple[int, ...] = ()
    ref_mismatched_logps: float = nan
    informed: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest of its sequences."""
        own = len(self.prompt) + max(len(self.chosen), len(self.rejected), len(self.mismatched))
        return max(own, len(self.informed) + len(self.chosen)) if self.informed else own

    @property
    def as_informed(self) -> "TokenPair":
        """The same reply after the prompt with the follow-up."""
        return TokenPair(self.informed, self.chosen, ())

    @property
    def as_mismatched(self) -> "TokenPair":
        """The prompt with the other row's reply."""
        return TokenPair(self.prompt, self.mismatched, ())


def load_pairs(
    policy: Policy, path: Path, max_prompt_length: int, max_length: int, kl_batch_size: int | None = None
) -> tuple[list[TokenPair], dict[str, int]]:
    """What `tokenise` returns for a file of pairs. Raises NothingToTrainOn if no pair is left.

    `kl_batch_size`: the rows of a batch that exchange replies for the KL term of `kto` (`with_mismatched`).
    """
    tokens, counts = tokenise(policy, read_jsonl(path, PreferencePair), max_prompt_length, max_length)
    if not tokens:
        raise nothing_left(path, counts)
    if kl_batch_size is not None:
        tokens = with_mismatched(tokens, kl_batch_size, min(max_length, policy.context_length))
    return tokens, counts


def with_mismatched(pairs: Sequence[TokenPair], batch_size: int, max_length: int) -> list[TokenPair]:
    """The rows, each with the reply of the row before it in its batch; the first gets the last one's.

    Batches are `batch_size` rows that follow each other. A batch of one row takes the reply of the row before the
    batch. As in KTO (arXiv 2402.01306, section 4.1) and TRL, a prompt with a reply that does not belong to it
    estimates how far the policy has moved from the reference in general. Replies are cut to `max_length` tokens
    together with the prompt.
    """
    partners = (pairs[partner(index, len(pairs), batch_size)] for index in range(len(pairs)))
    return [with_reply_of(pair, other, max_length) for pair, other in zip(pairs, partners, strict=True)]


def partner(index: int, count: int, batch_size: int) -> int:
    """Whose reply the row at `index` of `count` rows gets in `with_mismatched`."""
    start = index - index % batch_size
    end = min(start + batch_size, count)
    return ((index if index > start or end - start == 1 else end) - 1) % count


def with_reply_of(pair: TokenPair, other: TokenPair, max_length: int) -> TokenPair:
    return replace(pair, mismatched=(other.chosen or other.rejected)[: max_length - len(pair.prompt)])


def tokenise(
    policy: Policy, pairs: Iterable[PreferencePair], max_prompt_length: int, max_length: int
) -> tuple[list[TokenPair], dict[str, int]]:
    """The pairs that can be trained on, and counts of what was shortened, cut or dropped.

    Both lengths are in tokens. Completions longer than what the prompt leaves of `max_length` keep their start. Both
    sides of a pair have their end token, or neither has: where one side is unfinished or cut, the other is cut to its
    length and loses its end token. With the token on one side alone, the loss would teach to end, or not to end.
    DEVIATION: the authors' scripts cut prompts from the right, which removes the complaint. Here a prompt loses whole
    turns, oldest first, and a pair whose last turn does not fit is dropped.
    """
    tally: Counter[str] = Counter()
    tokens = list(token_pairs(policy, pairs, max_prompt_length, max_length, tally))
    return tokens, dict(tally)


def token_pairs(
    policy: Policy, pairs: Iterable[PreferencePair], max_prompt_length: int, max_length: int, tally: Counter[str]
) -> Iterator[TokenPair]:
    """What `tokenise` returns, one by one; the counts are added to `tally`."""
    limit = min(max_length, policy.context_length)
    for pair in pairs:
        tokens = _token_pair(policy, pair, min(max_prompt_length, limit - 1), limit, tally)
        if tokens is not None:
            yield tokens


def nothing_left(path: Path, counts: Mapping[str, int]) -> NothingToTrainOn:
    """The error of a file without a pair that can be trained on."""
    dropped = {name: count for name, count in counts.items() if count}
    read = sum(count for name, count in dropped.items() if name.startswith("dropped."))
    if not read:
        return NothingToTrainOn(
            f"{path}: the file is empty: not one pair was made. {path.with_name(layout.MANIFEST)} counts why."
        )
    remedies = [remedy for reason, remedy in _REMEDIES.items() if dropped.get(f"dropped.{reason}")]
    return NothingToTrainOn(
        f"{path}: none of {read} pairs can be trained on "
        f"({', '.join(f'{name} {count}' for name, count in dropped.items())}). {' '.join(remedies)}".rstrip()
    )


def _token_pair(
    policy: Policy, pair: PreferencePair, max_prompt: int, max_length: int, tally: Counter[str]
) -> TokenPair | None:
    encoded = _encoded(policy.chat, pair, max_prompt)
    if isinstance(encoded, Reason):
        tally[f"dropped.{encoded}"] += 1
        return None
    prompt, chosen_ids, rejected_ids = encoded
    informed = _informed(policy.chat, pair, max_prompt)
    if isinstance(informed, Reason):
        tally[f"dropped.{informed}"] += 1
        return None
    room = max_length - max(len(prompt.ids), len(informed))
    tally["shortened_prompts"] += prompt.dropped_turns > 0
    tally.update({f"adapted.{name}": 1 for name in prompt.adapted})
    tally["cut_chosen"] += len(chosen_ids) > room
    if not pair.is_paired:  # a reply alone; one that is cut has no end token
        if pair.rejected:
            tally["unfinished_rejected"] += pair.rejected_finish != "stop"
            tally["cut_rejected"] += len(rejected_ids) > room
        return TokenPair(prompt.ids, chosen_ids[:room], rejected_ids[:room], pair.weight, pair.noise, informed=informed)
    tally["unfinished_chosen"] += pair.finish != "stop"
    tally["unfinished_rejected"] += pair.rejected_finish != "stop"
    tally["cut_rejected"] += len(rejected_ids) > room
    chosen_ids, rejected_ids = _matched_ends(
        (chosen_ids, pair.finish),
        (rejected_ids, pair.rejected_finish),
        room,
        policy.stop_ids,
        token_ids(policy.tokenizer, prompt.form.ending),
    )
    if chosen_ids == rejected_ids:
        tally[f"dropped.{Reason.CHOSEN_IS_REJECTED}"] += 1
        return None
    return TokenPair(prompt.ids, chosen_ids, rejected_ids, pair.weight, pair.noise)


def _informed(chat: ChatFormat, pair: PreferencePair, max_prompt: int) -> _Ids | Reason:
    """Ids of the prompt with the follow-up, none if the pair has none; or why it cannot be trained on."""
    if pair.follow_up is None:
        return ()
    encoded = encode_prompt(chat, informed_messages(pair), max_prompt, tools=pair.tools)
    return encoded if isinstance(encoded, Reason) else encoded.ids


def _matched_ends(
    chosen: tuple[_Ids, Finish], rejected: tuple[_Ids, Finish], room: int, stop_ids: frozenset[int], ending: _Ids
) -> tuple[_Ids, _Ids]:
    """Both sides' ids within `room` tokens, both with what ends a turn (`ending`, or a stop token) or both without.

    This is `sampling.unfinished: match`. With `drop`, the recipes leave out pairs with an unfinished side
    (pairs/recipes/recipe.py); here such pairs are held-out ones.
    """
    sides = (chosen, rejected)
    if all(finish == "stop" and len(ids) <= room for ids, finish in sides):
        return chosen[0], rejected[0]
    limit = min([room, *(len(ids) for ids, finish in sides if finish != "stop")])
    bare = [_without_end(ids, stop_ids, ending) if finish == "stop" else ids for ids, finish in sides]
    return bare[0][:limit], bare[1][:limit]


def _without_end(ids: _Ids, stop_ids: frozenset[int], ending: _Ids) -> _Ids:
    if ending and ids[-len(ending) :] == ending:
        return ids[: -len(ending)]
    return ids[:-1] if ids[-1] in stop_ids else ids


def _encoded(chat: ChatFormat, pair: PreferencePair, max_prompt: int) -> tuple[EncodedPrompt, _Ids, _Ids] | Reason:
    """Prompt, chosen and rejected (one is empty for a reply alone); or why the pair cannot be trained on."""
    chosen = _reply(pair, pair.chosen) if pair.chosen or not pair.rejected else None
    rejected = _reply(pair, pair.rejected) if pair.rejected else None
    for reply, reason in ((chosen, Reason.EMPTY_CHOSEN), (rejected, Reason.EMPTY_REJECTED)):
        if reply is not None and not reply.content and not reply.tool_calls:
            return reason
    prompt = encode_prompt(chat, pair.prompt, max_prompt, tools=pair.tools)
    if isinstance(prompt, Reason):
        return prompt
    chosen_ids = () if chosen is None else _chosen_ids(chat, pair, chosen, prompt)
    if isinstance(chosen_ids, Reason) or rejected is None:
        return chosen_ids if isinstance(chosen_ids, Reason) else (prompt, chosen_ids, ())
    kept = without_turns(pair.prompt, prompt.dropped_turns)
    rejected_ids = encode_completion(chat, kept, rejected, pair.rejected_finish, pair.tools)
    return rejected_ids if isinstance(rejected_ids, Reason) else (prompt, chosen_ids, rejected_ids)


def _reply(pair: PreferencePair, messages: Sequence[ChatMessage]) -> ChatMessage:
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise DataError(f"pair {pair.pair_id}: chosen and rejected must be one assistant message each, got {roles}.")
    return messages[0]


def _chosen_ids(
    chat: ChatFormat, pair: PreferencePair, reply: ChatMessage, prompt: EncodedPrompt
) -> tuple[int, ...] | Reason:
    """The ids that the sampler drew, if they still are the chosen reply in this form; otherwise the reply is encoded.

    DEVIATION: the authors' scripts search for the answer in the decoded text and tokenise it again.
    """
    ids = pair.chosen_token_ids
    if ids and max(ids) < len(chat.tokenizer) and is_written_as(chat, prompt.form, reply, ids):
        return ids
    return encode_completion(chat, without_turns(pair.prompt, prompt.dropped_turns), reply, pair.finish, pair.tools)
