"""Single model calls that several processes read and stitch become the conversations of one process."""

import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chats import bot, user
from drift.config import IngestionSettings
from drift.engine import Processes, using_engine
from drift.logs.draft import Call, ConversationDraft, Evidence
from drift.logs.files.rows import Place
from drift.logs.ingest import ingest
from drift.logs.ingestion import pieces, stitches
from drift.logs.ingestion.stitches import Bucket
from drift.logs.traces.spool import Spool
from drift.logs.traces.stitching import Stitcher
from drift.logs.traces.ties import beginnings, components, scale_of, ties_of
from drift.progress import listening
from drift.records import Message, Reason, Role
from drift.store import Store
from ingested_in_pieces import InPieces, both

LONG = "word " * 40


class Watched(InPieces):
    """Keeps the pieces that it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.given += pieces
        return super().each(work, pieces)

    def buckets(self) -> list[Bucket]:
        return [piece for piece in self.given if isinstance(piece, Bucket)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 9_000)
    monkeypatch.setattr(pieces, "RANGE_BYTES", 50_000)
    monkeypatch.setattr(stitches, "_OPEN_FILES", 2)


def generation(name: str, trace: str, given: list[Any], answer: str, at: int = 0, **who: str) -> dict[str, Any]:
    started = f"2024-05-01T10:{at:02}:00.000Z"
    call = {"id": name, "type": "GENERATION", "traceId": trace, "startTime": started, "input": given}
    return {**call, "output": bot(answer), **who}


def chat(name: str, turns: int = 3, **who: str) -> list[dict[str, Any]]:
    """The calls of a chat, each with the history before it."""
    said: list[Any] = []
    calls = []
    for turn in range(turns):
        said = [*said, user(f"{name} asks {turn} {LONG}")]
        answer = f"{name} hears {turn}"
        calls.append(generation(f"{name}-{turn}", f"t-{name}-{turn}", said, answer, turn, **who))
        said = [*said, bot(answer)]
    return calls


def span(name: str, trace: str, text: str) -> dict[str, Any]:
    row = generation(name, trace, [], "")
    return {**row, "type": "SPAN", "input": f"{text} {LONG}", "output": f"about {text}"}


def score(name: str, value: float, **about: str) -> dict[str, Any]:
    return {"name": name, "value": value, "dataType": "NUMERIC", "source": "API", **about}


def response(name: str, said: str, after: str | None) -> dict[str, Any]:
    answer = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": said}]}
    row = {"id": name, "object": "response", "created_at": 1.7e9, "model": "gpt-x", "output": [answer]}
    return {**row, "previous_response_id": after, "input": f"{said}? {LONG}"}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else orjson.dumps(row) for row in rows))
    return path


def ingested(tmp_path: Path, logs: Sequence[Path], **options: Any) -> tuple[Store, list[Bucket], list[str]]:
    """The store of one process, which that of pieces equals, with the buckets of the pieces and what they said."""
    engine, notes = Watched(), list[str]()
    with listening(lambda *_: None, notes.append):
        store, _ = both(tmp_path, logs, engine=engine, **options)
    return store, engine.buckets(), notes


def test_everything_at_once(tmp_path: Path):
    """Sessions, users and traces over files and sections, spans around calls, judgements in another file, broken lines,
    a second format of single calls, and chats of a row each beside them."""
    sessions = [call for n in range(6) for call in chat(f"s{n}", sessionId=f"session {n}")]
    users = [call for n in range(6) for call in chat(f"u{n}", userId=f"user {n % 2}")]
    again = generation("again", "t-again", users[0]["input"], "another answer", 9, userId="user 0")
    rows: list[Any] = [*sessions[::2], b"{broken", *users, b"", again, b'{"type": "GENERATION", "traceId": "x"}']
    first = write(tmp_path / "1.jsonl", [*rows, span("around", "t-s0-0", "not needed"), span("alone", "t-alone", "me")])
    second = write(tmp_path / "2.jsonl", [*sessions[1::2], b"[1", span("inner", "t-alone", "not me"), b"{"])
    scores = [score("quality", n % 5, observationId=f"u{n}-1") for n in range(6)]
    scores += [score("helpful", n % 2, traceId=f"t-s{n}-2") for n in range(6)]
    scores += [score("helpful", 1, traceId="nowhere"), score("helpful", 0, sessionId="session 3")]
    judged = write(tmp_path / "3.jsonl", scores)
    whole = [{"id": f"c{n}", "messages": [user(f"{n} {LONG}"), bot("yes")]} for n in range(40)]
    chats = write(tmp_path / "4.jsonl", [*whole, b"not JSON"])
    chain = [response(f"r{n}", f"reply {n}", None if n % 5 == 0 else f"r{n - 1}") for n in range(30)]
    chained = [write(tmp_path / f"{5 + n}.jsonl", chain[n::2]) for n in range(2)]
    engine = Watched()
    one, _ = both(tmp_path, [first, second, judged, chats, *chained], engine=engine)
    assert {bucket.form for bucket in engine.buckets() if bucket.number > bucket.dealt} == {
        "langfuse",
        "openai_responses",
    }
    found = {len(c.messages) for c in one.conversations() if c.source == "langfuse"}
    assert found == {2, 6}
    assert sum(c.source == "openai_responses" and len(c.messages) == 10 for c in one.conversations()) == 6
    notes = [(Path(note.file).name, note.line, note.reason) for note in one.quarantined()]
    assert ("1.jsonl", 10, Reason.BROKEN_JSON) in notes
    assert [reason for _, _, reason in notes].count(Reason.ORPHAN_FEEDBACK) == 1


def test_calls_of_nobody_are_dealt_by_their_first_message(tmp_path: Path):
    log = write(tmp_path / "log.jsonl", [call for n in range(12) for call in chat(f"n{n}", 2)])
    store, buckets, notes = ingested(tmp_path, [log])
    assert (store.size(), len(buckets) > 2, notes) == (12, True, [])


def test_chained_responses_of_nobody_are_dealt_chain_by_chain(tmp_path: Path):
    """Also where all chains hold the same short messages, and where a chain begins outside of these logs."""
    rows = [response(f"r{n}", "yes" if n % 4 else f"begin {n}", f"r{n - 1}" if n % 4 else None) for n in range(1, 41)]
    store, buckets, notes = ingested(tmp_path, [write(tmp_path / "log.jsonl", rows)])
    assert (len(buckets) > 2, notes) == (True, [])
    assert sorted(len(c.messages) for c in store.conversations()) == [2, 6] + [8] * 9


def test_calls_that_all_begin_alike_are_stitched_by_one_process_and_a_note_says_so(tmp_path: Path):
    rows = [generation(f"g{n}", f"t{n}", [user("Hello"), bot("Hi"), user(f"{n} {LONG}")], "ok") for n in range(40)]
    store, (bucket,), (note,) = ingested(tmp_path, [write(tmp_path / "log.jsonl", rows)])
    assert (store.size(), bucket.start, bucket.stop) == (40, 0, 40)
    assert note.startswith("langfuse: one process stitches 40 of 40 model calls and judgements, because")


def test_logs_of_one_piece_are_read_by_one_process(tmp_path: Path):
    assert ingested(tmp_path, [write(tmp_path / "log.jsonl", chat("a", sessionId="s"))])[1:] == ([], [])


def test_with_a_source_of_several_formats_one_process_reads_all(tmp_path: Path):
    calls = write(tmp_path / "calls.jsonl", [call for n in range(9) for call in chat(f"s{n}", sessionId=f"s{n}")])
    chats = write(tmp_path / "chats.jsonl", [{"id": "c", "messages": [user("2+2?"), bot("4")]}])
    for name, logs, is_split in (("mixed", [calls, chats], False), ("alone", [calls], True)):
        (tmp_path / name).mkdir()
        assert bool(ingested(tmp_path / name, logs, source="mine")[1]) is is_split


def test_consent_is_asked_of_stitched_calls(tmp_path: Path):
    given = {n: "yes" if n % 3 else "no" for n in range(9)}
    calls = [{**call, "consent": given[n]} for n in given for call in chat(f"s{n}", sessionId=f"{n}")]
    store, buckets, _ = ingested(
        tmp_path,
        [write(tmp_path / "log.jsonl", calls)],
        settings=IngestionSettings(require_consent={"consent": "yes"}, near_duplicates=False),
    )
    assert (store.size(), len(buckets) > 2) == (6, True)


def test_a_call_of_another_session_refuses_for_its_trace(tmp_path: Path):
    """Nothing but the trace ties the two calls to each other."""
    calls = [call for n in range(9) for call in chat(f"s{n}", 2, sessionId=f"{n}", consent="yes")]
    beside = [generation(f"b{n}", f"t-s{n}-0", [user("Safe?")], "no", sessionId=f"b{n}", consent="no") for n in (2, 5)]
    store, buckets, _ = ingested(
        tmp_path,
        [write(tmp_path / "log.jsonl", [*calls, *beside])],
        settings=IngestionSettings(require_consent={"consent": "yes"}, near_duplicates=False),
    )
    assert (store.size(), len(buckets) > 2) == (7, True)


def test_calls_without_names_get_those_of_calls_with_the_same_first_exchanges(tmp_path: Path):
    calls = [call for n in range(9) for call in chat(f"s{n}", sessionId=f"{n}", userId=f"user {n}")]
    rows = [{**call, "sessionId": None, "userId": None} if call["id"][-1] == "2" else call for call in calls]
    random.Random(5).shuffle(rows)
    store, buckets, _ = ingested(tmp_path, [write(tmp_path / "log.jsonl", rows)])
    assert (store.size(), len(buckets) > 2) == (9, True)
    assert {len(chat.messages) for chat in store.conversations()} == {6}


def test_a_command_that_was_killed_while_it_stitched_goes_on(tmp_path: Path):
    log = write(tmp_path / "log.jsonl", [call for n in range(8) for call in chat(f"s{n}", sessionId=f"s{n}")])

    class Killed(Watched):
        def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            done = super().each(work, pieces)
            if isinstance(pieces[0], Bucket):
                yield next(done)
                raise KeyboardInterrupt
            yield from done

    store, expected = Store(tmp_path / "store"), Store(tmp_path / "expected")
    killed, engine = Killed(), Watched()
    with pytest.raises(KeyboardInterrupt), using_engine(killed):
        ingest([log], store)
    assert store.size() == 0
    with using_engine(engine):
        ingest([log], store)
    ingest([log], expected)
    assert len(engine.buckets()) == len(killed.buckets()) - 1  # one was done, and so was the reading
    assert not [piece for piece in engine.given if isinstance(piece, pieces.LogPiece)]
    assert store.content_hash() == expected.content_hash()


@pytest.mark.parametrize("kind", ["zip", "sqlite"])
def test_a_log_that_changed_after_the_command_was_killed_is_read_again(tmp_path: Path, kind: str):
    """Also members of an archive, whose sizes may be the same, and a database, which has no size."""

    class Killed(InPieces):
        def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            yield from super().each(work, pieces)
            raise KeyboardInterrupt

    def log(reply: str, at: int) -> Path | str:
        rows = [{"id": "one", "messages": [user("Hello?"), bot(reply)]}]
        if kind == "zip":
            with ZipFile(tmp_path / "logs.zip", "w") as archive:
                archive.writestr("chats.jsonl", orjson.dumps(rows[0]))
            os.utime(tmp_path / "logs.zip", (at, at))
            return tmp_path / "logs.zip"
        with closing(sqlite3.connect(tmp_path / "logs.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS chats (id, messages)")
            database.execute("DELETE FROM chats")
            database.execute("INSERT INTO chats VALUES (?, ?)", ("one", orjson.dumps(rows[0]["messages"]).decode()))
        return f"sqlite:///{tmp_path / 'logs.db'}?table=chats"

    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt), using_engine(Killed()):
        ingest([log("before", 1)], store)
    with using_engine(InPieces()):
        ingest([log("behind", 2)], store)
    assert [chat.messages[-1].content for chat in store.conversations()] == ["behind"]


@pytest.mark.slow
def test_several_processes(tmp_path: Path):
    log = write(tmp_path / "log.jsonl", [call for n in range(12) for call in chat(f"s{n}", sessionId=f"s{n}")])
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    ingest([log], one)
    with closing(Processes(2)) as engine, using_engine(engine):
        ingest([log], two)
    assert one.content_hash() == two.content_hash()


def name_of(draw: random.Random, share: float, names: Sequence[str]) -> str | None:
    return draw.choice(names) if draw.random() < share else None


def any_item(draw: random.Random, number: int, named: float) -> ConversationDraft | Evidence:
    """A call or a judgement out of few words and names, so that many of them have something in common."""
    at, ids = Place(number + 1), ["i1", "i2", "i3", "i4", f"i{number}", f"i{number + 90}"]
    if draw.random() < 0.2:
        about = tuple(draw.sample(ids, draw.randint(0, 2)))
        value, scale = draw.choice([0.0, 0.5, 1.0, 5.0, -1.0]), draw.choice([None, "quality", "stars"])
        return Evidence(at, about, "score", value, scale, stars=scale == "stars", when=float(draw.randint(0, 2)))
    messages = [Message("system", draw.choice(["Be kind.", "Write a title"]))] if draw.random() < 0.3 else []
    for turn in range(draw.randint(0, 5)):
        turns: list[Role] = ["user", "assistant"]
        others: list[Role] = ["user", "assistant", "tool", "system"]
        role = draw.choice(others) if draw.random() < 0.1 else turns[turn % 2]
        text = draw.choice(["a", "b", "c", ""]) if draw.random() < 0.8 else f"d{draw.randint(0, 9)}"
        messages.append(Message(role, text, is_cut=role == "assistant" and draw.random() < 0.1))
    call = Call(
        session=name_of(draw, named, ["s1", "s2", "t1", f"s{number}"]),
        ids=tuple(draw.sample(ids, draw.randint(0, 2))),
        started=float(draw.randint(0 if draw.random() < 0.1 else 1, 9)),
        trace=name_of(draw, named, ["t1", "t2", "s1", f"t{number}"]),
        spare=draw.choice([0, 0, 0, 0, 1, 2]),
        after=name_of(draw, 0.25, ["i1", "i2", f"i{draw.randint(0, number + 1)}"]),
    )
    person = name_of(draw, named, ["u1", "u2", f"u{number}", ""])
    tags = {"consent": draw.choice(["yes", "no"])} if draw.random() < 0.1 else {}
    if call.spare and call.trace and draw.random() < 0.3:  # names for the calls of its trace, and no text
        messages = []
    elif not messages:
        messages = [Message("user", "x")]
    return ConversationDraft(at, tuple(messages), user=person, call=call, tags=tags)


def in_window(draw: random.Random, item: ConversationDraft, above: ConversationDraft) -> ConversationDraft:
    """A call that holds only the last messages of another."""
    call = replace(item.call or Call(), session=above.call and above.call.session)
    said = Message("user", draw.choice(["a", "b"])), Message("assistant", draw.choice(["a", "b"]))
    return replace(item, messages=(*above.messages[-draw.randint(1, 4) :], *said), user=above.user, call=call)


def outcomes_of(spool: Spool, items: dict[int, Any], places: Sequence[int], ranges: Sequence[Any]) -> list[Any]:
    stitcher = Stitcher(None, spool)
    for scale in ranges:
        stitcher.widen(*scale)
    for place in places:
        stitcher.take(items[place], place)
    joined = stitcher.finish()
    found = [(stitcher.order, outcome) for outcome in joined.outcomes]
    return [joined.merged, joined.merged_rows, found]


class Kept(Spool):
    """Stays open when one of several Stitchers is closed."""

    def close(self) -> None:
        pass


def check_any_items(seed: int, buckets: int) -> None:
    draw = random.Random(seed)
    named = draw.choice([0, 0.1, 0.3, 0.5, 0.8])
    spool = Kept(None)
    listed: list[ConversationDraft | Evidence] = []
    for number in range(draw.randint(1, 30)):
        item = any_item(draw, number, named)
        calls = [one for one in listed if isinstance(one, ConversationDraft) and one.messages]
        if isinstance(item, ConversationDraft) and calls and draw.random() < 0.3:
            item = in_window(draw, item, draw.choice(calls))
        listed.append(item)
    items = {spool.write(item, "log"): item for item in listed}
    places = np.array(list(items))
    ties = [ties_of(item) for item in items.values()]
    asks, has, after, if_first = (
        np.array([(n, name) for n, names in enumerate(kind) for name in names], np.int64).reshape(-1, 2)
        for kind in (
            [tie.asks for tie in ties],
            [tie.has for tie in ties],
            [[tie.after] if tie.after is not None else [] for tie in ties],
            [[tie.if_first] if tie.if_first is not None else [] for tie in ties],
        )
    )
    bucket = components(len(items), [asks, beginnings(after, if_first, [has])], [has]) & (buckets - 1)
    judged = [item for item in listed if isinstance(item, Evidence) and item.scale]
    ranges = [(scale_of(one.scale or ""), one.value, one.value, one.stars) for one in judged]
    expected = outcomes_of(spool, items, places.tolist(), [])
    parts = [outcomes_of(spool, items, places[bucket == n].tolist(), ranges) for n in np.unique(bucket)]
    assert [sum(part[0] for part in parts), sum(part[1] for part in parts)] == expected[:2]
    assert sorted((row for part in parts for row in part[2]), key=lambda row: row[0]) == expected[2]


@given(seed=st.integers(0, 10**9), buckets=st.sampled_from([2, 4, 8]))
@settings(max_examples=5, deadline=None)
def test_any_calls_in_any_buckets(seed: int, buckets: int):
    check_any_items(seed, buckets)


@pytest.mark.slow
@given(seed=st.integers(0, 10**9), buckets=st.sampled_from([2, 4, 8]))
@settings(max_examples=300, deadline=None)
def test_very_many_calls_in_any_buckets(seed: int, buckets: int):
    check_any_items(seed, buckets)
