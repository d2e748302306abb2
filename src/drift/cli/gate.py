"""`drift gate`: may a new model go out?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from drift.cli import options
from drift.cli.console import printing, progress, summary_json
from drift.cli.options import JsonFlag
from drift.cli.views import show_gate


def gate(
    context: typer.Context,
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="The model that may go out: a run, folder, id or URL#MODEL.")
    ],
    against: Annotated[str, typer.Option(help="The model that is deployed now, named like NEW.")],
    store: Annotated[
        Path | None, typer.Option(help="Store of held-out complaints and ordinary chats; default: that of NEW's run.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="Who says which answers are better: `feedback` (learned from the store), `oracle` (sandbox), `none`."
        ),
    ] = "feedback",
    judge: options.Judge = None,
    reward_model: Annotated[
        str | None, typer.Option(help="Sequence classifier that says which answers are better, instead of a judge.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="A guard to leave out; repeatable.")] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="The largest loss of a guard that passes; repeatable."),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="Further items: a FILE.jsonl, or inspect_evals/NAME (extra `gate`); repeatable."),
    ] = None,
    items: Annotated[int, typer.Option(help="Items of each guard.")] = 200,
    max_prompts: Annotated[int, typer.Option(min=1, help="Maximum held-out complaints, chosen by hash.")] = 500,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of answers and results; the same folder resumes. Default: evals/gate-HASH."),
    ] = None,
    max_new_tokens: options.NewTokens = 512,
    temperature: options.Temperature = 0.0,
    seed: options.SamplingSeed = 0,
    dtype: options.Dtype = "float32",
    model_api_key_env: options.ModelKeyEnv = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be asked; ask nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """May NEW go out? Exit code 0: pass, 3: fail, 4: undecided (docs/production.md).

    NEW has to be better than OLD on held-out complaints, and must not lose more than a margin on any guard.

    Example: drift gate runs/2 --against runs/1 --judge http://127.0.0.1:8000/v1#judge
    """
    _refuse_unread(context, judge, reward_model, (new, against))
    from drift.endpoint.options import JudgePricing
    from drift.experiments.simulation import sandbox_truth
    from drift.gate.plan import GateSettings
    from drift.gate.run import default_folder, run_gate
    from drift.generations import check_adapters

    pricing = JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens)
    settings = GateSettings(
        new=new, against=against, out=out or default_folder(new, against), store=store, target=target, judge=judge,
        reward_model=reward_model, pricing=pricing, without=tuple(without or ()),
        margins=options.named_numbers("--margin", margin), suites=tuple(suite or ()), items=items, seed=seed,
        dtype=dtype, temperature=temperature, max_new_tokens=max_new_tokens, max_prompts=max_prompts,
        model_key_env=model_api_key_env,
    )  # fmt: skip
    check_adapters(new, against)
    truth = sandbox_truth("test", max_prompts) if target == "oracle" else None
    asked: list[str] = []
    with progress("asking"):
        result = run_gate(settings, truth, dry_run, printing(asked))
    if result is not None:
        show_gate(result, settings.out, as_json)
        raise typer.Exit(result.exit_code)
    if as_json:
        summary_json({"dry_run": True, "would_ask": asked})


def _refuse_unread(context: typer.Context, judge: str | None, reward_model: str | None, models: Sequence[str]) -> None:
    """Raises ConfigError for options that nothing would read."""
    options.refuse_without_judge(context, judge, models)
    options.refuse_key_of_models(context, models)
    if judge is not None or reward_model is not None:
        why = "a judge or reward model says which answers are better: leave it out."
        options.refuse_unread(context, ("target",), why)
