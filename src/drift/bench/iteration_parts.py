"""What `drift bench iteration` measures in a process of its own: one side's sampling, or its training."""

import copy
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

from drift.bench.sample import TokenRows, arrival_batches, generate_replies
from drift.bench.sides import BATCH, Conditions, Ours, Rival, TimedSide
from drift.config import PolicySettings, SamplingSettings
from drift.policy.model import Policy, cpu_threads, load_policy
from drift.policy.samplers.transformers import generate
from drift.training.tokens import TokenPair

DType = Literal["bfloat16", "float32"]
SideName = Literal["drift", "authors"]
PRODUCT_SIZE = 2048
PRODUCTS = 9


@dataclass(frozen=True, slots=True)
class SamplingTask:
    side: SideName
    model: str
    dtype: DType
    prompts: TokenRows
    sampling: SamplingSettings
    seed: int


@dataclass(frozen=True, slots=True)
class SampledReplies:
    """`seconds`: see `Clock`. `peak_flops`: of a large matrix product in this process, per second."""

    seconds: float
    replies: TokenRows
    peak_flops: float


@dataclass(frozen=True, slots=True)
class TrainingTask:
    side: SideName
    model: str
    dtype: DType
    pairs: list[TokenPair]
    seed: int


@dataclass(frozen=True, slots=True)
class TrainedPairs:
    """Seconds over all pairs. `step_bytes`: see `_memory_of_a_step`. `padded_tokens`: computed, padding included."""

    reference: float
    training: float
    update: float
    step_bytes: int
    padded_tokens: int
    peak_flops: float


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters that a token is multiplied with: those of the layers, and of the head. The rest are looked up.

    Of a mixture of experts all experts count, so its shares of the peak are too high.
    """

    layers: int
    head: int

    @classmethod
    def of(cls, policy: Policy) -> "Weights":
        model: Any = policy.model
        looked_up, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        tables = {id(weight): weight.numel() for weight in (looked_up, head)}
        return cls(model.num_parameters() - sum(tables.values()), head.numel())

    def flops(self, tokens: int, scored: int) -> float:
        """Of a forward pass, without attention scores. `scored`: tokens that a head must predict."""
        return 2.0 * (self.layers * tokens + self.head * scored)


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of the process's CPU time on one thread; on a GPU, of the wall clock."""

    device: torch.device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def measure_sampling(task: SamplingTask) -> SampledReplies:
    """One reply to each prompt. A short reply to one prompt comes first and is not measured."""
    with cpu_threads(1):
        policy = load_policy(task.model, PolicySettings(dtype=task.dtype))
        clock = Clock(policy.device)
        _replies(task.side, policy, task.prompts[:1], task.sampling.model_copy(update={"max_new_tokens": 2}), task.seed)
        begun = clock.now()
        replies = _replies(task.side, policy, task.prompts, task.sampling, task.seed)
        return SampledReplies(clock.now() - begun, replies, peak_flops(task.dtype, clock))


def _replies(side: SideName, policy: Policy, prompts: TokenRows, sampling: SamplingSettings, seed: int) -> TokenRows:
    if side == "authors":
        return generate_replies(policy, arrival_batches(prompts), sampling, seed)
    keys = [f"bench iteration {seed}/{row}" for row in range(len(prompts))]
    return [reply.token_ids or () for reply in generate(policy, prompts, keys, sampling)]


def measure_training(task: TrainingTask) -> TrainedPairs:
    """The reference's log-probs, then a step with its update for every BATCH pairs.

    One step without an update comes first: it warms up, and its memory is measured. TRL computes its reference within
    each step, so that part is timed around its reference model, which holds its weights in the number type of the
    bench; ours is a pass of its own before the steps.
    """
    batches = [task.pairs[start : start + BATCH] for start in range(0, len(task.pairs), BATCH)]
    conditions = Conditions(task.dtype)
    with cpu_threads(1), TemporaryDirectory(prefix="drift-bench-") as folder:
        policy = load_policy(task.model, PolicySettings(dtype="float32"))
        clock = Clock(policy.device)
        if task.side == "drift":
            side = Ours(policy.model, conditions, task.seed, Path(folder))
            trained = _train_ours(side, task.pairs, batches, clock)
        else:
            reference = copy.deepcopy(policy.model).to(getattr(torch, task.dtype))  # pyright: ignore
            side = Rival(policy.model, reference, conditions, task.seed, Path(folder))
            trained = _train_rival(side, reference, batches, clock)
        padded = sum(map(side.padded_tokens, batches))
        return TrainedPairs(*trained, padded, peak_flops(task.dtype, clock))


def _train_ours(
    side: Ours, pairs: Sequence[TokenPair], batches: Sequence[Sequence[TokenPair]], clock: Clock
) -> tuple[float, float, float, int]:
    side.reference(side.model, pairs[:1])
    memory = Memory(clock.device)
    begun = clock.now()
    scored = side.reference(side.model, pairs)
    reference = clock.now() - begun
    rows = [scored[start : start + BATCH] for start in range(0, len(scored), BATCH)]
    _first_step(side, rows)
    step_bytes = memory.growth()
    training, update = _steps(side, rows, clock)
    return reference, training, update, step_bytes


def _train_rival(
    side: Rival, reference: nn.Module, batches: Sequence[Sequence[TokenPair]], clock: Clock
) -> tuple[float, float, float, int]:
    watch = ForwardWatch(reference, clock)
    memory = Memory(clock.device)
    _first_step(side, batches)
    step_bytes = memory.growth() + sum(weight.numel() * weight.element_size() for weight in reference.parameters())
    watch.seconds = 0.0
    training, update = _steps(side, batches, clock)
    return watch.seconds, training - watch.seconds, update, step_bytes


def _first_step(side: TimedSide, batches: Sequence[Sequence[TokenPair]]) -> None:
    """The largest step, whose memory is the peak."""
    side.backward(max(batches, key=side.padded_tokens))
    side.model.zero_grad()


def _steps(side: TimedSide, batches: Sequence[Sequence[TokenPair]], clock: Clock) -> tuple[float, float]:
    """Seconds of forward and backward, and of clipping and optimizer."""
    training = update = 0.0
    for batch in batches:
        begun = clock.now()
        side.backward(batch)
        between = clock.now()
        side.update()
        training, update = training + between - begun, update + clock.now() - between
    return training, update


class ForwardWatch:
    """Adds up the seconds of a module's forward passes."""

    def __init__(self, module: nn.Module, clock: Clock):
        self.seconds = 0.0
        self._clock = clock
        module.register_forward_pre_hook(self._begin)
        module.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._begun = self._clock.now()

    def _end(self, *_: object) -> None:
        self.seconds += self._clock.now() - self._begun


class Memory:
    """Bytes by which the peak of the process's memory (on a GPU: of allocated memory) exceeds that at the start.

    Linux can forget an earlier peak; elsewhere, the growth beyond it is measured.
    """

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return
        forget = Path("/proc/self/clear_refs")
        if forget.exists():
            forget.write_text("5", "ascii")
        self._start = self._peak()

    def growth(self) -> int:
        return self._peak() - self._start

    def _peak(self) -> int:
        if self._on_gpu:
            return torch.cuda.max_memory_allocated()
        status = Path("/proc/self/status")
        if status.exists():
            fields = dict(line.split(":", 1) for line in status.read_text("ascii").splitlines())
            return int(fields["VmHWM"].split()[0]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_flops(dtype: DType, clock: Clock) -> float:
    """Floating-point operations per second of a product of two square matrices: the median of a few."""
    size = PRODUCT_SIZE * (4 if clock.device.type == "cuda" else 1)
    left, right = (torch.randn(size, size, dtype=getattr(torch, dtype), device=clock.device) for _ in range(2))
    seconds: list[float] = []
    for _ in range(PRODUCTS):
        begun = clock.now()
        torch.mm(left, right)
        seconds.append(clock.now() - begun)
    return 2.0 * size**3 / statistics.median(seconds)
