"""What is known about people: audit-privacy, forget, and the settings of ingestion that protect them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drift.cli.console import JsonFlag, StoreDir, console, progress, summary
from drift.errors import ConfigError

if TYPE_CHECKING:
    from drift.config import IngestionSettings


def audit_privacy(store: StoreDir, as_json: JsonFlag = False) -> None:
    """Count what still looks like personal data in a store, by kind; values are never shown.

    Example: drift audit-privacy --store stores/mine
    """
    from drift.logs.redaction.audit import audit_store
    from drift.store import Store

    with progress("looking"):
        done = audit_store(Store(store))
    summary(done, as_json)


def forget(
    store: StoreDir,
    user: Annotated[str | None, typer.Option(help="All of this user, by the log's id or the store's key.")] = None,
    conversation: Annotated[str | None, typer.Option(help="This conversation, by the log's id or the store's.")] = None,
    root: Annotated[Path, typer.Option("--runs", help="Where the runs lie that may hold its text.")] = Path("runs"),
    as_json: JsonFlag = False,
) -> None:
    """Remove a user or a conversation, and refuse it from now on. Names the runs that still hold or learned it.

    Example: drift forget --store stores/mine --user u-1234
    """
    from dataclasses import asdict

    from drift.lineage import forgotten_in
    from drift.rundir.view import list_runs
    from drift.store import Store

    if (user is None) == (conversation is None):
        raise typer.BadParameter("give either --user ID or --conversation ID.")
    opened = Store(store)
    done = opened.forget(user=user, conversation=conversation)
    with progress("looking through the runs"):
        marks = {str(path): asdict(mark) for path, mark in forgotten_in(list_runs(root), opened).items()}
    summary({**asdict(done), "runs": marks}, as_json)
    if marks:
        told = "these runs still hold it or learned from it; remove them, with any store inside"
        console.print(f"{told}: rm -r {shlex.join(marks)}", soft_wrap=True, markup=False)


def ingestion_settings(
    redact: bool, keep: Sequence[str], persons: str | None, consent: Sequence[str], near_duplicates: bool
) -> "IngestionSettings":
    """The command line's options as settings. Raises ConfigError naming the option and what it allows."""
    from pydantic import ValidationError

    from drift.config import IngestionSettings

    fields = [field.partition("=") for field in consent]
    if wrong := next((name for name, equals, _ in fields if not name or not equals), None):
        raise ConfigError(f"--require-consent {wrong}: write it as FIELD=VALUE, for example training_consent=true.")
    try:
        return IngestionSettings.model_validate(
            {
                "redact": redact,
                "keep": list(keep),
                "persons": persons,
                "near_duplicates": near_duplicates,
                "require_consent": {name: value for name, _, value in fields},
            }
        )
    except ValidationError as error:
        raise ConfigError(f"--keep {error.errors()[0]['input']}: {error.errors()[0]['msg']}.") from None
