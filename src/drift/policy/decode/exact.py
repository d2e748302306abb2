"""Does this model decode a batch exactly? Checked before the first batch of every model that keeps more than keys and
values.

Recurrent layers, convolutions and compressed attention keep states. A model whose padding gets into its states, or
which keeps them where rows cannot leave the batch, would sample wrong tokens without a word.
"""

from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from drift.policy.decode.cache import CachedRows, not_decoded

_CHECKED: WeakSet[Any] = WeakSet()

_NATS = {torch.float32: 1e-4}
_NATS_IN_OTHER_TYPES = 1e-2
"""Mean difference of a log-prob that rounding makes."""
_SHARE = {torch.float32: 0.02}
_SHARE_IN_OTHER_TYPES = 0.08
"""The same as a share of the difference that forgetting the row makes: trained models have larger log-probs."""
_TIMES_ALONE = 5
"""And of what rounding makes of the row if it is decoded alone: deep models in bfloat16 have much of it."""


def check_decoding(model: Any) -> None:
    """Raises PrerequisiteError if rows of a batch, with padding before them and after others have left, get other
    log-probs than by the plain forward pass."""
    if model in _CHECKED:
        return
    if not CachedRows(model).of_plain_attention:
        with torch.inference_mode():
            _check(model.eval())
    _CHECKED.add(model)


def _check(model: Any) -> None:
    device = next(model.parameters()).device
    short, long = torch.tensor(_ids(0, 3), device=device), torch.tensor(_ids(3, 9), device=device)
    first, second = torch.tensor(_ids(12, 3), device=device), torch.tensor(_ids(15, 2), device=device)
    try:
        logits = _batch(model, short, long, first, second)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        raise not_decoded(model, f"its forward pass fails ({' '.join(str(error).split())[:100]})") from None
    kept = (torch.cat([short, first[:1], second[:1]]), torch.cat([long, first[2:], second[1:]]))
    for batched, row in zip(logits, kept, strict=True):
        plain = _logps(model(input_ids=row[None], use_cache=False).logits[0, -1])
        forgetful = _logps(model(input_ids=row[None, -1:], use_cache=False).logits[0, -1])
        error, effect = _difference(_logps(batched), plain), _difference(forgetful, plain)
        allowed = max(
            _NATS.get(model.dtype, _NATS_IN_OTHER_TYPES),
            effect * _SHARE.get(model.dtype, _SHARE_IN_OTHER_TYPES),
            0.0 if model.dtype == torch.float32 else _TIMES_ALONE * _difference(_logps(_alone(model, row)), plain),
        )
        if not error <= allowed:
            raise not_decoded(model, f"a batch changes its log-probs (by {error:.2g} nats, allowed {allowed:.2g})")


def _batch(model: Any, short: Tensor, long: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The logits of the short row and of the second of two samples of the long one, two tokens on: [2, V]."""
    padding = len(long) - len(short)
    ids = torch.stack([torch.cat([short.new_zeros(padding), short]), long])
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    rows = CachedRows(model)
    rows.start(ids, mask)
    rows.select(torch.tensor([0, 1, 1], device=ids.device))
    rows.append(first)
    rows.select(torch.tensor([0, 2], device=ids.device))
    return rows.append(second)


def _alone(model: Any, row: Tensor) -> Tensor:
    """The logits after the row, decoded without padding and without other rows: [V]."""
    rows, start = CachedRows(model), row[None, :-2]
    rows.start(start, torch.ones_like(start))
    rows.append(row[-2:-1])
    return rows.append(row[-1:])[0]


def _logps(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)


def _difference(left: Tensor, right: Tensor) -> float:
    """Mean absolute difference over the vocabulary, nats."""
    return float((left - right).abs().mean())


def _ids(start: int, count: int) -> list[int]:
    """Different small ids, which every vocabulary has."""
    return [3 + 7 * (start + index) % 61 for index in range(count)]
