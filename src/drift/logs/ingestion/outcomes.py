"""What becomes of the rows of logs: each one ends as accepted, updated, duplicate, not joined, filtered or
quarantined."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drift.config import IngestionSettings
from drift.logs.draft import RoleWords
from drift.logs.files.opening import Repair
from drift.logs.files.rows import Reject
from drift.logs.files.sources import Source
from drift.logs.readers.tables.table import Table
from drift.logs.reading import FILTERED, Joiner, OnProgress, Reading, read_logs
from drift.logs.redaction import make_redactor
from drift.records import Conversation, PersonalData, Reason
from drift.store import AddSummary, Forgotten, PieceWriter, Quarantined, StoreWriter
from drift.turns import tool_traffic

PREVIEW_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What became of the conversations, model calls and judgements in the logs. `rows`: the rows of the files.

    One row can hold several conversations (the paths of a tree), and several rows one (utterances). A call that is part
    of a longer one is a duplicate. `not_joined`: as in AddSummary. `filtered_by`: the filtered ones by reason.
    `repaired`: rows that were repaired to be read; they are also counted under their outcome. `formats`: number of
    files by format. `redacted`: values that became placeholders, by kind. `withdrawn`: removed from the store because
    the last version that was read refuses the required consent; None if no consent is required. `near_duplicates`:
    conversations of the whole store that are noted as repeats; None if this was not checked. `unread`: keys that held
    something and were not read, the most frequent first. `unknown_roles`: of tables, words that stand for no role.
    `tools`: of the conversations that were not filtered, the calls of tools and what is odd about them
    (`turns.tool_traffic`). `media`: messages with an image, a file or sound, of which a mark is left. `cut_replies`:
    those that did not end by themselves, as the log says. `skipped`: files of folders that are no logs, and why.
    `details`: where each reason was met first, and what was wrong there.
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
    not_joined: int = 0
    rows: int = field(default=0, compare=False)
    formats: dict[str, int] = field(default_factory=dict, compare=False)
    unread: dict[str, int] = field(default_factory=dict, compare=False)
    unknown_roles: dict[str, int] = field(default_factory=dict, compare=False)
    tools: dict[str, int] = field(default_factory=dict, compare=False)
    media: int = field(default=0, compare=False)
    cut_replies: int = field(default=0, compare=False)
    skipped: dict[str, str] = field(default_factory=dict, compare=False)
    details: dict[Reason, str] = field(default_factory=dict, compare=False)

    @property
    def adds_up(self) -> bool:
        """True if every item that was read has exactly one outcome."""
        return self.read == sum(
            (self.accepted, self.updated, self.duplicate, self.not_joined, self.filtered, *self.quarantined.values())
        )


@dataclass(frozen=True, slots=True)
class Detail:
    """Where a reason was met first, and what was wrong there."""

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """What was read, before it is known what becomes of the conversations. The fields are those of IngestSummary, but
    `formats` are by file, and `merged` are the calls that are part of a longer one."""

    read: int = 0
    merged: int = 0
    quarantined: dict[Reason, int] = field(default_factory=dict)
    filtered: dict[Reason, int] = field(default_factory=dict)
    repaired: dict[Repair, int] = field(default_factory=dict)
    redacted: dict[PersonalData, int] = field(default_factory=dict)
    rows: int = 0
    formats: dict[str, str] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    unknown_roles: dict[str, int] = field(default_factory=dict)
    tools: dict[str, int] = field(default_factory=dict)
    media: int = 0
    cut_replies: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    details: dict[Reason, Detail] = field(default_factory=dict)

    def plus(self, later: "ReadCounts") -> "ReadCounts":
        """These counts and those of logs that come later."""
        both: dict[str, Any] = {"details": {**later.details, **self.details}}
        for name in ("formats", "skipped"):
            both[name] = {**getattr(self, name), **getattr(later, name)}
        for name in ("quarantined", "filtered", "repaired", "redacted", "unread", "unknown_roles", "tools"):
            both[name] = dict(Counter(getattr(self, name)) + Counter(getattr(later, name)))
        for name in ("read", "merged", "rows", "media", "cut_replies"):
            both[name] = getattr(self, name) + getattr(later, name)
        return ReadCounts(**both)

    def summary(self, added: AddSummary) -> IngestSummary:
        """All counts. `added`: the outcomes in the store."""
        summary = IngestSummary(
            read=self.read + self.merged,
            accepted=added.accepted,
            updated=added.updated,
            duplicate=added.duplicate + self.merged,
            not_joined=added.not_joined,
            filtered=sum(self.filtered.values()),
            quarantined=self.quarantined,
            filtered_by=self.filtered,
            repaired=self.repaired,
            redacted=self.redacted,
            rows=self.rows,
            formats=dict(Counter(self.formats.values())),
            unread=dict(Counter(self.unread).most_common()),
            unknown_roles=dict(Counter(self.unknown_roles).most_common()),
            tools=self.tools,
            media=self.media,
            cut_replies=self.cut_replies,
            skipped=self.skipped,
            details={reason: f"{at.file}:{at.line}: {at.what}" for reason, at in self.details.items()},
        )
        if not summary.adds_up:
            raise AssertionError(
                f"the counts of this ingestion do not add up. This is a bug, please report it: {summary}"
            )
        return summary


class Ingestion:
    """Reads logs once, and counts the outcomes. `form`: as of `read_logs`."""

    def __init__(
        self,
        sources: Sequence[Source],
        form: str | Table | None,
        source: str | None,
        settings: IngestionSettings,
        forgotten: Forgotten,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.reading = Reading(roles=RoleWords(settings.roles) if settings.roles else None)
        self.examples: list[Conversation] = []
        self.refused: set[str] = set()  # ids of conversations without consent: about 100 bytes each
        self._sources = sources
        self._form = form
        self._source = source
        self._consent = settings.require_consent
        self._redactor = make_redactor(settings)
        self._forgotten = forgotten
        self._on_progress = on_progress
        self._read = 0
        self._quarantined: Counter[Reason] = Counter()
        self._tools: Counter[str] = Counter()
        self._media = self._cut = 0
        self._filtered: Counter[Reason] = Counter()
        self._details: dict[Reason, Detail] = {}

    def read_into(self, writer: StoreWriter | PieceWriter, stitcher: Joiner | None = None) -> None:
        """Give every conversation and every quarantined row to the writer. `stitcher`: as of `read_logs`."""
        outcomes = read_logs(
            self._sources, self._form, self._source, writer.user_key, self.reading, self._on_progress, writer.spill,
            stitcher,
        )  # fmt: skip
        self.take(outcomes, writer)

    def take(self, outcomes: Iterable[Conversation | Reject], writer: StoreWriter | PieceWriter) -> None:
        """Redact what was read, and give every conversation and every quarantined row to the writer."""
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
            self._details.setdefault(outcome.reason, Detail(outcome.file, line, outcome.detail))
            if outcome.reason in FILTERED:
                self._filtered[outcome.reason] += 1
            else:
                self._quarantined[outcome.reason] += 1
                writer.quarantine(Quarantined(outcome.file, line, outcome.reason, outcome.detail, element))

    def _note_parts(self, conversation: Conversation) -> None:
        """Count tool calls, media and replies that were cut; most conversations have none."""
        if [1 for message in conversation.messages if message.tool_calls or message.role == "tool"]:
            self._tools += tool_traffic(conversation.messages)
        if not conversation.tags:
            return
        if "media_turns" in conversation.tags:
            self._media += conversation.tags["media_turns"].count(",") + 1
        if "cut_turns" in conversation.tags:
            self._cut += conversation.tags["cut_turns"].count(",") + 1

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

    def counts(self) -> ReadCounts:
        """What was read, once all of it was."""
        return ReadCounts(
            read=self._read,
            merged=self.reading.merged,
            quarantined=dict(self._quarantined),
            filtered=dict(self._filtered),
            repaired=dict(self.reading.repaired),
            redacted=dict(self._redactor.counts) if self._redactor else {},
            rows=self.reading.rows,
            formats=self.reading.formats,
            unread=dict(self.reading.unread.counts),
            unknown_roles=dict(self.reading.unknown_roles),
            tools=dict(self._tools),
            media=self._media,
            cut_replies=self._cut,
            skipped=self.reading.skipped,
            details=self._details,
        )


def _refuses(conversation: Conversation, consent: Mapping[str, str]) -> bool:
    """True if a tag contradicts the required consent. A missing tag does not: another version may have it."""
    return any(conversation.tags.get(name, value) != value for name, value in consent.items())


def filter_reason(conversation: Conversation, consent: Mapping[str, str], forgotten: Forgotten) -> Reason | None:
    """Why a readable conversation is not stored; None if it is."""
    if consent and any(conversation.tags.get(name) != value for name, value in consent.items()):
        return Reason.NO_CONSENT
    return Reason.FORGOTTEN if forgotten.covers(conversation) else None
