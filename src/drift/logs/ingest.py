"""Ingest chat logs into a store. Every row ends as accepted, updated, duplicate, filtered or quarantined."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from drift.config import IngestionSettings
from drift.errors import DataError
from drift.logs.files.opening import Repair
from drift.logs.files.sources import find_logs
from drift.logs.near_duplicates import find_near_duplicates
from drift.logs.readers import READERS
from drift.logs.readers.tables.table import Table
from drift.logs.reading import FILTERED, OnProgress, Reading, how_to_read, read_logs
from drift.logs.redaction import make_redactor
from drift.records import Conversation, PersonalData, Reason
from drift.store import AddSummary, Forgotten, Quarantined, Store, StoreWriter
from drift.turns import tool_traffic

DEFAULTS = IngestionSettings()
PREVIEW_EXAMPLES = 3
MOST_SKIPPED = 12
"""Skipped files that a message names."""


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What became of the conversations, model calls and judgements in the logs. `rows`: the rows of the files.

    One row can hold several conversations (the paths of a tree), and several rows one (utterances). A call that is part
    of a longer one is a duplicate. `filtered_by`: the filtered ones by reason. `repaired`: rows that were repaired to
    be read; they are also counted under their outcome. `formats`: number of files by format. `redacted`: values that
    became placeholders, by kind. `withdrawn`: removed from the store because the last version that was read refuses the
    required consent; None if no consent is required. `near_duplicates`: conversations of the whole store that are
    noted as repeats; None if this was not checked. `unread`: keys that held something and were not read, the most
    frequent first. `unknown_roles`: of tables, words that stand for no role. `tools`: of the conversations that were
    not filtered, the calls of tools and what is odd about them (`turns.tool_traffic`). `media`: messages with an image,
    a file or sound, of which a mark is left. `skipped`: files of folders that are no logs, and why. `details`: where
    each reason was met first, and what was wrong there.
    """

    read: int = 0
    accepted: int = 0
    updated: int = 0
    duplicate: int = 0
    filtered: int = 0
    quarantined: dict[Reason, int] = field(default_factory=dict)
    filtered_by: dict[Reason, int] = field(default_factory=dict)
    repaired: dict[Repair, int] = field(default_factory=dict)
    redacted: dict[PersonalData, int] = field(default_factory=dict)
    withdrawn: int | None = None
    near_duplicates: int | None = None
    rows: int = field(default=0, compare=False)
    formats: dict[str, int] = field(default_factory=dict, compare=False)
    unread: dict[str, int] = field(default_factory=dict, compare=False)
    unknown_roles: dict[str, int] = field(default_factory=dict, compare=False)
    tools: dict[str, int] = field(default_factory=dict, compare=False)
    media: int = field(default=0, compare=False)
    skipped: dict[str, str] = field(default_factory=dict, compare=False)
    details: dict[Reason, str] = field(default_factory=dict, compare=False)

    @property
    def adds_up(self) -> bool:
        """True if every item that was read has exactly one outcome."""
        return self.read == sum(
            (self.accepted, self.updated, self.duplicate, self.filtered, *self.quarantined.values())
        )


def check_usable(summary: IngestSummary) -> None:
    """Raises DataError, with what became of the rows, if they held no conversation that is stored now."""
    if summary.accepted or summary.updated or summary.duplicate:
        return
    outcomes = {**summary.quarantined, **summary.filtered_by}
    parts = [
        f"{count} {reason}" + (f" ({summary.details[reason]})" if summary.details.get(reason) else "")
        for reason, count in sorted(outcomes.items(), key=lambda item: -item[1])
    ]
    parts += [f"{file} skipped ({why})" for file, why in list(summary.skipped.items())[:MOST_SKIPPED]]
    if len(summary.skipped) > MOST_SKIPPED:
        parts.append(f"{len(summary.skipped) - MOST_SKIPPED} more files skipped")
    formats = ", ".join(summary.formats)
    read = f"{summary.rows} row{'s' * (summary.rows != 1)} read as {formats}: " if formats else ""
    raise DataError(
        f"nothing usable in these logs: {read}{'; '.join(parts) or 'no rows'}. {_way_out(outcomes.keys(), formats)}"
    )


def _way_out(reasons: Set[Reason], formats: str) -> str:
    """What to do if nothing was usable: only logs that could not be read need other columns."""
    if reasons & {Reason.NO_CONSENT, Reason.FORGOTTEN}:
        return "They were read, but --require-consent or an earlier `drift forget` keeps them out of the store."
    if reasons == {Reason.ORPHAN_FEEDBACK}:
        return "Ingest the judgements together with the chats that they are about."
    if formats == "batch" and reasons <= {Reason.NOT_A_CHAT, Reason.NO_USER_TURN}:
        return "Ingest the requests and the replies of a batch together."
    return "Correct --map and --roles." if "table(" in formats else how_to_read()


@dataclass(frozen=True, slots=True)
class Preview:
    """What `ingest` would do. `files`: the format of each file. `examples`: conversations as they would be stored."""

    summary: IngestSummary
    files: dict[str, str]
    examples: list[Conversation]


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

    Raises DataError if a file is missing, empty, damaged or in an unknown format. After an error or an interrupt the
    store is unchanged.
    """
    ingestion = _Ingestion(logs, format, source, settings, store.forgotten(), on_progress)
    with store.writer() as writer:
        ingestion.read_into(writer)
        summary = ingestion.summary(writer.commit())
    if settings.require_consent:
        summary = replace(summary, withdrawn=store.withdraw(ingestion.refused))
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
    ingestion = _Ingestion(logs, format, source, settings, store.forgotten(), on_progress)
    with tempfile.TemporaryDirectory(prefix="drift-preview-") as scratch:
        target = store if store.path.exists() else Store(Path(scratch) / "store")
        with target.writer() as writer:
            ingestion.read_into(writer)
            summary = ingestion.summary(writer.outlook())
    return Preview(summary, ingestion.reading.formats, ingestion.examples)


class _Ingestion:
    """Reads log files once, and counts the outcomes."""

    def __init__(
        self,
        logs: Sequence[Path | str],
        format_name: str | None,
        source: str | None,
        settings: IngestionSettings,
        forgotten: Forgotten,
        on_progress: OnProgress | None,
    ) -> None:
        if format_name is not None and format_name not in READERS:
            raise DataError(f"--format {format_name}: unknown format; allowed: {', '.join(READERS)}.")
        if format_name is not None and settings.map:
            raise DataError(f"--format {format_name} and --map exclude each other: a mapped table has no other format.")
        self.reading = Reading()
        self.examples: list[Conversation] = []
        self.refused: set[str] = set()  # ids of conversations without consent: about 100 bytes each
        found = find_logs(logs)
        self.reading.skipped |= found.skipped
        self._sources = found.sources
        self._form = Table(settings) if settings.map else format_name
        self._source = source
        self._consent = settings.require_consent
        self._redactor = make_redactor(settings)
        self._forgotten = forgotten
        self._on_progress = on_progress
        self._read = 0
        self._quarantined: Counter[Reason] = Counter()
        self._tools: Counter[str] = Counter()
        self._media = 0
        self._filtered: Counter[Reason] = Counter()
        self._details: dict[Reason, str] = {}

    def read_into(self, writer: StoreWriter) -> None:
        """Give every conversation and every quarantined row to the writer."""
        outcomes = read_logs(
            self._sources, self._form, self._source, writer.user_key, self.reading, self._on_progress, writer.spill
        )
        for outcome in self._redactor.each(outcomes) if self._redactor else outcomes:
            self._read += 1
            if isinstance(outcome, Conversation):
                if reason := filter_reason(outcome, self._consent, self._forgotten):
                    self._filtered[reason] += 1
                    if _refuses(outcome, self._consent):
                        self.refused.add(outcome.conversation_id)
                else:
                    self.refused.discard(outcome.conversation_id)
                    self._note_parts(outcome)
                    writer.add(outcome)
                    self._add_example(outcome)
                continue
            line, element = outcome.at
            self._details.setdefault(outcome.reason, f"{outcome.file}:{line}: {outcome.detail}")
            if outcome.reason in FILTERED:
                self._filtered[outcome.reason] += 1
            else:
                self._quarantined[outcome.reason] += 1
                writer.quarantine(Quarantined(outcome.file, line, outcome.reason, outcome.detail, element))

    def _note_parts(self, conversation: Conversation) -> None:
        """Count tool calls and media; most conversations have none."""
        if [1 for message in conversation.messages if message.tool_calls or message.role == "tool"]:
            self._tools += tool_traffic(conversation.messages)
        if "media_turns" in conversation.tags:
            self._media += conversation.tags["media_turns"].count(",") + 1

    def _add_example(self, conversation: Conversation) -> None:
        """Keep the first conversations as examples; later ones replace one of a source that has several."""
        if len(self.examples) == PREVIEW_EXAMPLES and conversation.source == self.examples[0].source:
            return
        sources = [example.source for example in self.examples]
        if len(sources) < PREVIEW_EXAMPLES:
            self.examples.append(conversation)
        elif conversation.source not in sources and len(set(sources)) < PREVIEW_EXAMPLES:
            replaced = next(place for place in reversed(range(PREVIEW_EXAMPLES)) if sources.count(sources[place]) > 1)
            self.examples[replaced] = conversation

    def summary(self, added: AddSummary) -> IngestSummary:
        """All counts. `added`: the outcomes in the store."""
        summary = IngestSummary(
            read=self._read + self.reading.merged,
            accepted=added.accepted,
            updated=added.updated,
            duplicate=added.duplicate + self.reading.merged,
            filtered=self._filtered.total(),
            quarantined=dict(self._quarantined),
            filtered_by=dict(self._filtered),
            repaired=dict(self.reading.repaired),
            redacted=dict(self._redactor.counts) if self._redactor else {},
            rows=self.reading.rows,
            formats=dict(Counter(self.reading.formats.values())),
            unread=dict(self.reading.unread.counts.most_common()),
            unknown_roles=dict(self.reading.unknown_roles.most_common()),
            tools=dict(self._tools),
            media=self._media,
            skipped=self.reading.skipped,
            details=self._details,
        )
        if not summary.adds_up:
            raise AssertionError(
                f"the counts of this ingestion do not add up. This is a bug, please report it: {summary}"
            )
        return summary


def _refuses(conversation: Conversation, consent: Mapping[str, str]) -> bool:
    """True if a tag contradicts the required consent. A missing tag does not: another version may have it."""
    return any(conversation.tags.get(name, value) != value for name, value in consent.items())


def filter_reason(conversation: Conversation, consent: Mapping[str, str], forgotten: Forgotten) -> Reason | None:
    """Why a readable conversation is not stored; None if it is."""
    if consent and any(conversation.tags.get(name) != value for name, value in consent.items()):
        return Reason.NO_CONSENT
    return Reason.FORGOTTEN if forgotten.covers(conversation) else None
