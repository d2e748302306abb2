"""Evaluation of real models: alpaca-eval, wildbench, pairwise and exploration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drift.cli.console import JsonFlag, MaxCost, console, leaderboard, progress, regions, summary

if TYPE_CHECKING:
    from drift.config import SamplingSettings

JudgeOption = Annotated[str | None, typer.Option("--judge", help="A model behind a server: URL#MODEL.")]
KeyOption = Annotated[str | None, typer.Option(help="NAME of the environment variable with the judge's key.")]
Price = Annotated[float | None, typer.Option(min=0, help="Of the judge, per million tokens.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and ask nobody.")]
Dtype = Annotated[Literal["float32", "bfloat16"], typer.Option(help="Of models that run here.")]

Model = Annotated[str | None, typer.Argument(help="A run, a model's folder or id, URL#MODEL, or a file of replies.")]
JudgePrompt = Annotated[Path | None, typer.Option(help="The benchmark's own prompt; else our words, not comparable.")]
OutDir = Annotated[Path, typer.Option(help="Replies and judgements; the same folder resumes.")]
NewTokens = Annotated[int, typer.Option(min=1, help="Of the replies that are made here.")]
Temperature = Annotated[float, typer.Option(min=0, help="Of the replies; 0 is greedy.")]

app = typer.Typer(help="Measure models: benchmarks, pairwise comparisons, exploration.", no_args_is_help=True)


def sampling(temperature: float, max_new_tokens: int) -> "SamplingSettings":
    from drift.evals.replies import sampling_at

    return sampling_at(temperature, max_new_tokens)


@app.command("alpaca-eval")
def alpaca_eval(
    model: Model = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Measure these judged comparisons: JSON, JSON Lines or Parquet.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder with instruction_difficulty*.csv and df_gamed*.csv.")
    ] = None,
    judge: JudgeOption = None,
    judge_prompt: JudgePrompt = None,
    data: Annotated[Path | None, typer.Option(help="alpaca_eval_gpt4_baseline.json; else from the hub.")] = None,
    out: OutDir = Path("evals/alpaca-eval"),
    max_new_tokens: NewTokens = 2048,
    temperature: Temperature = 0.0,
    dtype: Dtype = "float32",
    api_key_env: KeyOption = None,
    price_input: Price = None,
    price_output: Price = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """AlpacaEval 2: win rate and length-controlled win rate, of a model or of existing annotations.

    Example: drift eval alpaca-eval --annotations annotations.json --reference alpaca_eval/ --json
    """
    from drift.endpoint.options import JudgePricing, endpoint_settings
    from drift.evals.alpaca_eval.metrics import summarise_annotations
    from drift.scoring.ask import one_of

    with progress("evaluating"):
        if one_of("--annotations FILE", annotations, model, judge):
            done = summarise_annotations(Path(str(annotations)), reference).plain()
        else:  # here alone models are loaded
            from drift.evals.alpaca_eval.judge import read_prompt
            from drift.evals.alpaca_eval.run import AlpacaRun, run_alpaca_eval

            settings = endpoint_settings(judge, JudgePricing(api_key_env, price_input, price_output, max_cost))
            run = AlpacaRun(
                model=str(model),
                judge=settings,
                template=read_prompt(judge_prompt),
                sampling=sampling(temperature, max_new_tokens),
                folder=out,
                data=data,
                reference=reference,
                dtype=dtype,
            )
            done = run_alpaca_eval(run, dry_run, console.print).plain()
    leaderboard(done, as_json)


@app.command()
def wildbench(
    model: Model = None,
    scores: Annotated[list[Path] | None, typer.Option(help="Measure these scores; may be repeated.")] = None,
    tags: Annotated[Path | None, typer.Option(help="The data set, or {session id: [tags]}.")] = None,
    pairwise: Annotated[
        list[Path] | None, typer.Option(help="Counts or judgements against a reference model; may be repeated.")
    ] = None,
    reference_model: Annotated[str | None, typer.Option(help="Whom single judgements compare with.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="WB-Reward of MODEL: a reference model's replies, as MODEL is given; may be repeated."),
    ] = None,
    margin: Annotated[
        int, typer.Option(min=-1, help="WB-Reward: a slight win by a reply longer than this is a tie; -1: off.")
    ] = 500,
    judge: JudgeOption = None,
    judge_prompt: JudgePrompt = None,
    data: Annotated[Path | None, typer.Option(help="The tasks (Parquet or JSON); else from the hub.")] = None,
    out: OutDir = Path("evals/wildbench"),
    max_new_tokens: NewTokens = 4096,
    temperature: Temperature = 0.0,
    dtype: Dtype = "float32",
    api_key_env: KeyOption = None,
    price_input: Price = None,
    price_output: Price = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """WildBench v2: WB-Score, task score, WB-Reward and WB-Elo, of a model or of existing scores.

    Example: drift eval wildbench --scores gemma-2b-it.jsonl --scores gemma-7b-it.jsonl --json
    """
    from drift.endpoint.options import JudgePricing, endpoint_settings
    from drift.evals.wildbench.summarise import summarise_scores
    from drift.scoring.ask import one_of

    with progress("evaluating"):
        if one_of("--scores FILE", scores, model, judge):
            done = summarise_scores(scores or [], tags, pairwise or [], reference_model, margin).plain()
        else:  # here alone models are loaded
            from drift.evals.wildbench.judge import read_prompt
            from drift.evals.wildbench.run import WildRun, run_wildbench

            settings = endpoint_settings(judge, JudgePricing(api_key_env, price_input, price_output, max_cost))
            run = WildRun(
                model=str(model),
                judge=settings,
                template=read_prompt(judge_prompt),
                sampling=sampling(temperature, max_new_tokens),
                folder=out,
                data=data,
                dtype=dtype,
                against=tuple(against or ()),
                margin=margin,
            )
            done = run_wildbench(run, dry_run, console.print).plain()
    leaderboard(done, as_json)


@app.command()
def pairwise(
    model: Annotated[str, typer.Argument(help="A run, a model's folder or id, URL#MODEL, or a file of replies.")],
    against: Annotated[str, typer.Option(help="The same, or `logs`: what the deployed model answered.")] = "logs",
    store: Annotated[Path | None, typer.Option(help="Its test split is asked; else what the run held out.")] = None,
    requests: Annotated[str, typer.Option(help="Of the store: `disliked`, or `all` that were answered.")] = "disliked",
    judge: JudgeOption = None,
    reward_model: Annotated[str | None, typer.Option(help="In place of a judge: a sequence classifier.")] = None,
    out: Annotated[Path, typer.Option(help="Replies and judgements; the same folder resumes.")] = Path(
        "evals/pairwise"
    ),
    max_prompts: Annotated[int, typer.Option(min=1, help="Drawn by hash.")] = 500,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of the replies that are made here.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="Of the replies; 0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the replies.")] = 0,
    dtype: Dtype = "float32",
    api_key_env: KeyOption = None,
    price_input: Price = None,
    price_output: Price = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Win rate of a model on held-out requests, judged in both orders or by a reward model.

    Example: drift eval pairwise runs/mine --against logs --judge http://127.0.0.1:8000/v1#judge --json
    """
    from drift.endpoint.options import JudgePricing
    from drift.evals.pairwise.compare import PairwiseRun, run_contest
    from drift.evals.pairwise.heldout import heldout_requests
    from drift.evals.replies import sampling_at
    from drift.scoring.judges import make_judge

    terms = JudgePricing(api_key_env, price_input, price_output, max_cost)
    decides = make_judge(judge, reward_model, out, dtype, terms)
    contest = PairwiseRun(model, against, sampling_at(temperature, max_new_tokens), out, dtype, seed)
    heldout = heldout_requests(model, store, requests, max_prompts)
    with progress("comparing"):
        done = run_contest(contest, heldout, decides, dry_run, console.print)
    summary(done.plain(), as_json)


@app.command()
def exploration(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="A run (against its base), or several runs or models.")
    ],
    reward: Annotated[
        str, typer.Option(help="`oracle`: the sandbox's truth; a judge, URL#MODEL; or a reward model's folder.")
    ] = "oracle",
    embedder: Annotated[
        str | None, typer.Option(help="A policy, or a sentence-transformers folder; else the first run's base.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Its test split is asked, with a judge or reward model.")] = None,
    prompts: Annotated[int, typer.Option(min=2, help="Drawn by hash.")] = 64,
    samples: Annotated[int, typer.Option(min=2, help="Replies to each prompt.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.01)] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    good_from: Annotated[float | None, typer.Option(help="A reply is good from this reward on.")] = None,
    dtype: Dtype = "float32",
    seed: Annotated[int, typer.Option(help="Of the replies.")] = 0,
    out: Annotated[Path, typer.Option(help="Gets exploration.json and the map; the same folder resumes.")] = Path(
        "evals/exploration"
    ),
    api_key_env: KeyOption = None,
    price_input: Price = None,
    price_output: Price = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Whose replies reach where the reward is, on a joint map and in the embedding space, and how diverse they are.

    The map goes into the report of every run that took part.

    Example: drift eval exploration runs/demo-seed-1 --json
    """
    from drift.endpoint.options import JudgePricing
    from drift.experiments.explore import ExploreSettings, estimate_exploration, explore

    terms = JudgePricing(api_key_env, price_input, price_output, max_cost)
    settings = ExploreSettings(
        reward, embedder, store, prompts, samples, temperature, max_new_tokens, dtype, seed, good_from, terms
    )
    if dry_run:
        summary(estimate_exploration(runs, settings, out), as_json)
        return
    with progress("exploring"):
        done = explore(runs, settings, out)
    regions(done.methods)
    summary(done.headline(), False)
    if as_json:
        typer.echo(done.json())
