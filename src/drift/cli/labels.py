"""Who was dissatisfied with what: label (embedded, judge, or both in a cascade), rubric fit, and review by people."""

import getpass
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drift.cli.console import JsonFlag, MaxCost, StoreDir, console, progress, summary

if TYPE_CHECKING:
    from drift.config import EndpointSettings
    from drift.store import Store


class LabellerName(StrEnum):
    EMBEDDED = "embedded"
    JUDGE = "judge"
    CASCADE = "cascade"


class JudgeBy(StrEnum):
    CHAT = "chat"
    DECISIONS = "decisions"


Url = Annotated[str | None, typer.Option("--endpoint", help="Base URL of an OpenAI-compatible server.")]
ModelName = Annotated[str | None, typer.Option(help="The model's name at that server.")]
KeyName = Annotated[str | None, typer.Option(help="Environment variable that holds the server's key.")]
Price = Annotated[float | None, typer.Option(min=0.0, help="Per million tokens of this side, in any currency.")]
Concurrency = Annotated[int, typer.Option(min=1, help="The most requests under way.")]
RubricFile = Annotated[Path | None, typer.Option(help="A rubric of yours; else the one that ships.")]


def endpoint_of(
    url: str | None, model: str | None, key: str | None, prices: tuple[float | None, float | None],
    max_cost: float | None, concurrency: int,
) -> "EndpointSettings":  # fmt: skip
    """The options as settings. Raises ConfigError without a server or a model."""
    from drift.config import EndpointSettings
    from drift.errors import ConfigError

    if url is None or model is None:
        raise ConfigError("the judge needs a server and a model: --endpoint http://HOST:PORT/v1 --model NAME")
    return EndpointSettings(
        base_url=url, model=model, api_key_env=key, max_concurrency=concurrency, max_cost=max_cost,
        price_per_million_input=prices[0], price_per_million_output=prices[1],
    )  # fmt: skip


def label(
    store: StoreDir,
    out: Annotated[Path | None, typer.Option(help="Also write one JSONL row per judged user turn here.")] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Of --report: HTML, or Markdown if it ends in .md.")
    ] = None,
    labeller: Annotated[LabellerName | None, typer.Option(help="Who labels; embedded if not given.")] = None,
    endpoint: Url = None,
    model: ModelName = None,
    api_key_env: KeyName = None,
    price_input: Price = None,
    price_output: Price = None,
    max_cost: MaxCost = None,
    max_concurrency: Concurrency = 8,
    rubric: RubricFile = None,
    judge_by: Annotated[
        JudgeBy, typer.Option(help="Written answers, or a decision endpoint's options.")
    ] = JudgeBy.CHAT,
    judge_from: Annotated[float, typer.Option(min=0, max=1, help="Cascade: p_dsat from which the judge looks.")] = 0.2,
    audit_share: Annotated[float, typer.Option(min=0, max=1, help="Cascade: of the other turns, at random.")] = 0.05,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many calls, tokens and how much; call nobody.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print how far the labels can be trusted, and write it to FILE.")
    ] = False,
    gold: Annotated[
        Path | None, typer.Option(help="Of --report: JSON Lines of source_id, message_index and label.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find out which replies users liked or disliked, and how far to trust that.

    --report alone takes the labels as they are, if there are any; its FILE is STORE/labels.html if not given.

    Example: drift label --store stores/mine --out labels.jsonl
    """
    from drift.config import ExperimentalLabels, LabelSettings
    from drift.feedback.stage import label_by, plan
    from drift.store import Store

    server = None
    who = labeller or LabellerName.EMBEDDED
    if who != LabellerName.EMBEDDED:
        prices = (price_input, price_output)
        server = endpoint_of(endpoint, model, api_key_env, prices, max_cost, max_concurrency)
    settings = LabelSettings(
        labeller=who.value, endpoint=server, rubric=str(rubric) if rubric else None, judge_by=judge_by.value,
        judge_from=judge_from, experimental=ExperimentalLabels(audit_share=audit_share),
    )  # fmt: skip
    opened = Store(store)
    with progress("labelling"):
        known = report and labeller is None and out is None and any(opened.counts().labels.values())
        done = None if known else plan(opened, settings).plain() if dry_run else label_by(opened, settings, out)
    if done is not None:
        summary(done, as_json and not report)
    if report:
        _show_report(opened, file or store / "labels.html", gold, as_json)


def _show_report(store: "Store", file: Path, gold: Path | None, as_json: bool) -> None:
    from dataclasses import asdict

    import orjson

    from drift.feedback.trust.page import as_markdown
    from drift.feedback.trust.report import write_label_report

    with progress("comparing"):
        told = write_label_report(store, file, gold)
    console.print(as_markdown(told), markup=False, soft_wrap=True)
    console.print(f"written to {file}", markup=False, soft_wrap=True)
    if as_json:
        typer.echo(orjson.dumps({"report": str(file), **asdict(told)}).decode())


def review(
    store: Annotated[Path, typer.Option("--store", help="The store whose labels are audited.")],
    run: Annotated[Path | None, typer.Option(help="Also compare this run's disliked and fresh replies.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Your name; two people's agreement is measured.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Audit labels in a web page on this machine. Decisions are kept at once and win over other labels.

    Example: drift review --store stores/mine
    """
    from drift.review.server import serve
    from drift.store import Store

    def tell(address: str) -> None:
        console.print(f"open {address} (works once; Ctrl-C ends)", soft_wrap=True, markup=False)
        if browser:
            webbrowser.open(address)

    summary(serve(Store(store), reviewer or getpass.getuser(), run, port, tell), as_json)


rubric_app = typer.Typer(help="The judge's rubric.", no_args_is_help=True)


@rubric_app.command()
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


@rubric_app.callback()
def rubric() -> None:
    """Each way of making a rubric is a command of its own."""
