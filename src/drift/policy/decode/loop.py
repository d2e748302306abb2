"""The decoding loop: prompt ids in, completions out, each from its own stream of random numbers.

`model.generate` draws from one stream for the whole batch, so a completion would depend on its neighbours. Here every
row has its own draws, and a token is picked by inverting the cumulated distribution. Finished rows leave the batch, and
the samples of one prompt share its prefill.
DEVIATION: the authors' scripts set no seed; a seeded stream for each completion makes runs resumable and comparable.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from drift.config import SamplingSettings
from drift.errors import DataError
from drift.policy.chat import decode
from drift.policy.decode.attention import attention_of_products
from drift.policy.decode.cache import CachedRows
from drift.policy.decode.durable import Generated
from drift.policy.decode.exact import check_decoding
from drift.policy.model import Policy, memory_for
from drift.progress import UnderWay, report_progress
from drift.records import Finish

_TOP_CANDIDATES = (64, 1024)
"""Numbers of most likely tokens that are tried in turn, because they nearly always hold the nucleus. Only rows whose
nucleus is larger are sorted in full: for a vocabulary of 49,152 tokens that takes milliseconds a row."""

_PASS_TOKENS = {"cpu": 128, "cuda": 2048}
"""Tokens of padding for which one more pass through the model is worth it when the prompts are computed."""

_SHRINK_BELOW_SHARE = 0.9
"""Finished rows are removed from the batch once fewer than this share of its rows is live."""

_STEPS_BETWEEN_REPORTS = 8
"""Steps after which a batch says how many of its rows are done: on a CPU a batch takes minutes."""


def decode_batch(
    policy: Policy, prompts: Sequence[Sequence[int]], keys: Sequence[str], sampling: SamplingSettings
) -> list[Generated]:
    """One completion per prompt, in order; `keys` name the random stream of each.

    The same key and prompt give the same completion in any batch and order, except for ties within the rounding of
    floating-point sums, which depend on the batch's shape. Temperature 0 is greedy.
    """
    stops = policy.stop_ids
    draws = np.stack([uniforms(key, sampling.max_new_tokens) for key in keys])
    finish: Finish
    completions: list[Generated] = []
    longest = max(map(len, prompts))
    with memory_for(
        "sampling",
        f"a batch of {len(prompts)} prompts of up to {longest} tokens",
        f"set sampling.batch_tokens below {len(prompts) * (longest + sampling.max_new_tokens)}, or for a batch of one "
        "lower sampling.max_prompt_length or sampling.max_new_tokens",
    ):
        check_decoding(policy.model)
        with attention_of_products(policy.model):
            decoded = _decode(policy, prompts, torch.from_numpy(draws).to(policy.device), sampling, stops)
    for ids in decoded:
        finish = "stop" if ids and ids[-1] in stops else "length"
        completions.append(Generated(decode(policy.tokenizer, ids), tuple(ids), finish))
    return completions


def plan_batches(lengths: Sequence[int], groups: Sequence[str], sampling: SamplingSettings) -> list[list[int]]:
    """The rows of each batch, longest prompts first: if the memory is too small, it runs out in the first batch.

    Rows of a group (a conversation) are next to each other, so that a common prompt is computed once. A batch's rows
    times (longest prompt + new tokens) stay within `batch_tokens`.
    """
    longest_of: dict[str, int] = {}
    for length, group in zip(lengths, groups, strict=True):
        longest_of[group] = max(length, longest_of.get(group, 0))
    order = sorted(range(len(lengths)), key=lambda row: (-longest_of[groups[row]], groups[row], -lengths[row], row))
    batches: list[list[int]] = []
    width = 0
    for row in order:
        width = max(width, lengths[row] + sampling.max_new_tokens)
        if batches and (len(batches[-1]) + 1) * width <= sampling.batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            width = lengths[row] + sampling.max_new_tokens
    return batches


@torch.inference_mode()
def _decode(
    policy: Policy, prompts: Sequence[Sequence[int]], draws: Tensor, sampling: SamplingSettings, stops: frozenset[int]
) -> list[list[int]]:
    """The token ids of each row, up to and including its first stop token. draws: float64 [B, T] in [0, 1)."""
    ends = torch.tensor(sorted(stops), device=policy.device)
    tokens = torch.full(draws.shape, -1, device=policy.device)
    cached, logits, live = _start(policy, prompts)  # `live`: the row of `tokens` that each row below belongs to
    done = torch.zeros_like(live, dtype=torch.bool)
    left, written = len(live), 0
    for step in range(sampling.max_new_tokens):
        token = pick(logits, draws[live, step], sampling.temperature, sampling.top_p)
        tokens[live, step] = token
        done = done | torch.isin(token, ends)
        written += left
        left = len(live) - int(done.sum())
        if left == 0:
            break
        if step % _STEPS_BETWEEN_REPORTS == _STEPS_BETWEEN_REPORTS - 1:
            begun = UnderWay(left, left * (step + 1) / sampling.max_new_tokens)
            report_progress(len(tokens) - left, len(tokens), written, begun)
        if step + 1 == sampling.max_new_tokens:
            break
        if left < _SHRINK_BELOW_SHARE * len(live):
            keep = (~done).nonzero().flatten()
            cached.select(keep)
            token, live, done = token[keep], live[keep], done[keep]
        logits = cached.append(token)
    return [_until_stop(row, stops) for row in tokens.tolist()]


def _start(policy: Policy, prompts: Sequence[Sequence[int]]) -> tuple[CachedRows, Tensor, Tensor]:
    """A row for each prompt, its logits [B, V], and the prompt's place (int64 [B]): longer prompts come first.

    Every different prompt is computed once, together with others of similar length, so that there is little padding.
    """
    model, device = policy.model.eval(), policy.device
    different = sorted(dict.fromkeys(map(tuple, prompts)), key=len, reverse=True)
    cached = CachedRows(model)
    pass_tokens = _PASS_TOKENS.get(device.type, _PASS_TOKENS["cuda"])
    groups = split_by_length(different, pass_tokens) if cached.can_be_joined else [different]
    parts = [cached, *(CachedRows(model) for _ in groups[1:])]
    logits = torch.cat([part.start(*_pad(group, device)) for part, group in zip(parts, groups, strict=True)])
    cached = CachedRows.join(parts) if len(parts) > 1 else cached
    row_of = {prompt: row for row, prompt in enumerate(different)}
    rows = [row_of[tuple(prompt)] for prompt in prompts]
    places = sorted(range(len(rows)), key=rows.__getitem__)
    if len(different) < len(prompts):  # one row per prompt until here, one per sample from here on
        of_samples = torch.tensor([rows[place] for place in places], device=device)
        cached.select(of_samples)
        logits = logits[of_samples]
    return cached, logits, torch.tensor(places, device=device)


def split_by_length(prompts: Sequence[tuple[int, ...]], pass_tokens: int) -> list[Sequence[tuple[int, ...]]]:
    """Groups of prompts, longest first, split wherever that saves more than `pass_tokens` tokens of padding."""
    longest, count = len(prompts[0]), len(prompts)
    saved, place = max(((longest - len(prompt)) * (count - row), row) for row, prompt in enumerate(prompts))
    if saved <= pass_tokens:
        return [prompts]
    return [*split_by_length(prompts[:place], pass_tokens), *split_by_length(prompts[place:], pass_tokens)]


def _pad(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Left-padded prompts: ids and mask, int64 [D, L]."""
    width = max(map(len, prompts))
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _until_stop(row: list[int], stops: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return row[: end + 1]


def uniforms(key: str, count: int) -> np.ndarray:
    """float64 [count] in [0, 1): a counter-based stream (Philox) that depends on the key alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def pick(logits: Tensor, draws: Tensor, temperature: float, top_p: float) -> Tensor:
    """The next token of each row: int64 [B] from logits [B, V] and draws [B], uniform in [0, 1).

    The nucleus is the smallest set of most likely tokens with at least `top_p` of the mass; the draw picks a point of
    its cumulated mass. Softmax in float32; temperature 0 takes the most likely token.
    """
    scores = logits.float()  # comparing in bfloat16 is slower on a CPU than converting first
    if temperature == 0.0:
        likeliest = scores.max(-1)
        _check_numbers(likeliest.values, logits.dtype)
        return likeliest.indices
    probabilities = (scores / temperature).softmax(-1)
    _check_numbers(probabilities[:, 0], logits.dtype)  # one NaN makes all of a row's probabilities NaN
    if top_p == 1.0:
        return _invert(probabilities.double().cumsum(-1), draws)
    vocabulary = probabilities.shape[-1]
    picked = torch.empty(len(scores), dtype=torch.long, device=scores.device)
    rest = torch.arange(len(scores), device=scores.device)
    for candidates in (*_TOP_CANDIDATES, vocabulary):
        some = probabilities if len(rest) == len(scores) else probabilities[rest]
        in_full = candidates >= vocabulary
        values, tokens = some.sort(dim=-1, descending=True) if in_full else some.topk(candidates, dim=-1)
        place, held = _place_in_nucleus(values, draws[rest], top_p)
        picked[rest] = tokens.gather(-1, place[:, None]).squeeze(-1)
        if in_full or bool(held.all()):
            break
        rest = rest[~held]
    return picked


def _check_numbers(row_values: Tensor, dtype: torch.dtype) -> None:
    if bool(row_values.isnan().any()):
        name = str(dtype).removeprefix("torch.")
        raise DataError(
            f"the policy's logits are NaN in {name}, so it cannot sample. "
            f"{'Check its weights' if dtype == torch.float32 else 'Set policy.dtype=float32'}."
        )


def _place_in_nucleus(values: Tensor, draws: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The sorted candidate that each draw picks (int64 [B]), and whether the candidates hold the nucleus (bool [B])."""
    cumulated = values.double().cumsum(-1)
    inside = (cumulated - values) < top_p
    mass = (values.double() * inside).sum(-1, keepdim=True)
    place = (cumulated <= draws[:, None] * mass).sum(-1)
    return place.minimum(inside.sum(-1) - 1), cumulated[:, -1] >= top_p


def _invert(cumulated: Tensor, draws: Tensor) -> Tensor:
    """The first index at which the cumulated mass exceeds the draw; never one of the zeros after the last."""
    point = draws[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, point, right=True).squeeze(-1).clamp(max=cumulated.shape[-1] - 1)
