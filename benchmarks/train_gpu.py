"""A training step at 7B shapes on one CUDA GPU, ours and TRL's: seconds, peak memory, and the share of the GPU's peak.

Random weights, Qwen2.5-7B's shape, real chat lengths. One side after the other, since both do not fit at once: each
takes the same pairs; a step is the reference's log-probs, forward and backward (no update: it is torch's own on both
sides, and its states would leave no room). Give each side a process of its own and compare the two lines:

    python benchmarks/train_gpu.py ours --gradient-checkpointing
    python benchmarks/train_gpu.py trl --gradient-checkpointing
    python benchmarks/train_gpu.py ours --lora; python benchmarks/train_gpu.py trl --lora

`useful_flops` are those of a step that computes each prompt once and nothing twice, the same number for both sides;
`mfu` is that over seconds times the peak. `--shape tiny` runs anywhere, and says nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from drift.bench.sides import BATCH, Conditions, Ours, Rival, Shape, make_model, make_pairs
from drift.bench.train import machine
from drift.training.tokens import TokenPair

SHAPES = {
    "7b": Shape(hidden=3584, layers=28, heads=28, mlp=18_944, vocabulary=152_064, scale=1.0, kv_heads=4),
    "tiny": Shape(hidden=64, layers=2, heads=4, mlp=128, vocabulary=512, scale=0.05, kv_heads=2),
}
H200_TFLOPS = 989.0  # bfloat16, dense; H100 SXM too


def useful_flops(shape: Shape, pairs: list[TokenPair], lora: bool) -> float:
    """Of one step: products with the layers' weights and of attention over P, C and R once, the head where a reply's
    token is predicted. The reference is one forward pass more; frozen weights need no gradient of their own."""
    width = shape.hidden // shape.heads
    layer = shape.hidden * (2 * shape.hidden + 2 * width * (shape.kv_heads or shape.heads) + 3 * shape.mlp)
    total = 0.0
    for pair in pairs:
        prompt, replies = len(pair.prompt), (len(pair.chosen), len(pair.rejected))
        seen = prompt**2 / 2 + sum(reply * prompt + reply**2 / 2 for reply in replies)
        total += 2 * layer * shape.layers * (prompt + sum(replies)) + 4 * shape.hidden * shape.layers * seen
        total += 2 * shape.hidden * shape.vocabulary * sum(replies)
    return total * (1 + (2 if lora else 3))


def measure(name: str, shape: Shape, conditions: Conditions, steps: int, seed: int, device: str) -> dict[str, object]:
    pairs = make_pairs(shape, BATCH * (steps + 1), seed)
    batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    with tempfile.TemporaryDirectory() as folder, torch.device(device):
        model = make_model(shape, conditions, seed)
        if name == "ours":
            side: Ours | Rival = Ours(model, conditions, seed, Path(folder))
        else:
            reference = None if conditions.lora else make_model(shape, conditions, seed).to(torch.bfloat16)
            side = Rival(model, reference, conditions, seed, Path(folder))
    seconds = []
    for batch in batches:
        _wait(device)
        begun = time.perf_counter()
        side.backward(side.reference(side.model, batch) if isinstance(side, Ours) else batch)
        side.model.zero_grad()
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    flops = statistics.mean(useful_flops(shape, batch, conditions.lora) for batch in batches[1:])
    return {
        "side": name,
        "seconds": round(statistics.median(seconds[1:]), 4),
        "quartiles": [round(value, 4) for value in statistics.quantiles(seconds[1:], n=4)[::2]],
        "useful_flops": flops,
        "mfu": round(flops / statistics.median(seconds[1:]) / (H200_TFLOPS * 1e12), 4) if device == "cuda" else None,
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
        "steps": steps,
        "seed": seed,
        "shape": asdict(shape),
        "conditions": asdict(conditions),
        "machine": machine(),
    }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["ours", "trl"])
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and given.shape != "tiny":
        parser.error("this needs a CUDA GPU with about 140 GB; --shape tiny runs anywhere")
    conditions = Conditions("bfloat16", given.lora, given.gradient_checkpointing, compact_rival=False)
    print(json.dumps(measure(given.side, SHAPES[given.shape], conditions, given.steps, given.seed, device)))


if __name__ == "__main__":
    main()
