"""Evaluation of real models: alpaca-eval and wildbench."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import JsonFlag, leaderboard, progress

app = typer.Typer(help="Measure models: benchmarks, pairwise comparisons, exploration.", no_args_is_help=True)


@app.command("alpaca-eval")
def alpaca_eval(
    annotations: Annotated[Path, typer.Option(help="Judged comparisons: JSON, JSON Lines or Parquet.")],
    reference: Annotated[
        Path | None, typer.Option(help="Folder with instruction_difficulty*.csv and df_gamed*.csv.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Win rate, its standard error and the length-controlled win rate of existing annotations.

    Example: drift eval alpaca-eval --annotations annotations.json --reference alpaca_eval/ --json
    """
    from drift.evaluation.alpaca_eval.summarise import summarise_annotations

    with progress("fitting"):
        done = summarise_annotations(annotations, reference)
    leaderboard(done.plain(), as_json)


@app.command()
def wildbench(
    scores: Annotated[list[Path], typer.Option(help="A judge's scores of one model or several; may be repeated.")],
    tags: Annotated[Path | None, typer.Option(help="The data set, or {session id: [tags]}.")] = None,
    pairwise: Annotated[
        list[Path] | None, typer.Option(help="Counts or judgements against a reference model; may be repeated.")
    ] = None,
    reference_model: Annotated[str | None, typer.Option(help="Whom single judgements compare with.")] = None,
    margin: Annotated[
        int, typer.Option(min=-1, help="Single judgements: a slight win by a reply longer than this is a tie; -1: off.")
    ] = 500,
    as_json: JsonFlag = False,
) -> None:
    """WB-Score, task score, WB-Reward and WB-Elo of existing scores.

    Example: drift eval wildbench --scores gemma-2b-it.jsonl --scores gemma-7b-it.jsonl --json
    """
    from drift.evaluation.wildbench.summarise import summarise_scores

    with progress("reading"):
        done = summarise_scores(scores, tags, pairwise or [], reference_model, margin)
    leaderboard(done.plain(), as_json)
