"""The decode loop: prompt ids in, completions out, each from its own stream of random numbers.

`model.generate` draws one stream for a whole batch, so a completion would change with its neighbours. Here every row
owns its uniforms, and the token is picked by inverting its distribution. Rows that are done leave the batch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from drift.config import SamplingSettings
from drift.policy.chat import decode, end_of_turn
from drift.policy.model import Policy
from drift.progress import report_progress
from drift.records import Finish

_TOP = 64  # candidates that nearly always hold the nucleus; only where they do not is the whole vocabulary sorted
_SHRINK_BELOW = 0.75  # the batch is cut to its live rows when fewer than this share are left


@dataclass(frozen=True, slots=True)
class Generated:
    """`token_ids` include the end token that was produced (`stop`), so that training sees exactly these ids."""

    text: str
    token_ids: tuple[int, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class _Batch:
    """Left-padded rows. prompt: int64 [B, L]; mask: int64 [B, L]; uniforms: float64 [B, T] in [0, 1)."""

    prompt: Tensor
    mask: Tensor
    uniforms: Tensor


def generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    sampling: SamplingSettings,
) -> list[Generated]:
    """One completion per prompt, in the order given; `keys` name the random stream of each.

    The same key and prompt give the same completion in any batch and order (in float32). Temperature 0 is greedy.
    """
    results: dict[int, Generated] = {}
    stops = stop_ids(policy)
    for rows in _batches(prompts, sampling):
        batch = _pad(policy, [prompts[row] for row in rows], [keys[row] for row in rows], sampling.max_new_tokens)
        for row, ids in zip(rows, _decode(policy, batch, sampling, stops), strict=True):
            finish: Finish = "stop" if ids and ids[-1] in stops else "length"
            results[row] = Generated(decode(policy.tokenizer, ids), tuple(ids), finish)
        report_progress(len(results), len(prompts))
    return [results[row] for row in range(len(prompts))]


def stop_ids(policy: Policy) -> frozenset[int]:
    """Every token that ends a reply: the template's, the tokenizer's EOS, and those of the generation config."""
    declared = getattr(policy.model.generation_config, "eos_token_id", None)
    found = [end_of_turn(policy.tokenizer), policy.tokenizer.eos_token_id]
    found += declared if isinstance(declared, list) else [declared]
    return frozenset(token for token in found if token is not None)


def _batches(prompts: Sequence[Sequence[int]], sampling: SamplingSettings) -> list[list[int]]:
    """Rows of like length together, each batch within `batch_tokens`."""
    batches: list[list[int]] = []
    for row in sorted(range(len(prompts)), key=lambda row: -len(prompts[row])):
        longest = len(prompts[batches[-1][0]]) + sampling.max_new_tokens if batches else 0
        if batches and (len(batches[-1]) + 1) * longest <= sampling.batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _pad(policy: Policy, prompts: list[Sequence[int]], keys: list[str], new_tokens: int) -> _Batch:
    width = max(map(len, prompts))
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    draws = np.stack([_uniforms(key, new_tokens) for key in keys])
    return _Batch(*(torch.from_numpy(array).to(policy.device) for array in (ids, mask, draws)))


def _uniforms(key: str, count: int) -> np.ndarray:
    """float64 [count] in [0, 1): a counter-based stream that depends on the key alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


@torch.inference_mode()
def _decode(policy: Policy, batch: _Batch, sampling: SamplingSettings, stops: frozenset[int]) -> list[list[int]]:
    """Token ids per row, up to and with the first stop token."""
    model = policy.model.eval()
    ends = torch.tensor(sorted(stops), device=policy.device)
    tokens = torch.full(batch.uniforms.shape, -1, device=policy.device)
    live = torch.arange(len(tokens), device=policy.device)  # the row of `tokens` that each row below belongs to
    done = torch.zeros_like(live, dtype=torch.bool)
    cache, ids, mask = DynamicCache(config=model.config), batch.prompt, batch.mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    for step in range(sampling.max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        token = pick(logits, batch.uniforms[live, step], sampling.temperature, sampling.top_p)
        tokens[live, step] = token
        done = done | torch.isin(token, ends)
        left = len(live) - int(done.sum())
        if left == 0:
            break
        ids, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if left < _SHRINK_BELOW * len(live):
            keep = (~done).nonzero().flatten()
            cache.batch_select_indices(keep)
            ids, positions, mask, live, done = ids[keep], positions[keep], mask[keep], live[keep], done[keep]
    return [_until_stop(row, stops) for row in tokens.tolist()]


def _until_stop(row: list[int], stops: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return row[: end + 1]


def pick(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """The next token of each row: int64 [B] from logits [B, V] and uniforms [B] in [0, 1).

    The nucleus is the smallest set of most likely tokens with at least `top_p` of the mass; the uniform picks a point
    of its cumulated mass. Softmax in float32; temperature 0 takes the most likely token.
    """
    if temperature == 0.0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    values, tokens = _candidates(probabilities, top_p)
    cumulated = values.double().cumsum(-1)
    inside = (cumulated - values) < top_p
    mass = (values.double() * inside).sum(-1, keepdim=True)
    place = (cumulated <= uniforms[:, None] * mass).sum(-1, keepdim=True)
    last = inside.sum(-1, keepdim=True) - 1
    return tokens.gather(-1, place.minimum(last)).squeeze(-1)


def _candidates(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities and their tokens, most likely first; all of them in the vocabulary's order if none is cut off."""
    if top_p == 1.0:
        return probabilities, torch.arange(probabilities.shape[-1], device=probabilities.device).expand_as(
            probabilities
        )
    values, tokens = probabilities.topk(min(_TOP, probabilities.shape[-1]), dim=-1)
    if bool((values.double().sum(-1) >= top_p).all()):
        return values, tokens
    return probabilities.sort(dim=-1, descending=True)
