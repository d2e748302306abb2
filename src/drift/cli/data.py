"""`drift ingest` and `drift pairs`: chat logs in, pairs out."""

from typing import Annotated

import typer

from drift.cli.console import progress, summary
from drift.cli.options import Cluster, JsonFlag, StoreDir, with_urls, working_on
from drift.cli.views import show_ingestion, show_preview


def ingest(
    logs: Annotated[list[str], typer.Argument(help="Log files, folders, globs, URLs or databases; - reads stdin.")],
    store: StoreDir,
    log_format: Annotated[
        str | None, typer.Option("--format", help="Format of the logs; detected if not given.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the source. It is part of the identity of each conversation.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="KEY=COLUMN,...",
            help="Read a table: conversation=,role=,content= (a row is a message) or request=,reply= (an exchange); "
            "also time, model, user, rating and others (docs/tables.md).",
        ),
    ] = None,
    roles: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=WORD,...",
            help="The log's words for roles: user=customer,assistant=bot (* is any other).",
        ),
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact/--no-redact", help="Replace personal data with placeholders.")
    ] = True,
    keep: Annotated[
        list[str] | None, typer.Option(help="Kind of personal data not to redact, for example ip; may be repeated.")
    ] = None,
    persons: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Also redact people's names, with this spaCy model: en_core_web_sm."),
    ] = None,
    consent: Annotated[
        list[str] | None,
        typer.Option(
            "--require-consent",
            metavar="FIELD=VALUE",
            help="Skip conversations whose field has another value; may be repeated.",
        ),
    ] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Then mark conversations that nearly repeat another one.")
    ] = False,
    cluster: Cluster = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how the logs would be read; store nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read chat logs into a store and redact them. Reading the same file again adds nothing.

    Example: drift ingest logs/*.jsonl --store stores/mine
    """
    from drift.cli.privacy import ingestion_settings
    from drift.logs.ingest import check_usable, ingest, preview
    from drift.progress import report_progress
    from drift.store import Store

    settings = ingestion_settings(
        redact=redact,
        keep=keep or [],
        persons=persons,
        consent=consent or [],
        near_duplicates=near_duplicates,
        columns=columns or [],
        roles=roles or [],
    )
    options = {"format": log_format, "source": source, "settings": settings, "on_progress": report_progress}
    if dry_run:
        with progress("reading"):
            previewed = preview(logs, Store(store), **options)
        show_preview(previewed, as_json)
        check_usable(previewed.summary)
    else:
        with progress("reading"), working_on(cluster, store):
            ingested = ingest(logs, Store(store), **options)
        show_ingestion(ingested, as_json)
        check_usable(ingested)


def pairs(
    store: StoreDir,
    out: Annotated[
        str,
        typer.Option(metavar="FILE|URL", help="JSONL file of PromptItems; repair pairs are written beside it."),
    ],
    logs: Annotated[
        list[str] | None, typer.Argument(help="Logs to ingest and label first; default: only what the store holds.")
    ] = None,
    min_p_dsat: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="A reply counts as disliked from this DSAT probability on.")
    ] = 0.5,
    cluster: Cluster = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the disliked replies with their prompts, and the repaired ones as preference pairs.

    With LOGS, first ingest them, find near-duplicates and label.

    Example: drift pairs logs/*.jsonl --store stores/mine --out prompts.jsonl
    """
    from drift.logs.files.remote import local_twin
    from drift.pairs.stages import write_pairs
    from drift.run import pairs_from_logs
    from drift.store import Store

    with progress("reading and labelling"), working_on(cluster, store), local_twin(out, "--out") as file:
        if logs:
            result = pairs_from_logs(logs, Store(store), file, min_p_dsat)
        else:
            result = write_pairs(Store(store), file, min_p_dsat)
    summary(with_urls(result, file, out), as_json)
