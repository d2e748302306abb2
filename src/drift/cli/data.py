"""Chat logs in, pairs out: ingest, pairs."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import JsonFlag, StoreDir, progress, summary


def ingest(
    logs: Annotated[list[Path], typer.Argument(help="Log files, folders, globs, or - for stdin.")],
    store: StoreDir,
    log_format: Annotated[str | None, typer.Option("--format", help="Instead of recognising it from the data.")] = None,
    source: Annotated[str | None, typer.Option(help="Name of the source; part of a conversation's identity.")] = None,
    redact: Annotated[bool, typer.Option("--redact/--no-redact", help="Personal data become placeholders.")] = True,
    keep: Annotated[list[str] | None, typer.Option(help="A kind of personal data that stays, for example ip.")] = None,
    persons: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Redact people's names too, by a spaCy model, en_core_web_sm.")
    ] = None,
    consent: Annotated[
        list[str] | None, typer.Option("--require-consent", metavar="FIELD=VALUE", help="Leave others out.")
    ] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Then note which conversations nearly repeat others.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be read; store nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read chat logs into a store, redacted. The same file twice adds nothing.

    Example: drift ingest logs/*.jsonl --store stores/mine
    """
    from drift.cli.privacy import ingestion_settings
    from drift.cli.shown import show_ingestion, show_preview
    from drift.logs.ingest import ingest, preview
    from drift.progress import report_progress
    from drift.store import Store

    settings = ingestion_settings(redact, keep or [], persons, consent or [], near_duplicates)
    how = {"format": log_format, "source": source, "settings": settings, "on_progress": report_progress}
    with progress("reading"):
        seen = preview(logs, Store(store), **how) if dry_run else None
        done = None if dry_run else ingest(logs, Store(store), **how)
    if seen is not None:
        show_preview(seen, as_json)
    elif done is not None:
        show_ingestion(done, as_json)


def pairs(
    store: StoreDir,
    out: Annotated[Path, typer.Option(help="JSONL of PromptItems; repair pairs go beside it.")],
    logs: Annotated[list[Path] | None, typer.Argument(help="Logs to ingest and label first; none: a store's.")] = None,
    min_p_dsat: Annotated[float, typer.Option(min=0.5, max=1.0, help="A reply counts as disliked from here on.")] = 0.5,
    as_json: JsonFlag = False,
) -> None:
    """Write the disliked replies with their prompts, and the repaired ones as preference pairs.

    With LOGS, everything before it too: ingest, near-duplicates, label.

    Example: drift pairs logs/*.jsonl --store stores/mine --out prompts.jsonl
    """
    from drift.pairs.stages import write_pairs
    from drift.run import pairs_from_logs
    from drift.store import Store

    with progress("reading and labelling"):
        done = (
            pairs_from_logs(logs, Store(store), out, min_p_dsat) if logs else write_pairs(Store(store), out, min_p_dsat)
        )
    summary(done, as_json)
