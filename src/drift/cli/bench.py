"""The figures that the README quotes, each measured by a command."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from drift.cli.console import JsonFlag, progress, summary

app = typer.Typer(help="Measure what the README quotes.", no_args_is_help=True)


@app.command()
def label(
    iard: Annotated[Path | None, typer.Option(help="iard.jsonl: dialogues with intents.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Chat logs whose user turns are to be labelled.")] = None,
    gold: Annotated[Path | None, typer.Option(help="JSONL labels of turns of the logs; refits five folds.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Speed of the embedded labeller, its quality on IARD's test dialogues, and out of fold on gold labels.

    Example: drift bench label --iard iard.jsonl --logs chats.json --gold labels.jsonl --json
    """
    from drift.bench.label import bench_label

    summary(bench_label(iard, logs, gold, seed), as_json)


@app.command()
def sample(
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of a round.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Each takes new prompts through every sampler.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the weights, the prompts and the sampling.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """The built-in sampler beside transformers' generate, in tokens per second of CPU time. Five minutes.

    Example: drift bench sample --json
    """
    from drift.bench.sample import bench_sample

    with progress("sampling"):
        done = bench_sample(prompts, rounds, seed)
    summary(done, as_json)


@app.command()
def train(
    vocabulary: Annotated[int, typer.Option(min=128)] = 16_384,
    lengths: Annotated[
        tuple[int, int, int, int], typer.Option(help="Shortest and longest prompt, shortest and longest reply.")
    ] = (600, 1000, 200, 500),
    scale: Annotated[float, typer.Option(min=0.01, help="The lengths are multiplied by it.")] = 0.25,
    dtype: Annotated[Literal["bfloat16", "float32"], typer.Option(help="What both compute in.")] = "bfloat16",
    lora: Annotated[bool, typer.Option(help="An adapter of rank 16 in place of the weights.")] = False,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing")] = False,
    compact_rival: Annotated[bool, typer.Option("--compact-rival", help="TRL's head as it is on CUDA.")] = False,
    steps: Annotated[int, typer.Option(min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the weights and the pairs.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """A training step beside one of TRL's DPOTrainer: process CPU time, saved activations, and how far they differ.

    Example: drift bench train --json
    """
    from drift.bench.train import Conditions, Shape, bench_train

    shape = Shape(vocabulary=vocabulary, prompt=lengths[:2], reply=lengths[2:], scale=scale)
    done = bench_train(shape, Conditions(dtype, lora, gradient_checkpointing, compact_rival), steps, seed)
    summary(done, as_json)


@app.command("ingest")
def ingest_(
    conversations: Annotated[int, typer.Option(help="Of the generated log.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the generated log.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Speed and memory of ingestion, near-duplicates, labels and pairs on a generated log.

    Example: drift bench ingest --conversations 10000 --json
    """
    from drift.bench.ingest import bench_ingest

    summary(bench_ingest(conversations, seed), as_json)


@app.callback()
def bench() -> None:
    """Each benchmark is a command of its own."""
