"""Stitch single model calls to conversations. Each call holds the history before it.

A call is part of a later call that begins with the same messages. A call that no other continues becomes a
conversation, so that no reaction is lost where a history branches. Calls of one session without history, under the same
system message, are one conversation in the order of time. Calls are compared within their session, else within their
user, else over all logs, by a hash of what user and assistant have said up to each message. System messages, tool calls
without a text and tool results are not compared: the first often hold the date, the others may be missing in the next
call.

A record around model calls (`Call.spare`) is used only if its trace has no model call in the logs. Else the calls of
its trace have the session and the user from there that they leave out (`_give_names`): tools often write them once, on
the root. A call that still has no session gets the names of the calls with the same first two exchanges, if these name
no more than one session and one user. A conversation has what all calls in it, and their traces, say about a consent: a
refusal anywhere is one.

A call that leaves out its history (`Call.after`) gets it from the calls before it; all waits until these are known. One
that holds only the last messages of its session is joined to the call that said them (see chains.py).

The texts wait in an unnamed file; DuckDB holds only numbers and spills to disk beyond its memory limit.
"""

import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from drift.disk import open_tables
from drift.logs.draft import Call, ConversationDraft, Evidence, numbered, tags_of_all, time_of
from drift.logs.files.rows import Place, Reject, short_form
from drift.logs.traces.chains import (
    Chains,
    HashedReply,
    Said,
    WindowCall,
    compared,
    hashed,
    part_of,
    parts_of,
    root_of,
    say,
)
from drift.logs.traces.queries import (
    CONSENTS,
    CONVERSATIONS,
    LINKS,
    MEMBERS,
    OPENINGS,
    SPARES,
    STITCH,
    TABLES,
    TRACES,
    WINDOWS,
)
from drift.logs.traces.spool import Spool, Texts
from drift.logs.traces.ties import opening_of, scale_of
from drift.records import Rating, Reason, is_moment

MEMORY_LIMIT = "200MB"
_CALLS_PER_BATCH = 20_000
_MAX_CACHED_CHARACTERS = 20_000  # longer system messages are hashed each time, not cached

_DATES = re.compile(
    r"\d+|\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july|august"
    r"|september|october|november|december|am|pm)\b",
    re.IGNORECASE,
)

Order = tuple[int, int]
"""First the conversations, then the judgements, then the spare records; each by the place in the texts."""


@dataclass(frozen=True, slots=True)
class Stitched:
    """Conversations, and rows that are not. `merged`: calls that are part of longer ones; `merged_rows`: their rows."""

    outcomes: Iterator[ConversationDraft | Reject]
    merged: int
    merged_rows: int


class Stitcher:
    """Takes the calls and judgements of one format, in any order and from any number of files, and stitches them.

    `order`: of the outcome that was yielded last among all outcomes, also those of a Stitcher that takes other places
    of the same texts.
    """

    def __init__(self, folder: Path | None = None, texts: Texts | None = None) -> None:
        """`folder`: for spilled data; by default the system's folder for temporary files. `texts`: where the items
        stand already; then `take` them, do not `add` them."""
        self.order: Order = (0, 0)
        self._spill = tempfile.TemporaryDirectory(prefix="drift-stitch-", dir=folder)
        self._spool = Spool(folder)
        self._texts: Texts = self._spool if texts is None else texts
        self._tables = open_tables(MEMORY_LIMIT, self._spill.name)
        for name, columns in TABLES.items():
            self._tables.execute(f"CREATE TABLE {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
        self._waiting: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
        self._count = itertools.count()

    def close(self) -> None:
        """Delete the temporary files."""
        self._tables.close()
        self._spool.close()
        self._texts.close()
        self._spill.cleanup()

    def add(self, item: ConversationDraft | Evidence, file: str) -> None:
        """Add a call (as a draft) or a judgement of the log `file`."""
        self.take(item, self._spool.write(item, file))

    def take(self, item: ConversationDraft | Evidence, place: int) -> None:
        """Add what stands in the texts, at a higher place than all before it."""
        number = next(self._count)
        if isinstance(item, Evidence):
            scale = 0 if item.scale is None else scale_of(item.scale)
            for rank, name in enumerate(item.about or ("",)):
                judged = scale, item.stars, item.value, item.when, place
                self._insert("evidence", (number, rank, hashed(0, name), *judged))
            return
        call = item.call or Call()
        for name in call.ids:
            self._insert("ids", (number, hashed(0, name)))
        for name, value in item.tags.items():
            trace = hashed(0, call.trace) if call.trace else 0
            is_around = bool(call.spare and call.trace)
            said = hashed(0, name), 0 if is_moment(value) else hashed(0, value)
            self._insert("tags", (number, trace, is_around, *said, place))
        if call.spare and call.trace:
            names = hashed(0, call.trace), hashed(0, "session", call.trace)
            has = bool(item.messages), bool(call.session), item.user is not None
            said = hashed(0, call.session or ""), hashed(0, item.user or "")
            self._insert("spares", (number, *names, call.spare, call.started, place, *has, *said))
            return
        if call.after:
            roots = root_of(None, call.session) if call.session else 0, root_of(item.user, None) if item.user else 0
            self._insert("chained", (number, place, hashed(0, call.after), *roots))
            return
        self._add_call(number, item, place)

    def _add_call(self, number: int, draft: ConversationDraft, place: int) -> None:
        if (opening := opening_of(draft.messages)) is not None:
            self._insert("openings", (number, opening))
        said = say(Said.nothing(root_of(draft.user, draft.call and draft.call.session)), enumerate(draft.messages))
        self._insert_call(number, draft, place, said, said.replies())

    def _insert_call(
        self, number: int, draft: ConversationDraft, place: int, said: Said, replies: Sequence[HashedReply]
    ) -> None:
        """Insert the hashes of a call: one per message, each over everything before it (see the module docstring)."""
        call, root = draft.call or Call(), said.root
        for waiting in said.passed:
            self._insert("passed", (number, waiting))
        tip, session = said.node if said.node != root else said.named, root if call.session else 0
        within = hashed(0, call.trace) if call.trace else 0
        trace = within if call.trace != call.session else 0
        last = said.last if said.answered else None
        request, messages = (last.request, said.users + said.answers) if last else (tip, 0)
        reply = compared(draft.messages[-1])
        turn = hashed(root, str(trace), said.asked, reply) if trace and said.users and last else 0
        system = _task(tuple([message.content for message in draft.messages if message.role == "system"]))
        row = (number, tip, said.named, said.answered, call.started, place, draft.rows, session, system, trace, within)
        author = hashed(0, draft.user) if draft.user is not None else 0
        self._insert("calls", (*row, request, turn, messages, said.spoken, author, draft.model is not None, 0))
        for reply in replies:
            # Many chats begin with the same words: without a session, only a reply after a history shows the same chat.
            known = bool(call.session) or (bool(draft.user) and reply.parent != root)
            hashes = reply.node, reply.named, reply.request, reply.parent
            is_last = reply.node == tip
            flags = is_last, is_last and said.answered, known
            self._insert("nodes", (number, reply.position, *hashes, *flags, call.started, reply.is_cut))

    def widen(self, scale: int, low: float, high: float, stars: bool) -> None:
        """Take the range of a score (its hash) from judgements that this Stitcher does not get."""
        self._insert("elsewhere", (scale, low, high, stars))

    def finish(self) -> Stitched:
        """Stitch everything that was added."""
        for name in TABLES:
            self._flush(name)
        self._give_names()
        self._add_chained()
        self._add_spares()
        self._tables.execute(STITCH)
        self._join_windows()
        count = "SELECT count(*), coalesce(sum(row_count), 0)::BIGINT FROM calls ANTI JOIN kept USING (call)"
        merged, rows = self._tables.execute(count).fetchone() or (0, 0)
        (joins,) = self._tables.execute("SELECT count(*) - count(DISTINCT leader) FROM bare_calls").fetchone() or (0,)
        return Stitched(
            itertools.chain(self._conversations(), self._judgements(), self._unused()), merged + joins, rows
        )

    def _give_names(self) -> None:
        """Give the calls the names that they leave out and that the records around them have, or calls with the same
        opening; and hash them anew."""
        self._tables.execute(TRACES)
        self._add_again("SELECT * FROM names ORDER BY place")
        self._tables.execute(OPENINGS)
        self._add_again("SELECT * FROM adopted ORDER BY place")

    def _add_again(self, query: str) -> None:
        """Add the drafts at the places of the rows, with the names that the rows have places of."""
        for row in self._rows(query):
            draft, _ = self._texts.draft(row["place"])
            self._add_call(row["call"], self._named(draft, row), row["place"])
        for name in TABLES:
            self._flush(name)

    def _add_chained(self) -> None:
        """Add the calls that leave out their history, each after the call before it."""
        links = self._tables.sql(LINKS).to_arrow_table()
        self._chains = Chains(self._texts, {name: links[name].to_numpy() for name in links.column_names})
        for call in self._chains.walk():
            self._insert_call(*call)
        for name in TABLES:
            self._flush(name)

    def _add_spares(self) -> None:
        """Add the records around calls that stand for their trace, because it has no call."""
        self._tables.execute(SPARES)
        self._add_again("""
            SELECT call, spares.place, names.session, names.user
            FROM spares JOIN needed USING (call) LEFT JOIN names USING (call) ORDER BY spares.place""")

    def _join_windows(self) -> None:
        """Join the calls of a session that hold only its last messages to the calls before them."""
        for _, rows in itertools.groupby(self._rows(WINDOWS), key=itemgetter("session")):
            calls = (WindowCall(*map(row.__getitem__, WindowCall._fields)) for row in rows)
            for part in parts_of(calls, lambda place: self._draft_at(place)[0]):
                self._insert("parts", part)
        self._flush("parts")
        self._tables.execute(MEMBERS)
        self._tables.execute(CONSENTS)

    def _draft_at(self, place: int) -> tuple[ConversationDraft, str]:
        """The call at a place, with its history, and its log."""
        return (self._chains if place in self._chains else self._texts).draft(place)

    def _unused(self) -> Iterator[Reject]:
        for row in self._rows("SELECT place FROM spares ANTI JOIN needed USING (call) ORDER BY place"):
            draft, file = self._texts.draft(row["place"])
            self.order = (2, row["place"])
            yield Reject(draft.at, Reason.NOT_A_CHAT, "a record around a model call", rows=draft.rows, file=file)

    def _conversations(self) -> Iterator[ConversationDraft]:
        for together, rows in itertools.groupby(self._rows(CONVERSATIONS), key=itemgetter("together")):
            parts = list(rows)
            first, *others = drafts = list(self._drafts(parts))
            self.order = (0, together)
            branch = max((place for place, part in enumerate(parts) if part["is_branch"]), default=0)
            yield replace(join_calls(first, others), source_id=drafts[branch].source_id) if others else first

    def _drafts(self, rows: Iterable[dict[str, Any]]) -> Iterator[ConversationDraft]:
        for row in rows:
            draft, file = self._draft_at(row["place"])
            draft, start, until = self._consenting(self._named(draft, row), row["tags"]), row["start"], row["until"]
            regenerated = set(row["regenerated"] or ()) - {None if until is None else until - 1}
            ratings = [Rating(position, "regeneration", -1.0) for position in sorted(regenerated)]
            ratings += [self._rating(judged) for judged in row["judged"] or ()]
            cut = set(row["cut"] or ())
            session = draft.call.session if draft.call else None
            identity, root = (f"{row[name] & (2**64 - 1):016x}" for name in ("identity", "root"))
            draft = replace(
                draft,
                source_id=f"{session}/{identity}" if session else identity,
                family=session or (root if draft.user else None),
                root=root,
                started_at=time_of(row["started"]) if row["started"] else draft.started_at,
                ratings=(*draft.ratings, *tuple(dict.fromkeys(reversed(ratings)))[::-1]),  # of equal ones the last
                messages=tuple(replace(m, is_cut=True) if i in cut else m for i, m in enumerate(draft.messages))
                if cut
                else draft.messages,
                call=None,
                file=file,
            )
            yield part_of(draft, start, until) if start or until else draft

    def _named(self, draft: ConversationDraft, row: Mapping[str, Any]) -> ConversationDraft:
        """The draft with the names of other records whose places the row has."""
        names = ("session", "user", "model")
        named = {name: self._texts.load(row[name])[0] for name in names if row.get(name) is not None}
        if not named:
            return draft
        fields: dict[str, Any] = {name: named[name][name] for name in ("user", "model") if name in named}
        if "session" in named:
            fields["call"] = replace(draft.call or Call(), session=named["session"]["call"]["session"])
        return replace(draft, **fields)

    def _consenting(self, draft: ConversationDraft, others: Sequence[Mapping[str, Any]] | None) -> ConversationDraft:
        """The draft with what other records say about the same consents. `others`: their places, and of which names."""
        said = ((other["names"], self._texts.load(other["place"])[0]["tags"]) for other in others or ())
        named = [{name: tag for name, tag in tags.items() if hashed(0, name) in names} for names, tags in said]
        return replace(draft, tags=tags_of_all((draft.tags, *named))) if named else draft

    def _judgements(self) -> Iterator[Reject]:
        """Yield what became of each judgement: each is one row."""
        for row in self._rows("SELECT place, node, low, high, is_clear FROM judged ORDER BY place"):
            evidence, file = self._texts.load(row["place"])
            at = Place(*evidence["at"])
            if row["node"] is None:
                about = ", ".join(map(short_form, evidence["about"][:5]))
                detail = f"feedback about {about}: no such reply in these logs; ingest both together"
                reason = Reason.ORPHAN_FEEDBACK
            elif not row["is_clear"]:
                detail = f"the score ranges from {row['low']:g} to {row['high']:g}: unknown whether high or low is good"
                reason = Reason.NO_VERDICT
            else:
                reason, detail = Reason.JOINED_AS_EVIDENCE, ""
            self.order = (1, row["place"])
            yield Reject(at, reason, detail, rows=evidence["rows"], file=file)

    def _rating(self, judged: dict[str, Any]) -> Rating:
        evidence, _ = self._texts.load(judged["place"])
        value, is_share = evidence["value"], evidence["scale"] is not None and judged["low"] >= 0
        value = value * 2 - 1 if is_share else value  # a score from 0 to 1, on the scale from -1 to 1
        return Rating(judged["position"], evidence["kind"], value, evidence["comment"], evidence["preferred"])

    def _insert(self, table: str, row: Sequence[Any]) -> None:
        waiting = self._waiting[table]
        waiting.append(tuple(row))
        if len(waiting) >= _CALLS_PER_BATCH:
            self._flush(table)

    def _flush(self, table: str) -> None:
        rows, self._waiting[table] = self._waiting[table], []
        if rows:
            columns = {name: [row[index] for row in rows] for index, name in enumerate(TABLES[table])}
            batch = pa.table(columns)  # noqa: F841 (DuckDB reads it by name)
            self._tables.execute(f"INSERT INTO {table} SELECT * FROM batch")

    def _rows(self, query: str) -> Iterator[dict[str, Any]]:
        """Stream the rows of a query; one query at a time."""
        for batch in self._tables.cursor().sql(query).to_arrow_reader(1024):
            yield from batch.to_pylist()


def join_calls(first: ConversationDraft, others: Sequence[ConversationDraft]) -> ConversationDraft:
    """One conversation from calls without history. It keeps the identity of the first call."""
    messages, ratings = list(first.messages), list(first.ratings)
    for draft in others:
        spoken = [index for index, message in enumerate(draft.messages) if message.role != "system"]
        ratings += [replace(r, reply_index=len(messages) + spoken.index(r.reply_index)) for r in draft.ratings]
        messages += [draft.messages[index] for index in spoken]
    rows = sum(draft.rows for draft in (first, *others))
    tags = tags_of_all(draft.tags for draft in (first, *others))
    return replace(first, messages=numbered(messages), ratings=tuple(ratings), rows=rows, tags=tags)


def _task(system: tuple[str, ...]) -> int:
    """The task of a call, as a hash of its system messages without dates and other numbers."""
    return _short_task(system) if sum(map(len, system)) < _MAX_CACHED_CHARACTERS else _short_task.__wrapped__(system)


@lru_cache(64)
def _short_task(system: tuple[str, ...]) -> int:
    return hashed(0, *(_DATES.sub("0", text) for text in system))
