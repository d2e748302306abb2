"""Ingest chat logs into a store. Every row ends as accepted, updated, duplicate, not_joined, filtered or
quarantined."""

import tempfile
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drift.config import IngestionSettings
from drift.engine import current_engine, rare_collections
from drift.errors import DataError
from drift.logs.files.opening import STDIN
from drift.logs.files.sources import Source, find_logs
from drift.logs.ingestion.outcomes import Ingestion, IngestSummary
from drift.logs.ingestion.pieces import Ingested, ingest_in_pieces
from drift.logs.near_duplicates import find_near_duplicates
from drift.logs.readers import READERS
from drift.logs.readers.tables.table import Table
from drift.logs.reading import OnProgress, how_to_read
from drift.progress import report_note
from drift.records import Conversation, Reason
from drift.store import Store

DEFAULTS = IngestionSettings()
PRIVACY = ("redact", "keep", "persons", "require_consent")
"""The settings that the store remembers."""
MOST_SKIPPED = 12
"""Skipped files that a message names."""
NOT_JOINED = (
    "They hold other messages than the stored conversations of their ids, and nothing tells how they go together: the "
    "stored ones stay. Parts of conversations: give all files in one command, to a new store. Other conversations: "
    "their ids must differ (--source NAME for another log)."
)


def check_usable(summary: IngestSummary) -> None:
    """Raises DataError, with what became of the rows, if they held no conversation that is stored now."""
    if _is_usable(summary):
        return
    outcomes = {**summary.quarantined, **summary.filtered_by}
    parts = [
        f"{count} {reason}" + (f" ({summary.details[reason]})" if summary.details.get(reason) else "")
        for reason, count in sorted(outcomes.items(), key=lambda item: -item[1])
    ]
    parts += [f"{summary.not_joined} not_joined"] if summary.not_joined else []
    parts += [f"{file} skipped ({why})" for file, why in list(summary.skipped.items())[:MOST_SKIPPED]]
    if len(summary.skipped) > MOST_SKIPPED:
        parts.append(f"{len(summary.skipped) - MOST_SKIPPED} more files skipped")
    formats = ", ".join(summary.formats)
    read = f"{summary.rows} row{'s' * (summary.rows != 1)} read as {formats}: " if formats else ""
    remedy = NOT_JOINED if summary.not_joined else _way_out(outcomes.keys(), formats)
    raise DataError(f"nothing usable in these logs: {read}{'; '.join(parts) or 'no rows'}. {remedy}")


def _is_usable(summary: IngestSummary) -> bool:
    return bool(summary.accepted or summary.updated or summary.duplicate)


def _way_out(reasons: Set[Reason], formats: str) -> str:
    """What to do if nothing was usable: only logs that could not be read need other columns."""
    if reasons & {Reason.NO_CONSENT, Reason.FORGOTTEN}:
        return "They were read, but --require-consent (now or earlier) or `drift forget` keeps them out of the store."
    if reasons == {Reason.ORPHAN_FEEDBACK}:
        return "Ingest the judgements together with the chats that they are about."
    if formats == "batch" and reasons <= {Reason.NOT_A_CHAT, Reason.NO_USER_TURN}:
        return "Ingest the requests and the replies of a batch together."
    if formats == "batch" and Reason.DUPLICATE_KEYS in reasons:
        return "Ingest the requests and the replies of one batch together, and each batch by itself."
    if "table(" in formats:
        return "Correct --map and --roles."
    if reasons == {Reason.UNKNOWN_ROLE}:
        return "Say what the words for the roles mean: --roles user=WORD,assistant=WORD."
    if reasons == {Reason.NO_CONVERSATION}:
        return "Read the rows that were taken out."
    return how_to_read()


@dataclass(frozen=True, slots=True)
class Preview:
    """What `ingest` would do. `files`: the format of each file. `examples`: conversations as they would be stored."""

    summary: IngestSummary
    files: dict[str, str]
    examples: list[Conversation]


@rare_collections()
def ingest(
    logs: Sequence[Path | str],
    store: Store,
    *,
    format: str | None = None,  # noqa: A002 (the command's option of this name)
    source: str | None = None,
    settings: IngestionSettings = DEFAULTS,
    on_progress: OnProgress | None = None,
) -> IngestSummary:
    """Read logs (files, folders, globs, URLs of databases) into the store, as a stream.

    Personal data are redacted before anything is written, unless `settings` switch this off. `format` is a key of
    READERS; by default each file's first rows show it. `source` names the origin of the logs, within which ids are
    unique; by default it is the name of the format. `on_progress` gets the bytes done and the bytes in total.

    With an engine of several workers the work is done in pieces: the result is the same, `on_progress` is not called,
    and after a kill the same call goes on behind the finished pieces.

    Raises DataError if a file is missing, empty, damaged or in an unknown format. After an error or an interrupt the
    store is unchanged.
    """
    settings = _with_consent(settings, store)
    form = _form(format, settings)
    found = find_logs(logs)
    if current_engine().workers > 1 and not any(one.name == str(STDIN) for one in found.sources):
        done = ingest_in_pieces(found.sources, form, source, settings, store)
    else:
        done = _in_this_process(found.sources, form, source, settings, store, on_progress)
    summary = replace(done.summary, skipped={**found.skipped, **done.summary.skipped})
    if settings.require_consent:
        summary = replace(summary, withdrawn=store.withdraw(done.refused))
    if _is_usable(summary):  # else a mistyped requirement would hide the store
        store.set_privacy(settings.model_dump(mode="json", include=set(PRIVACY), exclude_defaults=True))
        if settings.require_consent and (hidden := store.without_consent()):
            report_note(
                f"{store.path}: {hidden} stored conversations lack {_named(settings.require_consent)}: from now on no "
                "command reads them. Keep logs without that consent in a store of their own."
            )
    if summary.not_joined and _is_usable(summary):  # else check_usable says it
        report_note(f"{store.path}: {summary.not_joined} conversations are not_joined. {NOT_JOINED}")
    if not settings.near_duplicates or not store.size():
        return summary
    return replace(summary, near_duplicates=find_near_duplicates(store).near_duplicates)


def preview(
    logs: Sequence[Path | str],
    store: Store,
    *,
    format: str | None = None,  # noqa: A002 (as in `ingest`)
    source: str | None = None,
    settings: IngestionSettings = DEFAULTS,
    on_progress: OnProgress | None = None,
) -> Preview:
    """What `ingest` would do, with three example conversations. The store does not change.

    Raises DataError as `ingest` does.
    """
    settings = _with_consent(settings, store)
    form, found = _form(format, settings), find_logs(logs)
    ingestion = Ingestion(found.sources, form, source, settings, store.forgotten(), on_progress)
    with tempfile.TemporaryDirectory(prefix="drift-preview-") as scratch:
        target = store if store.path.exists() else Store(Path(scratch) / "store")
        with target.writer() as writer:
            ingestion.read_into(writer)
            summary = ingestion.counts().summary(writer.outlook())
    summary = replace(summary, skipped={**found.skipped, **summary.skipped})
    return Preview(summary, ingestion.reading.formats, ingestion.examples)


def as_before(store: Store, **more: Any) -> IngestionSettings:
    """For a command without options of privacy: those of the store's latest ingestion."""
    return IngestionSettings.model_validate({**store.privacy(), **more})


def require_consent(store: Store, settings: IngestionSettings) -> None:
    """Let only conversations with the settings' consent be read. Without any, what the store required holds.

    Raises DataError if the store has conversations and none with it; then the store requires what it did before.
    """
    before = store.privacy()
    if not settings.require_consent or not store.path.exists():
        return
    store.set_privacy({**before, "require_consent": settings.require_consent})
    if not store.size() and (hidden := store.without_consent()):
        store.set_privacy(before)
        raise DataError(
            f"{store.path}: none of its {hidden} conversations has the required consent, "
            f"{_named(settings.require_consent)}. Correct ingestion.require_consent, or ingest logs with that consent."
        )


def _with_consent(settings: IngestionSettings, store: Store) -> IngestionSettings:
    """A store that requires consent goes on requiring it, whoever fills it."""
    required = store.privacy().get("require_consent")
    if settings.require_consent or not required:
        return settings
    report_note(f"{store.path}: requires {_named(required)}, as an earlier command did; others are left out")
    return settings.model_copy(update={"require_consent": required})


def _named(consent: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in consent.items())


def _form(format_name: str | None, settings: IngestionSettings) -> str | Table | None:
    """As `read_logs` takes it. Raises DataError for an unknown format, or for two."""
    if format_name is not None and format_name not in READERS:
        raise DataError(f"--format {format_name}: unknown format; allowed: {', '.join(READERS)}.")
    if format_name is not None and settings.map:
        raise DataError(f"--format {format_name} and --map exclude each other: a mapped table has no other format.")
    return Table(settings) if settings.map else format_name


def _in_this_process(
    sources: Sequence[Source],
    form: str | Table | None,
    source: str | None,
    settings: IngestionSettings,
    store: Store,
    on_progress: OnProgress | None,
) -> Ingested:
    ingestion = Ingestion(sources, form, source, settings, store.forgotten(), on_progress)
    with store.writer() as writer:
        ingestion.read_into(writer)
        return Ingested(ingestion.counts().summary(writer.commit()), ingestion.refused)
