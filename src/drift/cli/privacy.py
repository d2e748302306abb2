"""`drift audit-privacy`, `drift forget`, and the privacy options of `drift ingest`."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drift.cli import options
from drift.cli.console import console, progress, summary
from drift.cli.options import JsonFlag, StoreDir
from drift.errors import ConfigError, DataError

if TYPE_CHECKING:
    from drift.config import IngestionSettings


def audit_privacy(store: StoreDir, as_json: JsonFlag = False) -> None:
    """Count what still looks like personal data in a store, by kind. The values are never shown.

    Example: drift audit-privacy --store stores/mine
    """
    from drift.logs.redaction.audit import audit_store
    from drift.store import Store

    with progress("searching"):
        audit = audit_store(Store(store))
    summary(audit, as_json)


def forget(
    context: typer.Context,
    store: StoreDir,
    user: Annotated[
        str | None, typer.Option(help="Remove this user: the id in the log or the key in the store.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option(help="Remove this conversation: the id in the log or in the store.")
    ] = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder of the runs that may hold its text.")] = Path("runs"),
    as_json: JsonFlag = False,
) -> None:
    """Remove a user or a conversation for good, and list the runs that still hold it or learned from it.

    Example: drift forget --store stores/mine --user u-1234
    """
    from dataclasses import asdict

    from drift.lineage import forgotten_in
    from drift.rundir import read_runs
    from drift.store import Store

    if (user is None) == (conversation is None):
        raise typer.BadParameter("give --user ID or --conversation ID, and not both.")
    if options.given(context, "root") and not root.is_dir():
        raise ConfigError(f"--runs {root}: no such folder; nothing was removed. Name the folder that your runs are in.")
    opened = Store(store)
    forgotten = opened.forget(user=user, conversation=conversation)
    with progress("searching the runs"):
        runs, damaged = read_runs(root, nested=True)
        traces = {str(path): asdict(trace) for path, trace in forgotten_in(runs, opened).items()}
    summary({**asdict(forgotten), "runs": traces}, as_json)
    if not root.is_dir():
        console.print(f"{root}: no such folder. Runs elsewhere may hold it: --runs DIR", soft_wrap=True, markup=False)
    if traces:
        console.print(
            "These runs still hold it or learned from it. Remove them, and any store inside them: "
            f"rm -r {shlex.join(traces)}",
            soft_wrap=True,
            markup=False,
        )
    if damaged:
        raise DataError(f"removed from {store}, but these runs may still hold it: {' '.join(map(str, damaged))}")


def ingestion_settings(**given: Any) -> "IngestionSettings":
    """The options of `drift ingest` as settings. Raises ConfigError that names the option and the allowed values."""
    from pydantic import ValidationError

    from drift.config import IngestionSettings

    consent = [field.partition("=") for field in given.pop("consent")]
    if wrong := next((name for name, equals, _ in consent if not name or not equals), None):
        raise ConfigError(f"--require-consent {wrong}: write it as FIELD=VALUE, for example training_consent=true.")
    columns: dict[str, str] = {}
    for key, column in _assignments("--map", given.pop("columns"), "conversation=thread_id,role=sender,content=body"):
        if columns.setdefault(key, column) != column:
            raise ConfigError(f"--map: {key} is given twice, as {columns[key]!r} and as {column!r}.")
    roles: dict[str, list[str]] = {}
    for role, word in _assignments("--roles", given.pop("roles"), "user=customer,assistant=bot"):
        roles.setdefault(role, []).append(word)
    try:
        return IngestionSettings.model_validate(
            {**given, "require_consent": {name: value for name, _, value in consent}, "map": columns, "roles": roles}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        option = str(problem["loc"][0]) if problem["loc"] else "roles"
        if problem["type"] == "value_error":
            raise ConfigError(f"--{option}: {problem['msg'].removeprefix('Value error, ').rstrip('.')}.") from None
        raise ConfigError(f"--{option} {problem['input']}: {problem['msg']}.") from None


def _assignments(option: str, given: Sequence[str], example: str) -> list[tuple[str, str]]:
    """`a=x,b=y` as pairs. A comma ends a value only if another `key=` follows."""
    pairs = []
    for part in (part for text in given for part in re.split(r",(?=\s*\w+\s*=)", text)):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ConfigError(f"{option} {part}: write it as {example}.")
        pairs.append((key.strip(), value.strip()))
    return pairs
