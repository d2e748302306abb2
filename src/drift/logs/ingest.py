"""Chat logs into a store: every row that is read is accepted, an update, a duplicate, filtered or quarantined."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drift.config import IngestionSettings
from drift.errors import DataError
from drift.logs.files.opening import Repair, log_files
from drift.logs.near_duplicates import find_near_duplicates
from drift.logs.readers import READERS
from drift.logs.reading import FILTERED, OnProgress, Reading, read_logs
from drift.logs.redaction import make_redactor
from drift.records import Conversation, PersonalData, Reason
from drift.store import AddSummary, Forgotten, Quarantined, Store, StoreWriter

DEFAULTS = IngestionSettings()
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What became of the conversations, model calls and judgements in some logs; `rows` of the files held them.

    A row can hold several conversations (the paths of a tree), and several rows one (utterances). A call that is part
    of a longer one is a duplicate. `filtered_by`: the filtered ones by reason. `repaired`: rows that could be read
    after something was mended; what became of them is among the others. `formats`: files by format. `redacted`: values
    that became placeholders, by kind. `withdrawn`: taken out of the store, because the last version that was read
    refuses the consent that is required; None where none is. `near_duplicates`: accepted, but noted as repeats, in the
    whole store; None where nobody looked.
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

    @property
    def adds_up(self) -> bool:
        return self.read == sum(
            (self.accepted, self.updated, self.duplicate, self.filtered, *self.quarantined.values())
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """`files`: the format of each. `examples`: as they would be stored."""

    summary: IngestSummary
    files: dict[str, str]
    examples: list[Conversation]


def ingest(
    paths: Sequence[Path],
    store: Store,
    *,
    format: str | None = None,  # noqa: A002 (the command's option of this name)
    source: str | None = None,
    settings: IngestionSettings = DEFAULTS,
    on_progress: OnProgress | None = None,
) -> IngestSummary:
    """Read log files (`log_files` says how they are named) into the store, as a stream.

    Personal data are redacted before anything is written, unless `settings` say otherwise. `format` is a key of
    READERS; by default each file's first rows tell it. `source` names where the logs are from, and ids are unique
    within a source; by default it is the format's name. `on_progress` gets the bytes done and to do.

    Raises DataError if a file is missing, empty, damaged or of no known format. On any error and on an interrupt the
    store stays as it was.
    """
    ingestion = _Ingestion(paths, format, source, settings, store.forgotten(), on_progress)
    with store.writer() as writer:
        ingestion.read_into(writer)
        summary = ingestion.summary(writer.commit())
    if settings.require_consent:
        summary = replace(summary, withdrawn=store.withdraw(ingestion.refused))
    if not settings.near_duplicates:
        return summary
    return replace(summary, near_duplicates=find_near_duplicates(store).near_duplicates)


def preview(
    paths: Sequence[Path],
    store: Store,
    *,
    format: str | None = None,  # noqa: A002 (as in `ingest`)
    source: str | None = None,
    settings: IngestionSettings = DEFAULTS,
    on_progress: OnProgress | None = None,
) -> Preview:
    """What `ingest` would do, with three conversations as it would store them. The store stays as it is.

    Raises DataError as `ingest` does.
    """
    ingestion = _Ingestion(paths, format, source, settings, store.forgotten(), on_progress)
    with tempfile.TemporaryDirectory(prefix="drift-preview-") as scratch:
        target = store if store.path.exists() else Store(Path(scratch) / "store")
        with target.writer() as writer:
            ingestion.read_into(writer)
            summary = ingestion.summary(writer.outlook())
    return Preview(summary, ingestion.reading.formats, ingestion.examples)


class _Ingestion:
    """One reading of log files, and the counts of what became of everything in them."""

    def __init__(
        self,
        paths: Sequence[Path],
        format_name: str | None,
        source: str | None,
        settings: IngestionSettings,
        forgotten: Forgotten,
        on_progress: OnProgress | None,
    ) -> None:
        if format_name is not None and format_name not in READERS:
            raise DataError(f"--format {format_name}: no such format; known: {', '.join(READERS)}.")
        self.reading = Reading()
        self.examples: list[Conversation] = []
        self.refused: set[str] = set()  # ids of those without consent: some 100 bytes each
        self._files = log_files(paths)
        self._format = format_name
        self._source = source
        self._consent = settings.require_consent
        self._redactor = make_redactor(settings)
        self._forgotten = forgotten
        self._on_progress = on_progress
        self._read = 0
        self._quarantined: Counter[Reason] = Counter()
        self._filtered: Counter[Reason] = Counter()

    def read_into(self, writer: StoreWriter) -> None:
        outcomes = read_logs(
            self._files, self._format, self._source, writer.user_key, self.reading, self._on_progress, writer.spill
        )
        for outcome in self._redactor.each(outcomes) if self._redactor else outcomes:
            self._read += 1
            if isinstance(outcome, Conversation):
                if reason := left_out(outcome, self._consent, self._forgotten):
                    self._filtered[reason] += 1
                    if _refuses(outcome, self._consent):
                        self.refused.add(outcome.conversation_id)
                else:
                    self.refused.discard(outcome.conversation_id)
                    writer.add(outcome)
                    self._show(outcome)
            elif outcome.reason in FILTERED:
                self._filtered[outcome.reason] += 1
            else:
                self._quarantined[outcome.reason] += 1
                line, element = outcome.at
                writer.quarantine(Quarantined(outcome.file, line, outcome.reason, outcome.detail, element))

    def _show(self, conversation: Conversation) -> None:
        """The first ones are examples, then those of a source that none of these is from."""
        if len(self.examples) == EXAMPLES and conversation.source == self.examples[0].source:
            return
        sources = [example.source for example in self.examples]
        if len(sources) < EXAMPLES:
            self.examples.append(conversation)
        elif conversation.source not in sources and len(set(sources)) < EXAMPLES:
            twice = next(place for place in reversed(range(EXAMPLES)) if sources.count(sources[place]) > 1)
            self.examples[twice] = conversation

    def summary(self, added: AddSummary) -> IngestSummary:
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
        )
        if not summary.adds_up:
            raise AssertionError(f"the counts of this ingestion do not add up; please report it: {summary}")
        return summary


def _refuses(conversation: Conversation, consent: Mapping[str, str]) -> bool:
    """Does it say otherwise? To say nothing is not to withdraw what another version said."""
    return any(conversation.tags.get(name, value) != value for name, value in consent.items())


def left_out(conversation: Conversation, consent: Mapping[str, str], forgotten: Forgotten) -> Reason | None:
    """Why a conversation that could be read is not stored."""
    if consent and any(conversation.tags.get(name) != value for name, value in consent.items()):
        return Reason.NO_CONSENT
    return Reason.FORGOTTEN if forgotten.covers(conversation) else None
