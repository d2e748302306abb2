"""Data parallel: the processes share the micro-batches of one step, and their gradients add up to one process's.

Every process sees the whole step. The list of micro-batches is filled up with silent ones, weight 0, so that all
processes run equally many forward and backward passes and none waits for another that is through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator

from drift.training.batch import PairBatch


def share(batches: Sequence[PairBatch], rank: int, processes: int) -> tuple[list[PairBatch], int]:
    """What process `rank` computes, and how many of these come first and are no silent ones."""
    missing = -len(batches) % processes
    filled = [*batches, *[silent(batches[-1])] * missing]  # the last is the one of the shortest pairs
    return filled[rank::processes], len(batches[rank::processes])


def silent(batch: PairBatch) -> PairBatch:
    """The same computation, without a share in the loss."""
    nothing = torch.zeros_like(batch.weights)
    return replace(batch, weights=nothing, token_weights=nothing)


def mean_over_processes(values: Mapping[str, float], pairs: int, accelerator: Accelerator) -> dict[str, float]:
    """Means over each process's pairs to means over all pairs. `pairs`: how many of them are this process's."""
    if accelerator.num_processes == 1:
        return dict(values)
    sums = [value * pairs if pairs else 0.0 for value in values.values()]
    total = torch.tensor([*sums, float(pairs)], dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(total)
    return dict(zip(values, (total[:-1] / total[-1]).tolist(), strict=True))
