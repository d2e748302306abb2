"""The next token of each row, from a random number of its own."""

import hashlib

import numpy as np
import torch
from torch import Tensor

_TOP = 64  # candidates that nearly always hold the nucleus; only rows for which they do not are sorted whole


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
        return scores.argmax(-1)
    probabilities = (scores / temperature).softmax(-1)
    if top_p == 1.0:
        return _invert(probabilities.double().cumsum(-1), draws)
    values, tokens = probabilities.topk(min(_TOP, probabilities.shape[-1]), dim=-1)
    place, held = _place_in_nucleus(values, draws, top_p)
    picked = tokens.gather(-1, place[:, None]).squeeze(-1)
    if not bool(held.all()):
        rest = (~held).nonzero().flatten()
        values, tokens = probabilities[rest].sort(dim=-1, descending=True)
        place, _ = _place_in_nucleus(values, draws[rest], top_p)
        picked[rest] = tokens.gather(-1, place[:, None]).squeeze(-1)
    return picked


def _place_in_nucleus(values: Tensor, draws: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Which sorted candidate each draw picks (int64 [B]), and whether they held the whole nucleus (bool [B])."""
    cumulated = values.double().cumsum(-1)
    inside = (cumulated - values) < top_p
    mass = (values.double() * inside).sum(-1, keepdim=True)
    place = (cumulated <= draws[:, None] * mass).sum(-1)
    return place.minimum(inside.sum(-1) - 1), cumulated[:, -1] >= top_p


def _invert(cumulated: Tensor, draws: Tensor) -> Tensor:
    """The first place at which the cumulated mass passes the draw; never one of the zeros behind the last."""
    point = draws[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, point, right=True).squeeze(-1).clamp(max=cumulated.shape[-1] - 1)
