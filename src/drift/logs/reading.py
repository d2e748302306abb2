"""Read log files as conversations: recognise the format, read rows, stitch calls, and account for every row."""

import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from drift.errors import DataError
from drift.logs.convert import is_consent, unread_beside
from drift.logs.draft import ConversationDraft, Evidence, RoleWords, finish
from drift.logs.files.opening import Repair
from drift.logs.files.rows import TOO_DEEP, LogRow, Reject, Unusable, short_form
from drift.logs.files.sources import LogFile, NotALog, Source
from drift.logs.judgements import Judgements, holds_judgements
from drift.logs.markup import without_sources
from drift.logs.readers import READERS, Format
from drift.logs.readers.tables.joiner import TableJoiner
from drift.logs.readers.tables.table import Table
from drift.logs.traces.gathering import Gatherer
from drift.logs.traces.stitching import Stitched, Stitcher
from drift.logs.traces.texts import SESSIONS
from drift.logs.traces.threads import Threads
from drift.logs.unread import BESIDE, Unread
from drift.logs.values import PYTHON_LIST, is_python_list, seconds_of
from drift.records import Conversation, Reason

FILTERED = frozenset({Reason.NOT_A_CHAT, Reason.JOINED_AS_EVIDENCE, Reason.NO_VERDICT, Reason.REPEATED_ROW})
"""Reasons of rows that are not errors, but not conversations either."""
NATIVE_ROW = '{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "5"}]}'
_MAX_HEAD_ROWS = 200  # rows that are read to recognise a format
_MIN_HEAD_ROWS = 20  # rows that are read even if one is recognised earlier: later rows may contradict it
_MAX_HEAD_CHARACTERS = 16 * 2**20

OnProgress = Callable[[int, int], None]
"""Gets the number of bytes that are done and of all bytes."""


class Joiner(Protocol):
    """What makes conversations out of several rows: out of model calls, parts, single messages, rows of tables."""

    def finish(self) -> Stitched: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Reading:
    """Counts of what was read.

    `formats`: by file. `skipped`: files that were not read, and why. `rows`: rows of the files. `merged`: calls that
    are part of a longer call; `merged_rows`: their rows. `accounted`: rows that became a conversation, a judgement or a
    `Reject`. `unread`: keys that held something and were not read. `unknown_roles`: of tables, words that stand for no
    role. `roles`: the words of these logs, for formats whose messages name roles; a table has its own.
    """

    formats: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    merged: int = 0
    merged_rows: int = 0
    repaired: Counter[Repair] = field(default_factory=Counter)
    accounted: int = 0
    unknown_roles: Counter[str] = field(default_factory=Counter)
    roles: RoleWords | None = None
    unread: Unread = field(default_factory=lambda: Unread(is_consent))

    def check(self) -> None:
        """Raise AssertionError if a row has no outcome: that is a bug in a reader."""
        if self.rows != self.accounted + self.merged_rows:
            raise AssertionError(
                f"{self.rows} rows were read, but {self.accounted} are accounted for and {self.merged_rows} merged. "
                "This is a bug in a reader, please report it with the format of the log."
            )


class Head(NamedTuple):
    """A format, and the rows that were read to recognise it."""

    name: str
    reader: Format
    rows: list[LogRow | Reject]


def read_logs(
    sources: Sequence[Source | Path],
    form: str | Table | None,
    source_name: str | None,
    user_key: Callable[[str], str],
    reading: Reading,
    on_progress: OnProgress | None = None,
    spill: Path | None = None,
    stitcher: Joiner | None = None,
) -> Iterator[Conversation | Reject]:
    """Yield the conversations and rejects of all sources in order. Those made out of several rows come last.

    `form`: the name of the format, or a table's columns; None if the first rows show it. `source_name`: the origin of
    the logs, part of the identity of their conversations; by default, the format's name. `spill`: the folder for what
    does not fit into memory. `stitcher`: what takes the single calls of these logs. Raises DataError if a file's format
    is ambiguous, or if the user named a file and its format is unknown.
    """
    opened = [LogFile(source) if isinstance(source, Path) else source for source in sources]
    joiners: dict[str, Joiner] = {}
    judgements = Judgements()
    with ExitStack() as open_joiners:
        for source, head, rows in _with_heads(opened, form, reading, on_progress):
            name, reader = head.name, head.reader
            rows = _counted(itertools.chain(head.rows, rows), reading)
            rows = rows if reader.reads_deep else map(_shallow, rows)
            if reading.roles is not None and not isinstance(form, Table):
                rows = _with_roles(rows, reading.roles, reading)
            if reader.keys is not None:
                beside = unread_beside if reader.keys.keys() >= BESIDE.keys() else None
                rows = reading.unread.counted(rows, reader.keys, filter(None, (reader.unread_in, beside)))
            is_joined = reader.stitched or reader.joined or reader.group_of or isinstance(form, Table)
            if is_joined and name not in joiners:
                joiners[name] = stitcher if stitcher and reader.stitched else _joiner(form, reader, spill)
                open_joiners.callback(joiners[name].close)
            joiner = joiners[name] if is_joined else None
            outcomes = reader.read(joiner.rest(rows, source.name) if isinstance(joiner, Gatherer) else rows)
            if joiner is None or isinstance(joiner, Gatherer):
                outcomes = _judged(outcomes, judgements, source.name)
            else:
                outcomes = _joined(outcomes, joiner, judgements, source.name)
            yield from _finished(outcomes, source_name or name, user_key, reading, source.name)
        if isinstance(form, Table):
            form.check_seen()
            reading.repaired += form.repairs
            reading.unknown_roles += form.unknown_roles
        for name, joiner in joiners.items():
            joined = joiner.finish()
            reading.merged += joined.merged
            reading.merged_rows += joined.merged_rows
            yield from _finished(_judged(joined.outcomes, judgements), source_name or name, user_key, reading)
            if isinstance(joiner, TableJoiner):
                reading.repaired += joiner.repairs
        yield from _finished(judgements.outcomes(), "", user_key, reading)
        reading.check()


def _with_heads(
    sources: Sequence[Source], form: str | Table | None, reading: Reading, on_progress: OnProgress | None
) -> Iterator[tuple[Source, Head, Iterator[LogRow | Reject]]]:
    """Each log with its format and its other rows, in order, but judgements before the chats that they are about."""
    total, done = sum(source.size for source in sources), 0
    waiting, has_looked = deque(sources), False

    def opened(source: Source) -> Iterator[tuple[Source, Head, Iterator[LogRow | Reject]]]:
        nonlocal done
        start, done = done, done + source.size

        def progress(in_file: int) -> None:
            if on_progress is not None:
                on_progress(start + in_file, total)

        rows = source.rows(progress, reading.repaired)
        head = _head(source, rows, form, reading)
        if head is None:
            progress(source.size)
        else:
            yield source, head, rows

    while waiting:
        for source, head, rows in opened(waiting.popleft()):
            if (judged_by := head.reader.judged_by) and not has_looked:
                has_looked = True
                for other in [one for one in waiting if holds_judgements(one, judged_by)]:
                    waiting.remove(other)
                    yield from opened(other)
            yield source, head, rows


def _head(source: Source, rows: Iterator[LogRow | Reject], form: str | Table | None, reading: Reading) -> Head | None:
    """The format of a source; None if it is no log, and nobody named it. Raises DataError."""
    try:
        if isinstance(form, Table):
            reader = Format(lambda row: False, form.read, keys=form.keys, unread_in=form.unread_in)
            head = Head(form.name, reader, form.head(source, rows))
        else:
            head = recognise(source.name, rows) if form is None else Head(form, READERS[form], [])
    except NotALog as error:
        if source.is_named:
            raise
        reading.skipped[source.name] = error.why
        return None
    reading.formats[source.name] = head.name
    return head


def recognise(name: str, rows: Iterator[LogRow | Reject]) -> Head:
    """The format that the first rows show. Raises NotALog, and DataError if they show several."""
    first: list[LogRow | Reject] = []
    lines: dict[str, int] = {}  # the first line that each format recognised
    plain_lines: dict[str, int] = {}
    characters = 0
    for row in rows:
        first.append(row)
        if isinstance(row, LogRow):
            for candidate, reader in READERS.items():
                if reader.recognises(row.value):
                    (plain_lines if reader.plain else lines).setdefault(candidate, row.at.line)
        characters += _characters(row)
        if (
            len(first) >= (_MIN_HEAD_ROWS if lines or plain_lines else _MAX_HEAD_ROWS)
            or characters > _MAX_HEAD_CHARACTERS
        ):
            break
    candidates = lines or plain_lines
    if len(candidates) == 1:
        (recognised,) = candidates
        return Head(recognised, READERS[recognised], first)
    if candidates:
        listed = ", ".join(f"{candidate} (line {line})" for candidate, line in candidates.items())
        raise DataError(f"{name}: the format could be {listed}. Choose one: --format NAME.")
    readable = next((row for row in first if isinstance(row, LogRow)), None)
    rejects = [row for row in first if isinstance(row, Reject)]
    large = next((row for row in rejects if row.reason in (Reason.TOO_LARGE, Reason.NESTED_TOO_DEEP)), None)
    if readable is None and large is not None:
        raise NotALog(f"{name}:{large.at.line}", f"no row can be read: {large.detail}", "Split this row.")
    if readable is None:
        raise NotALog(name, "no rows of JSON Lines, a JSON array, Parquet or CSV", "Leave the file out.")
    around = _how_to_take_out(readable.value) if len(first) == 1 else ""
    why = f"unknown log format (this row has the keys {_keys_of(readable.value)}){around}"
    remedy = f"{how_to_read()} Or name the format: --format {'|'.join(READERS)}."
    raise NotALog(f"{name}:{readable.at.line}", why, remedy)


def how_to_read() -> str:
    """What to do with a log that no reader knows."""
    return (
        "Map its columns: --map conversation=COLUMN,role=COLUMN,content=COLUMN (a message per row) or "
        f"--map request=COLUMN,reply=COLUMN (an exchange per row). Or write rows of the native format: {NATIVE_ROW}"
    )


def _how_to_take_out(row: dict[str, Any]) -> str:
    """What to do first with a file that is one object around its rows; "" if there is no list in it."""
    lists = [(len(value), path, value[0]) for path, value in _lists_in(row)]
    if not lists:
        return ""
    _, path, entry = max(lists, key=itemgetter(0))
    if next(_lists_in(entry), None) or entry.keys() & {*SESSIONS}:  # chats, or messages that name theirs
        return f"; if its rows are in {path}, take them out (jq -c '{path}[]' FILE > rows.jsonl) and read these"
    taken = f"jq -c '{path}[] + {{chat: \"1\"}}' FILE > rows.jsonl"
    return f"; if it is one chat with its messages in {path}, take them out ({taken}) and map these: conversation=chat"


def _lists_in(row: dict[str, Any], path: str = "", depth: int = 3) -> Iterator[tuple[str, list[Any]]]:
    """The lists of objects in an object, with their paths as jq has them."""
    for name, value in row.items():
        inner = f"{path}.{name}" if name.isidentifier() else f"{path or '.'}[{json.dumps(name)}]"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield inner, value
        elif isinstance(value, dict) and depth > 1:
            yield from _lists_in(value, inner, depth - 1)


def _keys_of(row: dict[str, Any]) -> str:
    """The keys of a row, and those of the entries of its first list."""
    keys = _listed(row)
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return f"{keys}; {short_form(name)} holds {_listed(value[0])}"
        if is_python_list(value):
            return f"{keys}; {short_form(name)} is {PYTHON_LIST}"
    return keys


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(key if len(key) <= 60 else f"{key[:60]}..." for key in list(keys)[:8]) or "none"


def _characters(row: LogRow | Reject) -> int:
    """The number of characters of all texts in a row."""
    count = 0
    left: list[Any] = [row.value] if isinstance(row, LogRow) else []
    while left:
        inner = left.pop()
        for value in inner.values() if isinstance(inner, dict) else inner:
            if isinstance(value, str):
                count += len(value)
            elif isinstance(value, dict | list):
                left.append(value)
    return count


def _counted(rows: Iterable[LogRow | Reject], reading: Reading) -> Iterator[LogRow | Reject]:
    for row in rows:
        reading.rows += 1
        yield row


def _with_roles(rows: Iterable[LogRow | Reject], roles: RoleWords, reading: Reading) -> Iterator[LogRow | Reject]:
    """The rows with the roles that their words stand for. Messages to skip are counted with what is unread."""

    def skipped(word: str) -> None:
        reading.unread.add(f"messages.role={word.lower()}")

    for row in rows:
        if isinstance(row, Reject) or row.is_deep:
            yield row
        else:
            yield row._replace(value=roles.renamed(row.value, skipped))


def _shallow(row: LogRow | Reject) -> LogRow | Reject:
    is_deep = isinstance(row, LogRow) and row.is_deep
    return Reject(row.at, Reason.NESTED_TOO_DEEP, TOO_DEEP) if is_deep else row


def _joiner(form: str | Table | None, reader: Format, spill: Path | None) -> Joiner:
    if isinstance(form, Table):
        return TableJoiner(spill)
    if reader.group_of:
        return Gatherer(reader.group_of, reader.id_of, reader.read, spill)
    return Threads(reader.joined, spill) if reader.joined else Stitcher(spill)


def _joined(outcomes: Iterable[Any], joiner: Any, judgements: Judgements, file: str) -> Iterator[Reject]:
    """Give calls, judgements or rows to the joiner, which yields them after the last file; yield only rejects."""
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            yield outcome
        elif isinstance(joiner, Threads) and isinstance(outcome, Evidence):
            judgements.add(outcome, file)
        else:
            joiner.add(outcome, file)


def _judged(
    outcomes: Iterable[ConversationDraft | Evidence | Reject], judgements: Judgements, file: str = ""
) -> Iterator[ConversationDraft | Reject]:
    """Keep judgements for the chats that follow; yield chats with the judgements about them, and rejects."""
    for outcome in outcomes:
        if isinstance(outcome, Evidence):
            judgements.add(outcome, file)
        else:
            yield judgements.rated(outcome) if isinstance(outcome, ConversationDraft) else outcome


def stitched(
    stitcher: Stitcher, source: str, user_key: Callable[[str], str], reading: Reading
) -> Iterator[Conversation | Reject]:
    """Yield what became of the single calls that a Stitcher has got; `reading.rows` are those of the calls."""
    joined = stitcher.finish()
    reading.merged += joined.merged
    reading.merged_rows += joined.merged_rows
    yield from _finished(joined.outcomes, source, user_key, reading)
    reading.check()


def _finished(
    outcomes: Iterable[ConversationDraft | Evidence | Reject],
    source: str,
    user_key: Callable[[str], str],
    reading: Reading,
    file: str = "",
) -> Iterator[Conversation | Reject]:
    """Turn drafts into conversations, and count the rows that each outcome accounts for."""
    for outcome in outcomes:
        reading.accounted += outcome.rows
        if isinstance(outcome, Reject):
            yield replace(outcome, file=outcome.file or file)
        elif isinstance(outcome, ConversationDraft):
            if outcome.started_at is not None and seconds_of(outcome.started_at) is None:
                reading.repaired[Repair.TIME_NOT_READ] += 1
            try:
                conversation = finish(outcome, source, user_key)
            except Unusable as error:
                yield Reject(outcome.at, error.reason, error.detail, file=outcome.file or file)
                continue
            plain = without_sources(conversation)
            if plain is not conversation:
                reading.repaired[Repair.SOURCES_REMOVED] += 1
            yield plain
