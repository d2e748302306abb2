"""Stitch single model calls to conversations. Each call holds the history before it.

A call is part of a later call that begins with the same messages. A call that no other continues becomes a
conversation, so that no reaction is lost where a history branches. Calls of one session without history, under the same
system message, are one conversation in the order of time. Calls are compared within their session, else within their
user, else over all logs, by a hash of what user and assistant have said up to each message. System messages, tool calls
without a text and tool results are not compared: the first often hold the date, the others may be missing in the next
call.

A record around model calls (`Call.spare`) is used only if its trace has no model call in the logs. A call that leaves
out its history (`Call.after`) gets it from the calls before it; all waits until these are known (see chains.py).

The texts wait in an unnamed file; DuckDB holds only numbers and spills to disk beyond its memory limit.
"""

import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from drift.disk import open_tables
from drift.logs.draft import Call, ConversationDraft, Evidence, numbered, time_of
from drift.logs.files.rows import Place, Reject, short_form
from drift.logs.traces.chains import Chains, HashedReply, Said, hashed, root_of, say
from drift.logs.traces.spool import Spool
from drift.records import Rating, Reason

MEMORY_LIMIT = "200MB"
_CALLS_PER_BATCH = 20_000
_MAX_CACHED_CHARACTERS = 20_000  # longer system messages are hashed each time, not cached

_DATES = re.compile(
    r"\d+|\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july|august"
    r"|september|october|november|december|am|pm)\b",
    re.IGNORECASE,
)

# Messages, names and ids are hashes; 0 is none. The hash of a message covers all that is compared before it, too.
# `calls`: `tip` is the last message; `named` the same with the answers of tools, for identities; `answered`: it ends
# with a reply; `place`: in the file of texts; `row_count`: rows of the log; `request`: the message before the last
# reply; `turn`: the last request and reply alone; `messages`: how many are compared; `spoken`: how many are no system
# message.
# `nodes`: the replies of each call, with the message (`request`) and the reply (`parent`) before them; `known`: session
# or user show that equal messages are of one chat; `cut`: the reply did not end by itself. `passed`: requests that the
# user went on from without a reply. `chained`: calls that leave out their history, with the name of the call `above`.
_TABLES = {
    "calls": {
        "call": "BIGINT", "tip": "BIGINT", "named": "BIGINT", "answered": "BOOLEAN", "started": "DOUBLE",
        "place": "BIGINT", "row_count": "BIGINT", "session": "BIGINT", "system": "BIGINT", "trace": "BIGINT",
        "request": "BIGINT", "turn": "BIGINT", "messages": "BIGINT", "spoken": "BIGINT",
        "has_user": "BOOLEAN", "has_model": "BOOLEAN",
    },
    "nodes": {
        "call": "BIGINT", "position": "BIGINT", "node": "BIGINT", "named": "BIGINT", "request": "BIGINT",
        "parent": "BIGINT", "last": "BOOLEAN", "known": "BOOLEAN", "started": "DOUBLE", "cut": "BOOLEAN",
    },
    "passed": {"node": "BIGINT"},
    "spares": {
        "call": "BIGINT", "trace": "BIGINT", "session": "BIGINT", "spare": "INTEGER", "started": "DOUBLE",
        "place": "BIGINT",
    },
    "chained": {"call": "BIGINT", "place": "BIGINT", "above": "BIGINT", "session": "BIGINT", "author": "BIGINT"},
    "ids": {"call": "BIGINT", "id": "BIGINT"},
    "evidence": {
        "evidence": "BIGINT", "rank": "BIGINT", "id": "BIGINT", "scale": "BIGINT", "stars": "BOOLEAN",
        "value": "DOUBLE", "place": "BIGINT",
    },
}  # fmt: skip
_LINKS = """
    SELECT call, place, coalesce(named.above_place, -1) AS above, session, author
    FROM chained LEFT JOIN (
        SELECT id AS above, min(place) AS above_place FROM ids JOIN (
            SELECT call, place FROM calls UNION ALL SELECT call, place FROM chained) USING (call)
        GROUP BY id) AS named USING (above)
    ORDER BY place"""
_SPARES = """
    -- the records around calls that are used: one for each trace without calls. `session`: the trace's name as that of
    -- a session, because `calls` has no trace if both are named alike
    CREATE TABLE needed AS
        SELECT arg_min(call, (spare, started, call)) AS call
        FROM spares ANTI JOIN (SELECT DISTINCT trace FROM calls) USING (trace)
            ANTI JOIN (SELECT DISTINCT session FROM calls) USING (session)
        GROUP BY trace;"""
_STITCH = """
    -- a span around other spans of its trace repeats their last request and reply, without the history
    CREATE TABLE turns AS
        SELECT turn, arg_max(tip, (messages, -call)) AS tip FROM calls WHERE turn <> 0
        GROUP BY turn HAVING min(messages) = 2 AND max(messages) > 2;
    UPDATE calls SET tip = turns.tip FROM turns WHERE calls.turn = turns.turn AND messages = 2;
    -- each reply once, with the first call that gave it
    CREATE TABLE replies AS
        SELECT node, any_value(request) AS request, any_value(parent) AS parent, any_value(known) AS known,
            min(started) AS started, min(call) AS call, coalesce(min(call) FILTER (last), min(call)) AS giver
        FROM nodes GROUP BY node;
    -- rank 1 is the first reply after its parent
    CREATE TABLE ranks AS
        SELECT node, started, row_number() OVER (PARTITION BY parent ORDER BY started, call) AS rank FROM replies;
    -- replies that were asked for again: same request, same system message, but another trace
    CREATE TABLE regenerated AS
        SELECT node FROM (
            SELECT node, known, row_number() OVER asked AS age,
                CASE WHEN trace = 0 THEN 1 ELSE row_number() OVER in_trace END AS age_in_trace
            FROM replies JOIN (SELECT call AS giver, system, trace FROM calls) USING (giver)
            WINDOW asked AS (PARTITION BY request, system ORDER BY replies.started DESC, replies.call DESC),
                in_trace AS (PARTITION BY request, system, trace ORDER BY replies.started DESC, replies.call DESC))
        WHERE known AND age > age_in_trace AND node NOT IN (SELECT parent FROM replies);
    -- replies that did not end by themselves: only the call that gave one says so, not the calls that repeat it
    CREATE TABLE cut_replies AS SELECT DISTINCT node FROM nodes WHERE cut;
    -- messages after which another call goes on
    CREATE TABLE inner_nodes AS
        SELECT DISTINCT node FROM nodes WHERE NOT last UNION SELECT DISTINCT request FROM nodes
        UNION SELECT node FROM passed;
    -- of the calls that none continues, one for each conversation
    CREATE TABLE kept AS
        SELECT arg_min(call, (-spoken, call)) AS call
        FROM calls ANTI JOIN inner_nodes ON calls.tip = inner_nodes.node GROUP BY tip;
    -- tasks of a session whose calls hold one request and one reply each
    CREATE TABLE bare_tasks AS
        SELECT session, system FROM kept JOIN calls USING (call) WHERE session <> 0 GROUP BY session, system
        HAVING count(*) > 1 AND min(messages) = 2 AND max(messages) = 2 AND min(started) > 0;
    -- how many calls a session has under each system message, and whether one of them holds a history
    CREATE TABLE tasks AS
        SELECT session, system, count(*) AS size, max(messages) > 2 AS history
        FROM calls SEMI JOIN bare_tasks USING (session) GROUP BY session, system;
    -- calls beside the chat (naming it, checking each request) have no history either: they share requests or traces
    -- with at least as many calls under another system message, or their session has as many calls with a history
    CREATE TABLE side_tasks AS
        SELECT DISTINCT session, system FROM (
            SELECT session, system, coalesce(max(size) FILTER (history) OVER of_session, 0) >= size
                OR max(size) OVER asked > size OR min(system) OVER asked_alike <> max(system) OVER asked_alike
                OR trace <> 0 AND (
                    max(size) OVER in_trace > size OR min(system) OVER trace_alike <> max(system) OVER trace_alike
                ) AS is_side_task
            FROM calls JOIN tasks USING (session, system)
            WINDOW of_session AS (PARTITION BY session), asked AS (PARTITION BY session, request),
                asked_alike AS (PARTITION BY session, request, size), in_trace AS (PARTITION BY session, trace),
                trace_alike AS (PARTITION BY session, trace, size))
        WHERE is_side_task;
    -- the other calls with one request and one reply each: the application keeps the history elsewhere
    CREATE TABLE bare_calls AS
        SELECT call, min(place) OVER (PARTITION BY session, system) AS leader, started FROM (
            SELECT *, row_number() OVER (PARTITION BY session, system, request, trace ORDER BY started, call) AS sample
            FROM kept JOIN calls USING (call)
                SEMI JOIN bare_tasks USING (session, system) ANTI JOIN side_tasks USING (session, system)
            WHERE tip NOT IN (SELECT node FROM regenerated))
        WHERE sample = 1 OR trace = 0;
    -- the calls of a session that name its user and its model, for those that do not
    CREATE TABLE session_names AS
        SELECT session, arg_min(place, (started, call)) FILTER (has_user) AS user,
            arg_max(place, (started, call)) FILTER (has_model) AS model
        FROM calls WHERE session <> 0 GROUP BY session HAVING NOT (bool_and(has_user) AND bool_and(has_model));
    -- the range of each score; whether it shows which values are good
    CREATE TABLE scales AS
        SELECT scale, min(value) AS low, max(value) AS high,
            min(value) >= -1 AND max(value) <= 1 AND NOT (bool_or(stars) AND min(value) = 1) AS is_clear
        FROM evidence WHERE scale <> 0 GROUP BY scale;
    -- the reply that a judgement is about: that of the most exact id
    CREATE TABLE targets AS
        SELECT evidence, arg_min(tip, (rank, -started, -call)) AS node
        FROM evidence JOIN ids USING (id) JOIN calls USING (call) WHERE answered GROUP BY evidence;
    -- every judgement, with its reply (or none) and its scale
    CREATE TABLE judged AS
        SELECT DISTINCT evidence, place, value, node, coalesce(low, -1) AS low, coalesce(high, 1) AS high,
            coalesce(is_clear, true) AS is_clear
        FROM evidence LEFT JOIN scales USING (scale) LEFT JOIN targets USING (evidence);"""
_CONVERSATIONS = """
    SELECT calls.place AS place, coalesce(any_value(bare_calls.leader), calls.place) AS together,
        coalesce(arg_max(nodes.named, position) FILTER (rank > 1 OR first), any_value(calls.named)) AS identity,
        coalesce(arg_min(nodes.named, position), any_value(calls.named)) AS root,
        min(ranks.started) AS started,
        list(DISTINCT position) FILTER (regenerated.node IS NOT NULL) AS regenerated,
        list(DISTINCT position) FILTER (cut_replies.node IS NOT NULL) AS cut,
        list({position: position, place: judged.place, low: low, high: high} ORDER BY position, judged.place)
            FILTER (judged.place IS NOT NULL) AS judged,
        any_value(session_names.user) FILTER (NOT has_user) AS user,
        any_value(session_names.model) FILTER (NOT has_model) AS model
    FROM kept JOIN calls USING (call) LEFT JOIN session_names USING (session)
        LEFT JOIN (
            SELECT *, position = min(position) OVER (PARTITION BY call) AS first FROM nodes SEMI JOIN kept USING (call)
        ) AS nodes USING (call)
        LEFT JOIN ranks ON nodes.node = ranks.node
        LEFT JOIN regenerated ON nodes.node = regenerated.node
        LEFT JOIN cut_replies ON nodes.node = cut_replies.node
        LEFT JOIN judged ON judged.node = nodes.node AND is_clear
        LEFT JOIN bare_calls ON bare_calls.call = calls.call
    GROUP BY calls.call, calls.place ORDER BY together, any_value(bare_calls.started), calls.place"""


@dataclass(frozen=True, slots=True)
class Stitched:
    """Conversations, and rows that are not. `merged`: calls that are part of longer ones; `merged_rows`: their rows."""

    outcomes: Iterator[ConversationDraft | Reject]
    merged: int
    merged_rows: int


class Stitcher:
    """Takes the calls and judgements of one format, in any order and from any number of files, and stitches them."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: for spilled data; by default the system's folder for temporary files."""
        self._spill = tempfile.TemporaryDirectory(prefix="drift-stitch-", dir=folder)
        self._texts = Spool(folder)
        self._tables = open_tables(MEMORY_LIMIT, self._spill.name)
        for name, columns in _TABLES.items():
            self._tables.execute(f"CREATE TABLE {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
        self._waiting: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _TABLES}
        self._count = itertools.count()

    def close(self) -> None:
        """Delete the temporary files."""
        self._tables.close()
        self._texts.close()
        self._spill.cleanup()

    def add(self, item: ConversationDraft | Evidence, file: str) -> None:
        """Add a call (as a draft) or a judgement of the log `file`."""
        number, place = next(self._count), self._texts.write(item, file)
        if isinstance(item, Evidence):
            scale = 0 if item.scale is None else hashed(0, item.scale)
            for rank, name in enumerate(item.about or ("",)):
                self._insert("evidence", (number, rank, hashed(0, name), scale, item.stars, item.value, place))
            return
        call = item.call or Call()
        for name in call.ids:
            self._insert("ids", (number, hashed(0, name)))
        if call.spare and call.trace:
            names = hashed(0, call.trace), hashed(0, "session", call.trace)
            self._insert("spares", (number, *names, call.spare, call.started, place))
            return
        if call.after:
            roots = root_of(None, call.session) if call.session else 0, root_of(item.user, None) if item.user else 0
            self._insert("chained", (number, place, hashed(0, call.after), *roots))
            return
        self._add_call(number, item, place)

    def _add_call(self, number: int, draft: ConversationDraft, place: int) -> None:
        said = say(Said.nothing(root_of(draft.user, draft.call and draft.call.session)), enumerate(draft.messages))
        self._insert_call(number, draft, place, said, said.replies())

    def _insert_call(
        self, number: int, draft: ConversationDraft, place: int, said: Said, replies: Sequence[HashedReply]
    ) -> None:
        """Insert the hashes of a call: one per message, each over everything before it (see the module docstring)."""
        call, root = draft.call or Call(), said.root
        for waiting in said.passed:
            self._insert("passed", (waiting,))
        tip, session = said.node if said.node != root else said.named, root if call.session else 0
        trace = hashed(0, call.trace) if call.trace and call.trace != call.session else 0
        last = said.last if said.answered else None
        request, messages = (last.request, said.users + said.answers) if last else (tip, 0)
        reply = draft.messages[-1].content.strip()
        turn = hashed(root, str(trace), said.asked, reply) if trace and said.users and last else 0
        system = _task(tuple([message.content for message in draft.messages if message.role == "system"]))
        row = (number, tip, said.named, said.answered, call.started, place, draft.rows, session, system, trace)
        has = draft.user is not None, draft.model is not None
        self._insert("calls", (*row, request, turn, messages, said.spoken, *has))
        for reply in replies:
            # Many chats begin with the same words: without a session, only a reply after a history shows the same chat.
            known = bool(call.session) or (bool(draft.user) and reply.parent != root)
            hashes = reply.node, reply.named, reply.request, reply.parent
            row = (number, reply.position, *hashes, reply.node == tip, known, call.started, reply.is_cut)
            self._insert("nodes", row)

    def finish(self) -> Stitched:
        """Stitch everything that was added."""
        for name in _TABLES:
            self._flush(name)
        self._add_chained()
        self._add_spares()
        self._tables.execute(_STITCH)
        count = "SELECT count(*), coalesce(sum(row_count), 0)::BIGINT FROM calls ANTI JOIN kept USING (call)"
        merged, rows = self._tables.execute(count).fetchone() or (0, 0)
        (joins,) = self._tables.execute("SELECT count(*) - count(DISTINCT leader) FROM bare_calls").fetchone() or (0,)
        return Stitched(
            itertools.chain(self._conversations(), self._judgements(), self._unused()), merged + joins, rows
        )

    def _add_chained(self) -> None:
        """Add the calls that leave out their history, each after the call before it."""
        links = self._tables.sql(_LINKS).to_arrow_table()
        self._chains = Chains(self._texts, {name: links[name].to_numpy() for name in links.column_names})
        for call in self._chains.walk():
            self._insert_call(*call)
        for name in _TABLES:
            self._flush(name)

    def _add_spares(self) -> None:
        """Add the records around calls that stand for their trace, because it has no call."""
        self._tables.execute(_SPARES)
        for row in self._rows("SELECT call, place FROM spares JOIN needed USING (call) ORDER BY place"):
            draft, _ = self._texts.draft(row["place"])
            self._add_call(row["call"], draft, row["place"])
        for name in _TABLES:
            self._flush(name)

    def _unused(self) -> Iterator[Reject]:
        for row in self._rows("SELECT place FROM spares ANTI JOIN needed USING (call) ORDER BY place"):
            draft, file = self._texts.draft(row["place"])
            yield Reject(draft.at, Reason.NOT_A_CHAT, "a record around a model call", rows=draft.rows, file=file)

    def _conversations(self) -> Iterator[ConversationDraft]:
        for _, rows in itertools.groupby(self._rows(_CONVERSATIONS), key=itemgetter("together")):
            first, *others = self._drafts(rows)
            yield join_calls(first, others) if others else first

    def _drafts(self, rows: Iterable[dict[str, Any]]) -> Iterator[ConversationDraft]:
        for row in rows:
            draft, file = (self._chains if row["place"] in self._chains else self._texts).draft(row["place"])
            names = {name: self._texts.load(row[name])[0][name] for name in ("user", "model") if row[name] is not None}
            draft = replace(draft, **names) if names else draft
            ratings = [Rating(position, "regeneration", -1.0) for position in sorted(row["regenerated"] or ())]
            ratings += [self._rating(judged) for judged in row["judged"] or ()]
            cut = set(row["cut"] or ())
            session = draft.call.session if draft.call else None
            identity, root = (f"{row[name] & (2**64 - 1):016x}" for name in ("identity", "root"))
            yield replace(
                draft,
                source_id=f"{session}/{identity}" if session else identity,
                family=session or (root if draft.user else None),
                root=root,
                started_at=time_of(row["started"]) if row["started"] else draft.started_at,
                ratings=(*draft.ratings, *dict.fromkeys(ratings)),
                messages=tuple(replace(m, is_cut=True) if i in cut else m for i, m in enumerate(draft.messages))
                if cut
                else draft.messages,
                call=None,
                file=file,
            )

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
            columns = {name: [row[index] for row in rows] for index, name in enumerate(_TABLES[table])}
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
    tags = {name: value for draft in (*others[::-1], first) for name, value in draft.tags.items()}
    return replace(first, messages=numbered(messages), ratings=tuple(ratings), rows=rows, tags=tags)


def _task(system: tuple[str, ...]) -> int:
    """The task of a call, as a hash of its system messages without dates and other numbers."""
    return _short_task(system) if sum(map(len, system)) < _MAX_CACHED_CHARACTERS else _short_task.__wrapped__(system)


@lru_cache(64)
def _short_task(system: tuple[str, ...]) -> int:
    return hashed(0, *(_DATES.sub("0", text) for text in system))
