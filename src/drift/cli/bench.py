"""`drift bench`: measure the figures that the docs quote."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from drift.cli.console import progress, summary
from drift.cli.options import LARGEST_SEED, JsonFlag, finite
from drift.cli.views import show_iteration

app = typer.Typer(help="Measure the figures that the docs quote.", no_args_is_help=True)


@app.command()
def label(
    iard: Annotated[Path | None, typer.Option(help="iard.jsonl: dialogues with labelled intents.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Chat logs; the speed is measured on their user turns.")] = None,
    gold: Annotated[
        Path | None, typer.Option(help="Gold labels (JSON Lines) of turns in --logs, for five-fold cross-validation.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the bootstrap.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Measure the embedded labeller: its speed, its quality on IARD's test dialogues and on gold labels.

    Example: drift bench label --iard iard.jsonl --logs chats.json --gold labels.jsonl --json
    """
    from drift.bench.label import bench_label

    summary(bench_label(iard, logs, gold, seed), as_json)


@app.command()
def sample(
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per round.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each runs every sampler on new prompts.")] = 3,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the weights, prompts and sampling.")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Compare the built-in sampler with transformers' generate, in tokens per second of CPU time. Takes five minutes.

    Example: drift bench sample --json
    """
    from drift.bench.sample import bench_sample

    with progress("sampling"):
        result = bench_sample(prompts, rounds, seed)
    summary(result, as_json)


@app.command()
def train(
    vocabulary: Annotated[int, typer.Option(min=128, help="Size of the vocabulary, in tokens.")] = 16_384,
    lengths: Annotated[
        tuple[int, int, int, int],
        typer.Option(help="Shortest and longest prompt, shortest and longest reply, in tokens."),
    ] = (600, 1000, 200, 500),
    scale: Annotated[float, typer.Option(min=0.01, callback=finite, help="Factor on the lengths.")] = 0.25,
    dtype: Annotated[Literal["bfloat16", "float32"], typer.Option(help="Number type of both trainers.")] = "bfloat16",
    lora: Annotated[bool, typer.Option(help="Train an adapter of rank 16 instead of the weights.")] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute activations to save memory.")
    ] = False,
    compact_rival: Annotated[
        bool, typer.Option("--compact-rival", help="Let TRL compute the output layer as it does on CUDA.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Measured training steps.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the weights and pairs.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Compare a training step with TRL's DPOTrainer: CPU time, saved activations, and difference of the results.

    Example: drift bench train --json
    """
    from drift.bench.train import Conditions, Shape, bench_train

    shape = Shape(vocabulary=vocabulary, prompt=lengths[:2], reply=lengths[2:], scale=scale)
    result = bench_train(shape, Conditions(dtype, lora, gradient_checkpointing, compact_rival), steps, seed)
    summary(result, as_json)


@app.command()
def iteration(
    model: Annotated[str, typer.Option(help="A folder that transformers loads, a GGUF file or a Hugging Face id.")],
    prompts: Annotated[int, typer.Option(min=1, help="Requests per round; each gets one reply per side.")] = 32,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum tokens per generated reply.")] = 96,
    history: Annotated[
        int, typer.Option(min=0, help="Tokens of earlier chat before each request; 400 makes sequences of about 512.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each measures both sides on new requests.")] = 1,
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option(help="Number type of both sides (default: bfloat16 where the machine has it)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the sampling.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Compare a whole iteration (sampling, reference, training) with transformers' generate and TRL's DPOTrainer.

    Example: drift bench iteration --model SmolLM2-135M-Instruct.gguf --json
    """
    from drift.bench.iteration import bench_iteration

    with progress("iteration"):
        result = bench_iteration(model, prompts, max_new_tokens, rounds, dtype, seed, history=history)
    show_iteration(result, as_json)


@app.command("ingest")
def ingest_(
    conversations: Annotated[int, typer.Option(help="Conversations in the generated log.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the generated log.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Measure the speed and memory of ingestion, near-duplicates, labels and pairs on a generated log.

    Example: drift bench ingest --conversations 10000 --json
    """
    from drift.bench.ingest import bench_ingest

    summary(bench_ingest(conversations, seed), as_json)


@app.callback()
def bench() -> None:
    """Measure the figures that the docs quote, one command per benchmark."""
