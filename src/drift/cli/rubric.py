"""What the judge goes by: learn a rubric from labelled chats."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import JsonFlag, progress, summary
from drift.cli.data import StoreDir
from drift.cli.labels import Concurrency, KeyName, MaxCost, ModelName, Price, Url, endpoint_of

app = typer.Typer(help="The judge's rubric.", no_args_is_help=True)


@app.command()
def fit(
    store: StoreDir,
    out: Annotated[Path, typer.Option(help="The rubric file to write (YAML).")],
    gold: Annotated[Path | None, typer.Option(help="JSON Lines of source_id, message_index and label.")] = None,
    endpoint: Url = None,
    model: ModelName = None,
    api_key_env: KeyName = None,
    price_input: Price = None,
    price_output: Price = None,
    max_cost: MaxCost = None,
    max_concurrency: Concurrency = 8,
    per_class: Annotated[int, typer.Option(min=2, help="The most labelled conversations of each class.")] = 100,
    least: Annotated[int, typer.Option(min=2, help="The fewest of DSAT and of SAT.")] = 30,
    as_json: JsonFlag = False,
) -> None:
    """Learn from reviewed or gold-labelled chats what dissatisfaction looks like in your logs.

    Example: drift rubric fit --store stores/mine --out rubric.yaml --endpoint http://127.0.0.1:8000/v1 --model big
    """
    from drift.feedback.spur.fit import fit_rubric
    from drift.store import Store

    prices = (price_input, price_output)
    server = endpoint_of(endpoint, model, api_key_env, prices, max_cost, max_concurrency)
    with progress("learning"):
        done = fit_rubric(Store(store), server, out, gold, per_class, least)
    summary(done, as_json)


@app.callback()
def rubric() -> None:
    """Each way of making a rubric is a command of its own."""
