"""Preference pairs as token ids. Every pair that cannot be trained on is dropped for a named reason and counted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from drift.errors import DataError, NothingToTrainOn
from drift.policy.chat import decode, encode_completion, encode_prompt
from drift.policy.model import Policy
from drift.records import ChatMessage, Finish, PreferencePair, Reason, read_jsonl


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Token ids of a pair; prompt + chosen and prompt + rejected are its two sequences. `rejected` is empty where there
    is a chosen reply alone, which only the loss `sft` learns from.

    `noise`: the probability that chosen and rejected are swapped. `ref_*_logps`: summed log-probs under the reference,
    nats; NaN until `with_reference`. `history`: summed log-probs (chosen, rejected) under the policy at the iteration's
    start, then under the warm start; for the diagnostics, NaN without them.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    weight: float = 1.0
    noise: float = 0.0
    ref_chosen_logps: float = nan
    ref_rejected_logps: float = nan
    history: tuple[float, float, float, float] = (nan, nan, nan, nan)

    @property
    def length(self) -> int:
        """Tokens of the longer of its two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def load_pairs(
    policy: Policy, path: Path, max_prompt_length: int, max_length: int
) -> tuple[list[TokenPair], dict[str, int]]:
    """`tokenise` a file of pairs. Raises NothingToTrainOn if no pair is left."""
    records = list(read_jsonl(path, PreferencePair))
    tokens, counts = tokenise(policy, records, max_prompt_length, max_length)
    if not tokens:
        dropped = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "the file is empty"
        raise NothingToTrainOn(
            f"{path}: none of {len(records)} pairs can be trained on ({dropped}); if prompts are too long, raise "
            "max_prompt_length; if replies are empty, change the sampling settings."
        )
    return tokens, counts


def tokenise(
    policy: Policy, pairs: Iterable[PreferencePair], max_prompt_length: int, max_length: int
) -> tuple[list[TokenPair], dict[str, int]]:
    """The pairs that can be trained on, and counts of what was shortened, cut or dropped.

    Completions longer than what the prompt leaves of `max_length` keep their start. The end token stands on both sides
    of a pair or on neither: where one side is unfinished or cut, the other loses its end token too, and what is longer
    than the unfinished side. Otherwise the loss teaches to end, or not to end, by the side on which the token stands.
    DEVIATION: the authors' scripts cut prompts from the right, which removes the complaint. Here a prompt loses whole
    turns, oldest first, and a pair whose last turn does not fit is dropped.
    """
    limit = min(max_length, policy.context_length)
    tally: Counter[str] = Counter()
    tokens = [_token_pair(policy, pair, min(max_prompt_length, limit - 1), limit, tally) for pair in pairs]
    return [pair for pair in tokens if pair is not None], dict(tally)


def _token_pair(
    policy: Policy, pair: PreferencePair, max_prompt: int, max_length: int, tally: Counter[str]
) -> TokenPair | None:
    tokenizer = policy.tokenizer
    if not pair.rejected:
        return _token_reply(policy, pair, max_prompt, max_length, tally)
    chosen, rejected = _reply(pair, pair.chosen), _reply(pair, pair.rejected)
    prompt = encode_prompt(tokenizer, pair.prompt, max_prompt)
    if not chosen or not rejected or prompt is None:
        reason = Reason.PROMPT_TOO_LONG
        if not chosen or not rejected:
            reason = Reason.EMPTY_REJECTED if chosen else Reason.EMPTY_CHOSEN
        tally[f"dropped.{reason}"] += 1
        return None
    room = max_length - len(prompt.ids)
    chosen_ids = _chosen_ids(tokenizer, pair, chosen)
    rejected_ids = encode_completion(tokenizer, rejected, pair.rejected_finish)
    tally["shortened_prompts"] += prompt.dropped_turns > 0
    tally["unfinished_chosen"] += pair.finish != "stop"
    tally["unfinished_rejected"] += pair.rejected_finish != "stop"
    tally["cut_chosen"] += len(chosen_ids) > room
    tally["cut_rejected"] += len(rejected_ids) > room
    chosen_ids, rejected_ids = _matched_ends(
        (chosen_ids, pair.finish), (rejected_ids, pair.rejected_finish), room, policy.stop_ids
    )
    if chosen_ids == rejected_ids:
        tally[f"dropped.{Reason.CHOSEN_IS_REJECTED}"] += 1
        return None
    return TokenPair(prompt.ids, chosen_ids, rejected_ids, pair.weight, pair.noise)


def _token_reply(
    policy: Policy, pair: PreferencePair, max_prompt: int, max_length: int, tally: Counter[str]
) -> TokenPair | None:
    """A chosen reply alone. One that is cut has no end token."""
    chosen = _reply(pair, pair.chosen)
    prompt = encode_prompt(policy.tokenizer, pair.prompt, max_prompt)
    if not chosen or prompt is None:
        tally[f"dropped.{Reason.EMPTY_CHOSEN if prompt else Reason.PROMPT_TOO_LONG}"] += 1
        return None
    room = max_length - len(prompt.ids)
    ids = _chosen_ids(policy.tokenizer, pair, chosen)
    tally["shortened_prompts"] += prompt.dropped_turns > 0
    tally["cut_chosen"] += len(ids) > room
    return TokenPair(prompt.ids, ids[:room], (), pair.weight, pair.noise)


_Ids = tuple[int, ...]


def _matched_ends(
    chosen: tuple[_Ids, Finish], rejected: tuple[_Ids, Finish], room: int, stop_ids: frozenset[int]
) -> tuple[_Ids, _Ids]:
    """Both sides' ids within `room` tokens, both with their end token or both without it."""
    sides = (chosen, rejected)
    limits = [len(ids) if finish != "stop" else room for ids, finish in sides]
    limits += [room for ids, _ in sides if len(ids) > room]
    if all(finish == "stop" and len(ids) <= room for ids, finish in sides):
        return chosen[0], rejected[0]
    bare = [ids[:-1] if finish == "stop" and ids[-1] in stop_ids else ids for ids, finish in sides]
    shortest = min(limits)
    return bare[0][:shortest], bare[1][:shortest]


def _reply(pair: PreferencePair, messages: Sequence[ChatMessage]) -> str:
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise DataError(f"pair {pair.pair_id}: chosen and rejected must be one assistant message each, got {roles}.")
    return messages[0].content


def _chosen_ids(tokenizer: PreTrainedTokenizerBase, pair: PreferencePair, text: str) -> tuple[int, ...]:
    """The ids that the sampler drew, if they still decode to the chosen text; otherwise the text is encoded.

    DEVIATION: the authors' scripts search for the answer in the decoded text and tokenise it again.
    """
    ids = pair.chosen_token_ids
    if ids and max(ids) < len(tokenizer) and decode(tokenizer, ids) == text:
        return ids
    return encode_completion(tokenizer, text, pair.finish)
