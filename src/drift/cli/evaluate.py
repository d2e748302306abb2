"""`drift eval`: alpaca-eval, wildbench, pairwise and exploration of real models."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli import options
from drift.cli.console import console, progress, summary
from drift.cli.options import JsonFlag
from drift.cli.views import show_benchmark, show_exploration

ModelArgument = Annotated[
    str | None, typer.Argument(help="What to measure: a run, a model folder or id, URL#MODEL, or a file of replies.")
]
JudgePrompt = Annotated[
    Path | None,
    typer.Option(help="The official prompt of the benchmark; without it, scores are not leaderboard-comparable."),
]
OutDir = Annotated[Path, typer.Option(help="Folder of replies and judgements; the same folder resumes.")]

app = typer.Typer(help="Measure models: benchmarks, pairwise comparisons, exploration.", no_args_is_help=True)


_OF_A_MODEL = (
    *options.OF_A_JUDGE, "model_api_key_env", "judge_prompt", "data", "out", "max_new_tokens", "temperature", "dtype",
    "dry_run", "against",
)  # fmt: skip


def _refuse_of_a_model(context: typer.Context, existing: str) -> None:
    """Raises ConfigError for options of a model that is asked and judged, where existing files are measured."""
    options.refuse_unread(context, _OF_A_MODEL, f"{existing} is measured as it is: leave one of them out.")


@app.command("alpaca-eval")
def alpaca_eval(
    context: typer.Context,
    model: ModelArgument = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Measure these judged comparisons instead: JSON, JSON Lines or Parquet.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder with instruction_difficulty*.csv and df_gamed*.csv.")
    ] = None,
    judge_prompt: JudgePrompt = None,
    data: Annotated[
        Path | None, typer.Option(help="alpaca_eval_gpt4_baseline.json; downloaded from the hub if not given.")
    ] = None,
    out: OutDir = Path("evals/alpaca-eval"),
    max_new_tokens: options.NewTokens = 2048,
    temperature: options.Temperature = 0.0,
    dtype: options.Dtype = "float32",
    model_api_key_env: options.ModelKeyEnv = None,
    judge: options.Judge = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    dry_run: options.DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure AlpacaEval 2 win rates (plain and length-controlled) of a model or of existing annotations.

    Example: drift eval alpaca-eval --annotations annotations.json --reference alpaca_eval/ --json
    """
    from drift.endpoint.options import JudgePricing, endpoint_settings
    from drift.evals.alpaca_eval.metrics import summarise_annotations

    with progress("evaluating"):
        if options.one_of("--annotations FILE", annotations, model, judge):
            _refuse_of_a_model(context, "--annotations")
            result = summarise_annotations(Path(str(annotations)), reference).plain()
        else:  # only this branch loads a model
            options.refuse_key_of_models(context, (str(model),))
            from drift.evals.alpaca_eval.judge import read_prompt
            from drift.evals.alpaca_eval.run import AlpacaRun, run_alpaca_eval
            from drift.evals.replies import sampling_at

            pricing = JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens)
            run = AlpacaRun(
                model=str(model),
                judge=endpoint_settings(judge, pricing),
                template=read_prompt(judge_prompt),
                sampling=sampling_at(temperature, max_new_tokens),
                folder=out,
                data=data,
                reference=reference,
                dtype=dtype,
                pricing=JudgePricing(model_api_key_env),
            )
            result = run_alpaca_eval(run, dry_run, console.print).plain()
    show_benchmark(result, as_json)


@app.command()
def wildbench(
    context: typer.Context,
    model: ModelArgument = None,
    scores: Annotated[list[Path] | None, typer.Option(help="Measure these scores instead; may be repeated.")] = None,
    tags: Annotated[
        Path | None,
        typer.Option(help="Tags of the tasks: the data set, or a JSON object of session ids and tag lists."),
    ] = None,
    pairwise: Annotated[
        list[Path] | None, typer.Option(help="Counts or judgements against a reference model; may be repeated.")
    ] = None,
    reference_model: Annotated[str | None, typer.Option(help="Reference model of single judgements.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="WB-Reward: replies of a reference model, named like MODEL; may be repeated."),
    ] = None,
    margin: Annotated[
        int,
        typer.Option(
            min=-1,
            help="WB-Reward: a slight win counts as a tie if the reply is longer by this many characters; -1: off.",
        ),
    ] = 500,
    judge_prompt: JudgePrompt = None,
    data: Annotated[
        Path | None, typer.Option(help="The tasks (Parquet or JSON); downloaded from the hub if not given.")
    ] = None,
    out: OutDir = Path("evals/wildbench"),
    max_new_tokens: options.NewTokens = 4096,
    temperature: options.Temperature = 0.0,
    dtype: options.Dtype = "float32",
    model_api_key_env: options.ModelKeyEnv = None,
    judge: options.Judge = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    dry_run: options.DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure WildBench v2 (WB-Score, task score, WB-Reward, WB-Elo) of a model or of existing scores.

    Example: drift eval wildbench --scores gemma-2b-it.jsonl --scores gemma-7b-it.jsonl --json
    """
    from drift.endpoint.options import JudgePricing, endpoint_settings
    from drift.evals.wildbench.summarise import summarise_scores

    with progress("evaluating"):
        if options.one_of("--scores FILE", scores, model, judge):
            _refuse_of_a_model(context, "--scores")
            result = summarise_scores(scores or [], tags, pairwise or [], reference_model, margin).plain()
        else:  # only this branch loads a model
            from drift.evals.replies import sampling_at
            from drift.evals.wildbench.judge import read_prompt
            from drift.evals.wildbench.run import WildRun, run_wildbench

            read_with_scores = ("tags", "pairwise", "reference_model")
            options.refuse_unread(context, read_with_scores, "only --scores FILE uses that, in place of MODEL.")
            options.refuse_key_of_models(context, (str(model), *(against or ())))
            pricing = JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens)
            run = WildRun(
                model=str(model),
                judge=endpoint_settings(judge, pricing),
                template=read_prompt(judge_prompt),
                sampling=sampling_at(temperature, max_new_tokens),
                folder=out,
                data=data,
                dtype=dtype,
                against=tuple(against or ()),
                margin=margin,
                pricing=JudgePricing(model_api_key_env),
            )
            result = run_wildbench(run, dry_run, console.print).plain()
    show_benchmark(result, as_json)


@app.command()
def pairwise(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="What to measure: a run, a model folder or id, URL#MODEL, or a file of replies.")
    ],
    against: Annotated[
        str, typer.Option(help="The other side, named like MODEL, or `logs`: the replies in the logs.")
    ] = "logs",
    store: Annotated[
        Path | None, typer.Option(help="Take the requests from this store's test split; default: the run's own.")
    ] = None,
    requests: Annotated[
        str, typer.Option(help="Requests of the store: `disliked`, or `all` that were answered.")
    ] = "disliked",
    reward_model: Annotated[
        str | None, typer.Option(help="Compare with this sequence classifier instead of a judge.")
    ] = None,
    out: OutDir = Path("evals/pairwise"),
    max_prompts: Annotated[int, typer.Option(min=1, help="Maximum requests, chosen by hash.")] = 500,
    max_new_tokens: options.NewTokens = 512,
    temperature: options.Temperature = 0.0,
    seed: options.SamplingSeed = 0,
    dtype: options.Dtype = "float32",
    model_api_key_env: options.ModelKeyEnv = None,
    judge: options.Judge = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    dry_run: options.DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure the win rate of a model on held-out requests, by a judge (in both orders) or a reward model.

    Example: drift eval pairwise runs/mine --against logs --judge http://127.0.0.1:8000/v1#judge --json
    """
    options.refuse_key_of_models(context, (model, against))
    from drift.endpoint.options import JudgePricing
    from drift.evals.pairwise.compare import PairwiseRun, run_contest
    from drift.evals.pairwise.heldout import heldout_requests
    from drift.evals.replies import sampling_at
    from drift.scoring.judges import make_judge

    if reward_model is not None and judge is None:
        options.refuse_unread(context, options.OF_A_JUDGE, "--reward-model asks no judge: leave one of them out.")
    pricing = JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens)
    pair_judge = make_judge(judge, reward_model, out, dtype, pricing)
    of_models, sampling = JudgePricing(model_api_key_env), sampling_at(temperature, max_new_tokens)
    contest = PairwiseRun(model, against, sampling, out, dtype, seed, of_models)
    if requests == "all" and store is None:
        raise typer.BadParameter("--requests all needs --store DIR: a run keeps its disliked requests alone.")
    heldout = heldout_requests((model, against), store, requests, max_prompts)
    with progress("comparing"):
        result = run_contest(contest, heldout, pair_judge, dry_run, console.print)
    summary(result.plain(), as_json)


@app.command()
def exploration(
    context: typer.Context,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="One run (compared with its base), or several runs or models.")
    ],
    reward: Annotated[
        str,
        typer.Option(help="`oracle` (true utility, for runs of the demo's world), or the folder of a reward model."),
    ] = "oracle",
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Model that embeds replies: a policy or a sentence-transformers folder; default: first base."
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Take the requests from this store's test split (with a judge or reward model)."),
    ] = None,
    prompts: Annotated[int, typer.Option(min=2, help="Number of prompts, chosen by hash.")] = 64,
    samples: Annotated[int, typer.Option(min=2, help="Replies per prompt.")] = 8,
    temperature: Annotated[
        float, typer.Option(min=0.01, callback=options.finite, help="Sampling temperature of the replies.")
    ] = 1.0,
    max_new_tokens: options.NewTokens = 256,
    good_from: Annotated[
        float | None, typer.Option(callback=options.finite, help="A reply counts as good from this reward on.")
    ] = None,
    dtype: options.Dtype = "float32",
    seed: options.SamplingSeed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder that gets exploration.json and the map; the same folder resumes.")
    ] = Path("evals/exploration"),
    judge: options.Judge = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    dry_run: options.DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare where the replies of policies lie, on a joint map and in the embedding space, and how diverse they are.

    The map is added to the report of every run that is compared.

    Example: drift eval exploration runs/demo-seed-1 --json
    """
    options.refuse_without_judge(context, judge, (reward,))
    from drift.endpoint.options import JudgePricing
    from drift.experiments.explore import ExploreSettings, estimate_exploration, explore

    if judge is not None and options.given(context, "reward"):
        raise typer.BadParameter("give --judge or --reward, and not both.")
    settings = ExploreSettings(
        reward=judge or reward,
        embedder=embedder,
        store=store,
        prompts=prompts,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        dtype=dtype,
        seed=seed,
        good_from=good_from,
        pricing=JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens),
    )
    if dry_run:
        summary(estimate_exploration(runs, settings, out), as_json)
        return
    with progress("exploring"):
        explored = explore(runs, settings, out)
    show_exploration(explored.methods)
    summary(explored.headline(), False)
    if as_json:
        typer.echo(explored.json())
