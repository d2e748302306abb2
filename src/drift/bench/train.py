"""`drift bench train`: our training step against TRL's DPOTrainer, same pairs and random weights, in one process.

A step is: log-probs of the reference, forward, backward. TRL computes its reference within the step; ours is a separate
pass in larger batches, whose time is added to each step. Clipping and the optimizer are the same torch code on both
sides and run after every step; only `ratio_with_update` includes them. The rival is TRL as installed, with the same
precision and checkpointing.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from unittest.mock import patch

import torch

from drift.bench import machine
from drift.bench.sides import BATCH, Conditions, Ours, Rival, Shape, TimedSide, make_model, make_pairs
from drift.errors import PrerequisiteError
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True)
class Seconds:
    """Process CPU time of a step: median and quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TrainBench:
    """`ratio`: rival time / our time, median of the steps. `saved_activation_ratio`: our bytes / the rival's.

    `loss_difference`, `gradient_difference`: relative, in float32, on one batch. `reference_pass`: its seconds
    per step of ours. `saved_bytes`, `tokens_per_step` (including padding): ours, then the rival's.
    """

    ratio: float
    ratio_quartiles: tuple[float, float]
    ratio_with_update: float
    saved_activation_ratio: float
    loss_difference: float
    gradient_difference: float
    ours: Seconds
    reference_pass: float
    rival: Seconds
    saved_bytes: tuple[int, int]
    tokens_per_step: tuple[int, int]
    steps: int
    seed: int
    shape: Shape
    conditions: Conditions
    machine: dict[str, str]


def bench_train(shape: Shape, conditions: Conditions, steps: int, seed: int) -> TrainBench:
    """Measure `steps` steps after a warm-up step. Raises PrerequisiteError without TRL."""
    if not util.find_spec("trl"):
        raise PrerequisiteError("drift bench train needs TRL: pip install -c constraints.txt -e '.[dev]'")
    torch.set_num_threads(1)
    pairs = make_pairs(shape, BATCH * (steps + 1), seed)
    batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    with tempfile.TemporaryDirectory() as folder, _head_compaction(conditions.compact_rival):
        differences = compare(shape, conditions, batches[0], seed, Path(folder))
        model = make_model(shape, conditions, seed)
        reference = None if conditions.lora else copy.deepcopy(model)
        rival = Rival(copy.deepcopy(model), reference, conditions, seed, Path(folder))
        ours = Ours(model, conditions, seed, Path(folder))
        saved = saved_bytes(ours, batches[0]), saved_bytes(rival, batches[0])
        ours.reference(ours.model, batches[0])
        per_step = cpu_seconds(ours.reference, ours.model, pairs) / len(batches)
        times = [(*timed(ours, batch, per_step), *timed(rival, batch)) for batch in batches][1:]
        tokens = [sum(map(side.padded_tokens, batches)) // len(batches) for side in (ours, rival)]
    ratio = _quartiles([theirs / mine for mine, _, theirs, _ in times])
    return TrainBench(
        ratio=ratio.median,
        ratio_quartiles=(ratio.low, ratio.high),
        ratio_with_update=_quartiles([(row[2] + row[3]) / (row[0] + row[1]) for row in times]).median,
        saved_activation_ratio=round(saved[0] / saved[1], 3),
        loss_difference=differences[0],
        gradient_difference=differences[1],
        ours=_quartiles([mine for mine, _, _, _ in times]),
        reference_pass=round(per_step, 3),
        rival=_quartiles([theirs for _, _, theirs, _ in times]),
        saved_bytes=saved,
        tokens_per_step=(tokens[0], tokens[1]),
        steps=steps,
        seed=seed,
        shape=shape,
        conditions=conditions,
        machine={
            **machine("torch", "transformers", "trl", "peft"),
            "threads": "1",
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        },
    )


def timed(side: TimedSide, pairs: Sequence[TokenPair], more: float = 0.0) -> tuple[float, float]:
    """CPU seconds of a step (plus `more`), and of the update after it."""
    return cpu_seconds(side.backward, pairs) + more, cpu_seconds(side.update)


def compare(
    shape: Shape, conditions: Conditions, pairs: Sequence[TokenPair], seed: int, folder: Path
) -> tuple[float, float]:
    """Relative differences of loss and gradient in float32, with trained weights that differ from their reference."""
    exact = replace(conditions, dtype="float32")
    reference = make_model(shape, exact, seed)
    model = copy.deepcopy(reference)
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 2e-3 * torch.randn_like(weight)
    scoring = copy.deepcopy(model if exact.lora else reference)  # TRL's reference is the adapter as passed in
    choose_packing(scoring)
    ours = Ours(copy.deepcopy(model), exact, seed, folder)
    rival = Rival(model, None if exact.lora else reference, exact, seed, folder)
    scored = ours.reference(scoring, pairs)
    mine, theirs = _loss_and_gradient(ours, scored), _loss_and_gradient(rival, pairs)
    return abs(mine[0] - theirs[0]) / abs(theirs[0]), float((mine[1] - theirs[1]).norm() / theirs[1].norm())


def _loss_and_gradient(side: TimedSide, pairs: Sequence[TokenPair]) -> tuple[float, torch.Tensor]:
    loss = side.backward(pairs)
    gradient = torch.cat([p.grad.flatten() for p in side.model.parameters() if p.grad is not None])
    return loss, gradient


def saved_bytes(side: TimedSide, pairs: Sequence[TokenPair]) -> int:
    """Bytes that a step saves for its backward pass, each storage once, without parameters and casts of parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in side.model.parameters()}
    shapes = {tuple(sorted(p.shape)) for p in side.model.parameters() if p.ndim == 2}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        is_weight = tensor.ndim == 2 and tuple(sorted(tensor.shape)) in shapes
        if tensor.untyped_storage().data_ptr() not in parameters and not is_weight:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        side.backward(pairs)
    side.model.zero_grad()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def cpu_seconds(work: Callable[..., object], *inputs: object) -> float:
    begun = time.process_time()
    work(*inputs)
    return time.process_time() - begun


@contextmanager
def _head_compaction(forced: bool) -> Iterator[None]:
    """TRL computes logits of completion tokens only on CUDA, and of all tokens elsewhere. `forced`: as on CUDA."""
    if not forced:
        yield
        return
    with patch("trl.trainer.utils._use_triton", lambda device: True):
        yield


def _quartiles(values: Sequence[float]) -> Seconds:
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Seconds(round(median, 3), round(low, 3), round(high, 3))
