"""Odd input has a named outcome, every row of a file is accounted for, and a kill at any moment changes nothing."""

import gzip
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from drift.config import IngestionSettings
from drift.logs.files.opening import Repair
from drift.logs.files.rows import MAX_ROW_BYTES
from drift.logs.ingest import IngestSummary, ingest
from drift.logs.readers import READERS
from drift.records import Reason
from drift.store import Store
from drift.store import folder as store_folder

SEEDS = sorted((Path(__file__).parent / "seeds").iterdir())
BEYOND_64_BITS = b'{"id": 98765432109876543270, "messages": [{"role": "user", "content": "q"}]}\n'
QUESTION = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}


def line(**more) -> bytes:
    return orjson.dumps({"messages": [QUESTION, ANSWER], **more}) + b"\n"


def text(content: bytes) -> bytes:
    return b'{"messages": [{"role": "user", "content": "' + content + b'"}]}\n'


def outcome(tmp_path: Path, content: bytes) -> tuple[dict, IngestSummary, list]:
    """What is not zero in the summary, and what is stored."""
    log = tmp_path / "log.jsonl"
    log.write_bytes(content)
    store = Store(tmp_path / "store")
    summary = ingest([log], store)
    assert summary.adds_up
    named = {**summary.quarantined, **summary.filtered_by, **summary.repaired}
    counts = {name: getattr(summary, name) for name in ("accepted", "updated", "duplicate") if getattr(summary, name)}
    return {**counts, **named}, summary, list(store.conversations())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf" + line(), {"accepted": 1}),
        (line().decode().encode("utf-16"), {"accepted": 1, Repair.RECODED_UTF16: 1}),
        (text(b"caf\xe9"), {"accepted": 1, Repair.READ_AS_LATIN1: 1}),
        (text("é".encode() + b"\xff"), {"accepted": 1, Repair.BYTES_REPLACED: 1}),
        (text(b"\\ud83d half"), {"accepted": 1, Repair.LENIENT_JSON: 1}),
        (text(b"x").replace(b"}]", b'}], "licence": "\\ud83d"'), {"accepted": 1, Repair.LENIENT_JSON: 1}),
        (text(b"a raw \t tab"), {"accepted": 1, Repair.LENIENT_JSON: 1}),
        (line(timestamp=-86_400), {"accepted": 1}),
        (line(timestamp=1_700_000_000_000_000_000), {"accepted": 1}),
        (line(timestamp=1e300), {"accepted": 1}),
        (line() + b'{"messages": [], "messages": [1]}', {"accepted": 1, Reason.DUPLICATE_KEYS: 1}),
        (line() + b'{"messages" : [], "messages"\t: [1]}', {"accepted": 1, Reason.DUPLICATE_KEYS: 1}),
        (text(b'a \\"key\\" : a value'), {"accepted": 1}),
        (line(id=7) + line(id=7.0) + line(id="7"), {"accepted": 1, "duplicate": 2}),
        (BEYOND_64_BITS + BEYOND_64_BITS.replace(b"70", b"71"), {"accepted": 1, "duplicate": 1}),
        (gzip.compress(line(id=1) + line(id=2))[:-9], {"accepted": 2, Reason.DAMAGED_STREAM: 1}),
        (line() + b"{" * 200_000, {"accepted": 1, Reason.BROKEN_JSON: 1}),
        (line() + b"\x00\x01\x02\n", {"accepted": 1, Reason.BROKEN_JSON: 1}),
        (line() + b"[1]\n7\n", {"accepted": 1, Reason.NOT_AN_OBJECT: 2}),
    ],
    ids=list("abcdefghijklmnopqrs"),
)
def test_odd_input_has_a_named_outcome(tmp_path, content, expected):
    found, summary, stored = outcome(tmp_path, content)
    assert found == expected
    assert len(stored) == summary.accepted


def test_times_before_1970_and_in_nanoseconds_are_kept(tmp_path):
    _, _, stored = outcome(tmp_path, line(id=1, timestamp=-86_400) + line(id=2, timestamp=1_700_000_000_000_000_000))
    assert {c.source_id: c.started_at for c in stored} == {
        "1": "1969-12-31T00:00:00+00:00",
        "2": "2023-11-14T22:13:20+00:00",
    }


def test_ten_thousand_turns_go_through(tmp_path):
    messages = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(10_000)]
    found, _, (stored,) = outcome(tmp_path, orjson.dumps({"messages": messages}))
    assert found == {"accepted": 1}
    assert len(stored.messages) == 10_000


@pytest.mark.slow
def test_lines_of_a_hundred_megabytes_are_too_large_and_cost_no_memory(tmp_path):
    log = tmp_path / "log.jsonl"
    with log.open("wb") as out:
        for _ in range(3):
            out.write(b'{"messages": [{"role": "user", "content": "')
            for _ in range(100):
                out.write(b"x" * 2**20)
            out.write(b'"}]}\n')
        out.write(line())
    store = Store(tmp_path / "store")
    peak: list[int] = []

    def one() -> None:
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ingest([log], store)
        peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

    one()
    assert peak[0] < 8 * MAX_ROW_BYTES / 1024
    assert [row.reason for row in store.quarantined()] == [Reason.TOO_LARGE] * 3
    assert store.counts().conversations == 1


@pytest.mark.parametrize("name", READERS)
def test_what_broke_a_reader_once_is_read_by_every_format(tmp_path, name):
    assert ingest(SEEDS, Store(tmp_path / "store"), format=name).adds_up


def _log(folder: Path) -> Path:
    """Rows of every kind: kept, grown, doubled and refused; enough of them for several runs of the writer."""
    rows = [line(id=n % 40, more=[n]) for n in range(60)] + [b"{broken\n", b"7\n"]
    rows += [orjson.dumps({"id": n, "messages": [QUESTION, ANSWER] * 2}) + b"\n" for n in range(10)]
    log = folder / "log.jsonl"
    log.write_bytes(b"".join(rows))
    return log


def _state(store: Store) -> tuple:
    return store.content_hash(), store.counts(), list(store.quarantined())


def _killed_at(step: int, log: Path, store: Path) -> bool:
    """Ingest in a process that kills itself before its `step`-th act on the folder. False: it got through."""
    child = os.fork()
    if child == 0:
        try:
            _count_down(step)
            ingest([log], Store(store))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _count_down(step: int) -> None:
    left = [step]

    def deadly(act: Callable) -> Callable:
        def wrapped(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*args, **options)

        return wrapped

    for name in ("replace", "unlink", "mkdir", "open", "write_text"):
        setattr(Path, name, deadly(getattr(Path, name)))
    store_folder.shutil.rmtree = deadly(store_folder.shutil.rmtree)
    store_folder.os.fsync = deadly(store_folder.os.fsync)


@pytest.mark.parametrize(
    ("grown", "stride"),
    [
        (False, 4),
        (True, 7),
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_moment_and_the_same_command_again_give_the_same_store(tmp_path, grown, stride):
    log = _log(tmp_path)
    first = tmp_path / "first.jsonl"
    first.write_bytes(b"".join(line(id=n) for n in range(30)) + b"[\n")
    expected = Store(tmp_path / "expected")
    for file in (first, log) if grown else (log,):
        ingest([file], expected)
    killed = 0
    for step in itertools.count(2, stride):
        store = tmp_path / f"store-{step}"
        if grown:
            ingest([first], Store(store))
        if not _killed_at(step, log, store):
            break
        killed += 1
        ingest([log], Store(store))
        found = Store(store)
        assert found.content_hash() == expected.content_hash()
        assert _state(found)[1:] == _state(expected)[1:]
    assert killed > 20 / stride


def test_a_table_whose_rows_name_no_conversation_says_so_and_not_that_a_column_is_missing(tmp_path):
    log = tmp_path / "a.csv"
    log.write_text("thread,who,said,stars\n,user,hi,\n,bot,yo,1\n")
    columns = {"conversation": "thread", "role": "who", "content": "said", "rating": "stars"}
    summary = ingest([log], Store(tmp_path / "store"), settings=IngestionSettings(map=columns))
    assert summary.quarantined == {Reason.NO_CONVERSATION: 2}
    (detail,) = summary.details.values()
    assert f"{log}:2" in str(detail)
    assert "'thread'" in str(detail)


EMPTY = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
BLANK = {"role": "assistant", "content": ""}
MORE = {"role": "user", "content": "more"}
DIFY = {"conversation_id": "c", "message_files": []}
FLOWISE = {"chatId": "c", "id": "1", "role": "userMessage", "content": "q"}
LIBRECHAT = {"conversationId": "c", "messageId": "1", "isCreatedByUser": True, "text": "q"}
LIBRECHAT_REPLY = {**LIBRECHAT, "messageId": "2", "parentMessageId": "1", "isCreatedByUser": False}
OPENWEBUI = {"id": "1", "parentId": None, "childrenIds": [], "role": "user", "content": "q"}
WILDFEEDBACK = {"UtterranceId": 0, "Role": "User", "Content": "q", "Satisfaction": False, "Disatisfaction": True}


@pytest.mark.parametrize(
    "rows",
    [
        [{"messages": [QUESTION, {**EMPTY, "feedback": "down"}, MORE, ANSWER]}],
        [{"messages": [QUESTION, EMPTY], "rating": "down"}],
        [{"messages": [QUESTION, EMPTY], "feedback": "down"}],
        [{"messages": [QUESTION, {**BLANK, "feedback": "down"}, MORE, ANSWER]}],
        [{"messages": [QUESTION, ANSWER, MORE, BLANK], "feedback": "down"}],
        [{"messages": [QUESTION, ANSWER, MORE, EMPTY], "feedback": "down"}],
        [{"messages": [QUESTION, ANSWER, MORE], "response": "", "feedback": "down"}],
        [
            {**DIFY, "id": "1", "query": "q", "answer": "", "feedback": {"rating": "dislike"}},
            {**DIFY, "id": "2", "query": "more", "answer": "a"},
        ],
        [FLOWISE, {**FLOWISE, "id": "2", "role": "apiMessage", "content": "", "feedback": {"rating": "THUMBS_DOWN"}}],
        [LIBRECHAT, {**LIBRECHAT_REPLY, "text": "", "feedback": {"rating": "thumbsDown"}}],
        [LIBRECHAT, {**LIBRECHAT_REPLY, "text": "Failed.", "error": True, "feedback": {"rating": "thumbsDown"}}],
        [{"id": "c", "chat": {"history": {"messages": {"1": {**OPENWEBUI, "annotation": {"rating": -1}}}}}}],
        [
            {
                "id": "c",
                "messages": [
                    {"role": "user", "parts": [{"type": "text", "text": "q"}]},
                    {
                        "role": "assistant",
                        "parts": [{"type": "reasoning", "text": "?"}],
                        "metadata": {"feedback": "down"},
                    },
                    {"role": "assistant", "parts": [{"type": "text", "text": "a"}]},
                ],
            }
        ],
        [WILDFEEDBACK, {"UtterranceId": 1, "Role": "Agent", "Content": "a"}],
    ],
    ids=[
        "messages, on the message", "messages, one empty reply", "messages, feedback",
        "messages, on a blank", "messages, the last one blank", "messages, the last one empty", "messages, response",
        "dify", "flowise", "librechat", "librechat, error", "openwebui, on a request", "ai_sdk", "wildfeedback",
    ],
)  # fmt: skip
def test_a_judgement_of_no_reply_or_an_empty_one_is_counted(tmp_path, rows):
    named, summary, (chat,) = outcome(tmp_path, b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert named == {"accepted": 1, Reason.ORPHAN_FEEDBACK: 1}
    assert summary.details[Reason.ORPHAN_FEEDBACK].endswith("a rating beside a message that holds no reply")
    assert chat.ratings == ()


def test_a_vote_for_a_side_without_a_reply_is_counted(tmp_path):
    sides = {"conversation_a": [QUESTION], "conversation_b": [QUESTION, ANSWER], "model_a": "x", "model_b": "y"}
    named, _, chats = outcome(tmp_path, orjson.dumps({**sides, "winner": "model_b"}))
    assert named == {"accepted": 2, Reason.ORPHAN_FEEDBACK: 1}
    assert sorted([rating.value for rating in chat.ratings] for chat in chats) == [[], [1.0]]


@pytest.mark.parametrize("nothing", [EMPTY, BLANK], ids=["empty", "blank"])
def test_a_judgement_of_a_reply_that_ends_with_an_empty_message_stays(tmp_path, nothing):
    named, _, (chat,) = outcome(tmp_path, line(messages=[QUESTION, ANSWER, nothing], feedback="down"))
    assert (named, [rating.reply_index for rating in chat.ratings]) == ({"accepted": 1}, [1])


def test_a_judgement_of_the_reply_before_an_open_request_stays(tmp_path):
    named, _, (chat,) = outcome(tmp_path, line(messages=[QUESTION, ANSWER, MORE], response=None, feedback="down"))
    assert (named, [rating.reply_index for rating in chat.ratings]) == ({"accepted": 1}, [1])
