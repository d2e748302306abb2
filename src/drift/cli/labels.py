"""`drift label`, `review`, `live` and `rubric fit`: which replies users disliked, by model and by people."""

import getpass
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drift.cli import options
from drift.cli.console import console, progress, summary
from drift.cli.options import JsonFlag, StoreDir
from drift.records import ApprovalBy, JudgeBy, LabellerName, LanguagesRead

if TYPE_CHECKING:
    from drift.store import Store


ApprovalOption = Annotated[
    ApprovalBy,
    typer.Option(help="What finds thanks and praise: the embedded classifier, or also a grammar that finds more."),
]
LanguagesOption = Annotated[
    LanguagesRead, typer.Option(help="What the embedded labeller reads: English, or twelve languages more.")
]


def label(
    context: typer.Context,
    store: StoreDir,
    out: Annotated[
        Path | None, typer.Option(help="Also write one JSONL row per judged user turn to this file.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="File of --report: HTML, or Markdown if the name ends in .md."),
    ] = None,
    labeller: Annotated[LabellerName | None, typer.Option(help="Who labels; default embedded.")] = None,
    judge: options.Judge = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    rubric: Annotated[Path | None, typer.Option(help="Rubric file of the judge; default: the one that ships.")] = None,
    judge_by: Annotated[
        JudgeBy, typer.Option(help="The judge writes answers (chat), or gives probabilities of options (decisions).")
    ] = "chat",
    judge_from: Annotated[
        float, typer.Option(min=0, max=1, help="Cascade: the judge labels turns with at least this p_dsat.")
    ] = 0.2,
    approval: ApprovalOption = "model",
    languages: LanguagesOption = "english",
    audit_share: Annotated[
        float, typer.Option(min=0, max=1, help="Cascade: share of the other turns that the judge labels too.")
    ] = 0.05,
    cluster: options.Cluster = None,
    dry_run: options.DryRun = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print how reliable the labels are, and write it to FILE.")
    ] = False,
    gold: options.Gold = None,
    as_json: JsonFlag = False,
    endpoint: options.EarlierEndpoint = None,
    model: options.EarlierModel = None,
) -> None:
    """Find out which replies users liked or disliked, and how reliable the labels are.

    With --report and no other option, the labels that the store has are reported; a store without labels is labelled
    first. FILE is STORE/labels.html by default.

    Example: drift label --store stores/mine --out labels.jsonl
    """
    from drift.config import ExperimentalLabels, LabelSettings
    from drift.endpoint.options import JudgePricing, endpoint_settings
    from drift.feedback.stage import label_by, plan
    from drift.store import Store

    server = None
    chosen = labeller or "embedded"
    _refuse_unread(context, chosen, report)
    if chosen != "embedded":
        pricing = JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens)
        server = endpoint_settings(options.judge_or_earlier(judge, endpoint, model), pricing)
    settings = LabelSettings(
        labeller=chosen,
        endpoint=server,
        rubric=str(rubric) if rubric else None,
        judge_by=judge_by,
        judge_from=judge_from,
        approval=approval,
        languages=languages,
        experimental=ExperimentalLabels(audit_share=audit_share),
    )
    opened = Store(store)
    with progress("labelling"), options.working_on(cluster, store):
        wants_labels = options.given(context, "labeller", "out", "approval", "languages", "cluster")
        only_report = report and not wants_labels and any(opened.counts().labels.values())
        result = None if only_report else plan(opened, settings).plain() if dry_run else label_by(opened, settings, out)
    if result is not None:
        summary(result, as_json and not report)
    if report:
        _show_report(opened, file or store / "labels.html", gold, as_json)


def _refuse_unread(context: typer.Context, labeller: LabellerName, report: bool) -> None:
    """Raises ConfigError for options that this labeller, or a command without --report, would not read."""
    refuse = options.refuse_unread
    if labeller == "embedded":
        of_judge = (*options.OF_A_JUDGE, "endpoint", "model", "rubric", "judge_by", "judge_from", "audit_share")
        remedy = "add --labeller judge or --labeller cascade."
        refuse(context, of_judge, f"the embedded labeller asks no judge: {remedy}")
        refuse(context, ("dry_run",), f"the embedded labeller sends no request that it could count: {remedy}")
    if labeller == "judge":
        refuse(context, ("judge_from", "audit_share"), "the judge labels every turn: add --labeller cascade.")
        refuse(context, ("approval", "languages"), "only the embedded labeller uses that: add --labeller cascade.")
    if not report:
        refuse(context, ("file", "gold"), "only a report uses that: add --report.")


def _show_report(store: "Store", file: Path, gold: Path | None, as_json: bool) -> None:
    from dataclasses import asdict

    import orjson

    from drift.feedback.trust.page import as_markdown
    from drift.feedback.trust.report import write_label_report

    with progress("comparing"):
        report = write_label_report(store, file, gold)
    console.print(as_markdown(report), markup=False, soft_wrap=True)
    console.print(f"report: {file}", markup=False, soft_wrap=True)
    if as_json:
        typer.echo(orjson.dumps({"report": str(file), **asdict(report)}).decode())


def review(
    store: StoreDir,
    run: Annotated[Path | None, typer.Option(help="Also compare the disliked and fresh replies of this run.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Your name; the agreement of two reviewers is measured.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any free port.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Check labels by hand in a web page on this machine. Decisions are saved at once and override other labels.

    Example: drift review --store stores/mine
    """
    from drift.review.server import serve
    from drift.store import Store

    def show_address(address: str) -> None:
        console.print(f"Open {address} (works once; Ctrl-C ends)", soft_wrap=True, markup=False)
        if browser:
            webbrowser.open(address)

    summary(serve(Store(store), reviewer or getpass.getuser(), run, port, show_address), as_json)


WORSE = 3
"""Exit code of `drift live` for alerts: users are surely more dissatisfied with a model that is not an older one."""


def live(
    store: StoreDir,
    logs: Annotated[
        list[str] | None,
        typer.Option(help="Logs to ingest and label first, redacted and labelled as the store is; may be repeated."),
    ] = None,
    by: Annotated[str, typer.Option(help="What tells deployments apart: model, source, or a tag.")] = "model",
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare every model with this one; default: with those that ran beside it, else with the one before."
        ),
    ] = None,
    gold: options.Gold = None,
    labeller: Annotated[
        str | None, typer.Option(help="Read this labeller's labels alone: embedded, judge, rating or source.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML page to write; default STORE/live.html.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """How often are users dissatisfied with each deployed model, and do two models differ? Look as often as you like.

    Exit code 3: users are surely more dissatisfied with a model than with an older one, or one that began on the same
    day (docs/production.md), 0: with none.

    Example: drift live --store stores/mine --logs 'logs/today/*.jsonl'
    """
    from drift.live.page import as_text, write_live
    from drift.live.readout import read_live
    from drift.store import Store

    opened = Store(store)
    if logs:
        _ingest_and_label(logs, opened)
    with progress("reading"):
        readout = read_live(opened, by=by, against=against, gold=gold, labeller=labeller)
        page = write_live(readout, store, out)
    for line in (*as_text(readout), f"page: {page}"):
        console.print(line, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(readout.model_dump_json())
    if readout.is_worse:
        raise typer.Exit(WORSE)


def _ingest_and_label(logs: list[str], store: "Store") -> None:
    from drift.cli.views import show_ingestion
    from drift.feedback.label import label_store
    from drift.feedback.stage import labeller_of
    from drift.logs.ingest import as_before, check_usable, ingest
    from drift.progress import report_progress

    with progress("reading and labelling"):
        labeller = labeller_of(store)  # before anything is read: it may be that new labels cannot be compared
        ingested = ingest(logs, store, settings=as_before(store), on_progress=report_progress)
        show_ingestion(ingested, as_json=False)
        check_usable(ingested)
        label_store(store, labeller=labeller)


rubric_app = typer.Typer(help="Make a rubric for the judge.", no_args_is_help=True)


@rubric_app.command()
def fit(
    store: StoreDir,
    out: Annotated[Path, typer.Option(help="Rubric file to write (YAML).")],
    gold: options.Gold = None,
    judge: options.Judge = None,
    api_key_env: options.ApiKeyEnv = None,
    price_input: options.PriceInput = None,
    price_output: options.PriceOutput = None,
    max_cost: options.MaxCost = None,
    max_concurrency: options.MaxConcurrency = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    per_class: Annotated[int, typer.Option(min=2, help="Maximum labelled conversations per class.")] = 100,
    least: Annotated[int, typer.Option(min=2, help="Minimum labelled conversations of DSAT and of SAT.")] = 30,
    as_json: JsonFlag = False,
    endpoint: options.EarlierEndpoint = None,
    model: options.EarlierModel = None,
) -> None:
    """Learn from reviewed or gold-labelled chats what dissatisfaction looks like in your logs.

    Example: drift rubric fit --store stores/mine --out rubric.yaml --judge http://127.0.0.1:8000/v1#big
    """
    from drift.endpoint.options import JudgePricing, endpoint_settings
    from drift.feedback.spur.fit import fit_rubric
    from drift.store import Store

    pricing = JudgePricing(api_key_env, price_input, price_output, max_cost, max_concurrency, judge_max_tokens)
    server = endpoint_settings(options.judge_or_earlier(judge, endpoint, model), pricing)
    with progress("learning"):
        fitted = fit_rubric(Store(store), server, out, gold, per_class, least)
    summary(fitted, as_json)


@rubric_app.callback()
def rubric() -> None:
    """Make a rubric for the judge."""
