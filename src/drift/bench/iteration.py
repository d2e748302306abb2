"""`drift bench iteration`: one iteration on a real model, as the authors compute it and as we do.

Both sides sample one reply to each held-out request of the instructions world, with the same settings; replies end
where the model ends them. Then both train on the same pairs of token ids: our reply is chosen, the authors' side's
reply to the same request is rejected (what is better does not matter for time). Each part runs in a process of its own,
on one thread, the sides in turn.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel

from drift.bench import machine
from drift.bench.iteration_parts import (
    DType,
    SampledReplies,
    SamplingTask,
    SideName,
    TrainedPairs,
    TrainingTask,
    Weights,
    measure_sampling,
    measure_training,
)
from drift.bench.sample import TokenRows
from drift.config import PolicySettings, SamplingSettings
from drift.engine import end_on_interrupt, end_with_parent, interrupts_wait, spawn_context
from drift.errors import ConfigError, DataError, DriftError, PrerequisiteError
from drift.policy.model import Policy, computes_bfloat16, load_policy, resolve_source, save_policy
from drift.policy.samplers.requests import fit_prompt
from drift.policy.source import is_gguf
from drift.progress import report_note, report_progress
from drift.records import Reason
from drift.sandbox.instructions.world import heldout_prompts, instructions_world_hash
from drift.training.tokens import TokenPair

PARTS = ("sampling", "reference", "training", "update")
SIDES: tuple[SideName, SideName] = ("authors", "drift")

RunPart = Callable[[Callable[[Any], Any], Any], Any]
"""Runs a function of `iteration_parts` on its task."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PartFigures:
    """`ratio`: the authors' seconds / ours. `seconds`, `peak_share`: by side.

    `peak_share`: the least matrix products that the part needs (2 x weights x tokens; each prompt once, the head for
    tokens of replies alone; three times that with the backward pass) per second, as a share of the machine's peak. It
    is the same work for both sides; None for the update, which has no matrix products.
    """

    ratio: Spread
    seconds: dict[SideName, Spread]
    peak_share: dict[SideName, Spread] | None


@dataclass(frozen=True, slots=True)
class IterationBench:
    """Medians over the rounds. Seconds: CPU time of one thread; on a GPU, time of the wall clock.

    `ratio`: the authors' seconds / ours, of the whole iteration. `train_peak_share`: of our forward and backward
    passes. `memory_ratio`: `step_mib`, ours / the authors'; what a step adds to the policy's weights (a reference
    model, activations, logits, gradients), without the optimizer's states, which are equal. Sampling seconds are scaled
    to the mean number of reply tokens of both sides. `peak_tflops`: of a matrix product, the best of all processes.
    `skipped_prompts`: too long for the model.
    """

    ratio: float
    train_peak_share: float
    sample_tokens_per_cpu_second: float
    memory_ratio: float
    ratio_spread: tuple[float, float]
    parts: dict[str, PartFigures]
    tokens_per_cpu_second: dict[SideName, Spread]
    step_mib: dict[SideName, Spread]
    peak_tflops: float
    prompts: int
    skipped_prompts: int
    rounds: int
    seed: int
    shapes: dict[str, Any]
    conditions: dict[str, Any]
    machine: dict[str, str]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured: by side, the sampling and the training; and the pairs of the training."""

    prompts: TokenRows
    sampled: dict[SideName, SampledReplies]
    pairs: list[TokenPair]
    trained: dict[SideName, TrainedPairs]

    def seconds(self, side: SideName, part: str) -> float:
        if part != "sampling":
            return getattr(self.trained[side], part)
        tokens = {name: sum(map(len, self.sampled[name].replies)) for name in SIDES}
        return self.sampled[side].seconds * statistics.mean(tokens.values()) / tokens[side]

    def total(self, side: SideName) -> float:
        return sum(self.seconds(side, part) for part in PARTS)

    def flops(self, part: str, weights: Weights) -> float:
        """The least that the part needs, see PartFigures."""
        if part == "sampling":
            replies = statistics.mean(sum(map(len, self.sampled[name].replies)) for name in SIDES)
            return weights.flops(sum(map(len, self.prompts)) + int(replies), int(replies))
        scored = sum(len(pair.chosen) + len(pair.rejected) for pair in self.pairs)
        forward = weights.flops(sum(len(pair.prompt) for pair in self.pairs) + scored, scored)
        return forward * (3 if part == "training" else 1)


def in_own_process(work: Callable[[Any], Any], task: Any) -> Any:
    """Run it in a new process, so that neither memory nor caches of another part are measured.

    The authors' side gets torch's own allocations: the pages that `drift` asks for are ours.
    """
    context = spawn_context()
    with _pages_of(task.side), ProcessPoolExecutor(1, mp_context=context, initializer=_begin) as pool:
        try:
            with interrupts_wait():
                measured = pool.submit(work, task)
            return measured.result()
        except BrokenProcessPool:
            raise DriftError(
                f"the process of {work.__name__} ({task.side}) was killed, probably for lack of memory; "
                "take a smaller --model, fewer --prompts or fewer --max-new-tokens."
            ) from None


@contextmanager
def _pages_of(side: SideName) -> Iterator[None]:
    """A process that starts within it allocates memory as that side does."""
    ours = os.environ["THP_MEM_ALLOC_ENABLE"]  # `drift` sets it
    os.environ["THP_MEM_ALLOC_ENABLE"] = ours if side == "drift" else "0"
    try:
        yield
    finally:
        os.environ["THP_MEM_ALLOC_ENABLE"] = ours


def _begin() -> None:
    end_on_interrupt()
    end_with_parent()


def bench_iteration(
    model: str,
    prompts: int,
    max_new_tokens: int,
    rounds: int,
    dtype: DType | None,
    seed: int,
    run: RunPart = in_own_process,
    history: int = 0,
) -> IterationBench:
    """Measure `rounds` iterations of `prompts` requests each. `dtype`: None means bfloat16 where the machine has it.
    `history`: so many tokens of other requests precede each one, as the turns before it do in a long chat.

    Raises PrerequisiteError without TRL or without the model, ConfigError for an adapter, DataError if no request fits.
    """
    if not util.find_spec("trl"):
        raise PrerequisiteError("drift bench iteration needs TRL: pip install -c constraints.txt -e '.[dev]'")
    dtype = dtype or ("bfloat16" if computes_bfloat16() else "float32")
    sampling = SamplingSettings(max_new_tokens=max_new_tokens)
    with TemporaryDirectory(prefix="drift-bench-") as folder:
        policy = load_policy(model, PolicySettings(dtype=dtype))
        if isinstance(policy.model, PeftModel):
            raise ConfigError(
                f"--model {model}: an adapter, and the bench needs a whole model. For one that a run trained: "
                "drift export RUN --merge --to DIR, then --model DIR/model"
            )
        source = resolve_source(model)
        if is_gguf(source):  # reading it takes longer than sampling from it, so it is unpacked once
            source = str(Path(folder) / "model")
            save_policy(policy, Path(source))
        rows, skipped = _prompts(policy, prompts * rounds, rounds, sampling, history)
        weights, context = Weights.of(policy), policy.model.config.get_text_config().to_dict()
        del policy
        measured: list[Round] = []
        for number in range(rounds):
            part = rows[number::rounds]
            measured.append(_measure(source, dtype, part, sampling, seed + number, run))
            report_progress(number + 1, rounds)
    conditions = {"dtype": dtype, "model": Path(model).name, "history": history}
    return _figures(measured, weights, skipped, context, conditions, seed)


def _prompts(
    policy: Policy, count: int, rounds: int, sampling: SamplingSettings, history: int
) -> tuple[TokenRows, int]:
    """Held-out requests as token ids, at least one for each round, and the number of those that are too long."""
    fitted = [fit_prompt(policy.facts, messages, sampling) for messages in heldout_prompts("validation", count)]
    rows = [(*prompt.ids, *prompt.given) for prompt in fitted if not isinstance(prompt, Reason)]
    rows = [(*before, *row) for before, row in zip(_before(rows, history), rows, strict=True)]
    fitting = len(rows)
    rows = [row for row in rows if len(row) + sampling.max_new_tokens <= policy.context_length]
    if len(rows) < fitting:
        report_note(f"{fitting - len(rows)} requests do not fit after {history} tokens of history")
    after = f" after {history} tokens of history" if history else ""
    lower = f"lower --max-new-tokens{' or --history' if history else ''}"
    if not rows:
        raise DataError(
            f"none of {count} requests fits into the model's {policy.context_length} positions with "
            f"{sampling.max_new_tokens} tokens of reply{after}; {lower}."
        )
    if len(rows) < rounds:
        raise DataError(
            f"{len(rows)} of {count} requests fit into the model's {policy.context_length} positions with "
            f"{sampling.max_new_tokens} tokens of reply{after}, fewer than the {rounds} rounds; {lower} or "
            "--rounds, or raise --prompts."
        )
    return rows, count - len(rows)


def _before(rows: TokenRows, length: int) -> list[tuple[int, ...]]:
    """For each row so many tokens of the rows that follow it, from the first one again after the last."""
    rotated = [(*rows[i:], *rows[:i]) for i in range(1, len(rows) + 1)]
    return [tuple(islice(chain.from_iterable(cycle(others)), length)) for others in rotated]


def _measure(
    source: str, dtype: DType, prompts: TokenRows, sampling: SamplingSettings, seed: int, run: RunPart
) -> Round:
    sampled: dict[SideName, SampledReplies] = {}
    trained: dict[SideName, TrainedPairs] = {}
    for side in SIDES:
        sampled[side] = run(measure_sampling, SamplingTask(side, source, dtype, prompts, sampling, seed))
        report_note(f"{side}: sampled in {sampled[side].seconds:.1f} s")
    replies = zip(sampled["drift"].replies, sampled["authors"].replies, strict=True)
    pairs = [TokenPair(prompt, *both) for prompt, both in zip(prompts, replies, strict=True)]
    for side in SIDES:
        trained[side] = run(measure_training, TrainingTask(side, source, dtype, pairs, seed))
        report_note(f"{side}: trained in {trained[side].training:.1f} s")
    return Round(prompts, sampled, pairs, trained)


def _figures(
    rounds: Sequence[Round],
    weights: Weights,
    skipped: int,
    config: dict[str, Any],
    conditions: dict[str, Any],
    seed: int,
) -> IterationBench:
    peak = max(part.peak_flops for each in rounds for part in (*each.sampled.values(), *each.trained.values()))
    parts = {part: _part(rounds, part, weights, peak) for part in PARTS}
    rates: dict[SideName, Spread] = {
        side: _spread([sum(map(len, each.sampled[side].replies)) / each.sampled[side].seconds for each in rounds])
        for side in SIDES
    }
    ratio = _spread([each.total("authors") / each.total("drift") for each in rounds])
    shares = parts["training"].peak_share or {}
    memory = [each.trained["drift"].step_bytes / each.trained["authors"].step_bytes for each in rounds]
    return IterationBench(
        ratio=ratio.median,
        train_peak_share=shares["drift"].median,
        sample_tokens_per_cpu_second=rates["drift"].median,
        memory_ratio=_spread(memory).median,
        ratio_spread=(ratio.low, ratio.high),
        parts=parts,
        tokens_per_cpu_second=rates,
        step_mib={side: _spread([each.trained[side].step_bytes / 2**20 for each in rounds]) for side in SIDES},
        peak_tflops=round(peak / 1e12, 3),
        prompts=sum(len(each.prompts) for each in rounds),
        skipped_prompts=skipped,
        rounds=len(rounds),
        seed=seed,
        shapes=_shapes(rounds, weights, config),
        conditions=conditions,
        machine={
            **machine("torch", "transformers", "trl", "accelerate"),
            "threads": "1",
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
            "world": instructions_world_hash(),
        },
    )


def _part(rounds: Sequence[Round], part: str, weights: Weights, peak: float) -> PartFigures:
    shares: dict[SideName, Spread] = {
        side: _spread([each.flops(part, weights) / each.seconds(side, part) / peak for each in rounds])
        for side in SIDES
    }
    return PartFigures(
        ratio=_spread([each.seconds("authors", part) / each.seconds("drift", part) for each in rounds]),
        seconds={side: _spread([each.seconds(side, part) for each in rounds]) for side in SIDES},
        peak_share=None if part == "update" else shares,
    )


def _shapes(rounds: Sequence[Round], weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
    """Of the model, and lengths in tokens: shortest, median, longest."""

    def lengths(rows: Sequence[Sequence[int]]) -> tuple[int, float, int]:
        counts = [len(row) for row in rows]
        return min(counts), statistics.median(counts), max(counts)

    pairs = [pair for each in rounds for pair in each.pairs]
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
    return {
        "parameters": {"layers": weights.layers, "head": weights.head},
        **{name: config[name] for name in names if name in config},
        "prompt_tokens": lengths([pair.prompt for pair in pairs]),
        "reply_tokens": {
            "authors": lengths([pair.rejected for pair in pairs]),
            "drift": lengths([pair.chosen for pair in pairs]),
        },
        "trained_tokens": {side: sum(each.trained[side].padded_tokens for each in rounds) for side in SIDES},
    }


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(round(value, 4) for value in (statistics.median(values), min(values), max(values))))
