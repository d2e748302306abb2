"""A consent that the rows of one conversation contradict is none; rows that say nothing do not contradict. The model
calls that are part of a later one count, and so does all that is said in a trace."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.config import IngestionSettings
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Reason
from drift.store import Store

EXCHANGES = [(Q, A), (WRONG, B), ("Thanks!", "Good.")]
CHAT = [user(Q), bot(A), user(WRONG), bot(B)]
TABLE = {"conversation": "chat", "request": "q", "reply": "a"}


def at(place: int) -> str:
    return f"2024-05-01T10:00:0{place}Z"


def calls(size: int, **about: Any) -> list[dict[str, Any]]:
    """Model calls with up to `size` messages of the chat before their reply."""
    rows, said = [], []
    for place, (request, reply) in enumerate(EXCHANGES):
        said.append(user(request))
        call = {"id": str(place), "type": "GENERATION", "traceId": str(place), "startTime": at(place), **about}
        rows.append({**call, "input": said[-size:], "output": bot(reply)})
        said.append(bot(reply))
    return rows


ROWS: dict[str, list[dict[str, Any]]] = {
    "dify": [
        {"id": str(place), "conversation_id": "c", "query": request, "answer": reply, "created_at": 1714557600 + place}
        for place, (request, reply) in enumerate(EXCHANGES)
    ],
    "langchain_table": [
        {"id": place, "session_id": "c", "message": {"type": {"user": "human"}.get(m["role"], "ai"), **m, "role": None}}
        for place, m in enumerate(CHAT)
    ],
    "ai_sdk_table": [
        {"id": str(place), "chatId": "c", "role": message["role"], "createdAt": at(place),
         "parts": [{"type": "text", "text": message["content"]}]}
        for place, message in enumerate(CHAT)
    ],
    "langfuse": calls(1, sessionId="c"),
    "histories": calls(6, sessionId="c"),
    "histories of a user": calls(6, userId="ann"),
    "windows": calls(3, sessionId="c"),
    "one trace": calls(6, userId="ann", traceId="t"),
    "table": [{"chat": "c", "q": request, "a": reply} for request, reply in EXCHANGES],
}  # fmt: skip


def outcome(folder: Path, name: str, consents: Sequence[str | None]) -> IngestSummary:
    """What becomes of a chat whose rows have these consents, the last of them up to its end."""
    folder.mkdir()
    given = [*consents, *[consents[-1]] * len(ROWS[name])]
    rows = [{**row, "metadata": {"consent": consent}} for row, consent in zip(ROWS[name], given, strict=False)]
    (folder / "log.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    settings = IngestionSettings(require_consent={"consent": "yes"}, map=TABLE if name == "table" else {})
    summary = ingest([folder / "log.jsonl"], Store(folder / "store"), settings=settings)
    assert summary.quarantined == {}
    return summary


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_contradict_each_other_give_no_consent(tmp_path, name):
    for number, consents in enumerate((["yes", "no"], ["no", "yes"], ["no"])):
        summary = outcome(tmp_path / f"refused-{number}", name, consents)
        assert (summary.accepted, summary.filtered_by) == (0, {Reason.NO_CONSENT: 1})
    for number, consents in enumerate((["yes"], [None, "yes"], ["yes", None])):
        assert outcome(tmp_path / f"given-{number}", name, consents).accepted == 1


def accepted(folder: Path, *rows: dict[str, Any], consent: str = "consent") -> int:
    """How many chats of these rows are stored, by one process, where "yes" is required."""
    folder.mkdir()
    (folder / "log.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest(
        [folder / "log.jsonl"], Store(folder / "store"), settings=IngestionSettings(require_consent={consent: "yes"})
    )
    assert summary.accepted + summary.filtered_by.get(Reason.NO_CONSENT, 0) + summary.duplicate == len(rows)
    return summary.accepted


def call(name: str, said: Sequence[str], reply: str, consent: str | None, **about: Any) -> dict[str, Any]:
    given = [(user, bot)[place % 2](text) for place, text in enumerate(said)]
    row = {"id": name, "type": "GENERATION", "traceId": name, "startTime": at(len(said)), "output": bot(reply)}
    return {**row, "input": given, "metadata": {"consent": consent}, **about}


def test_calls_of_nobody_can_refuse_but_not_consent_for_the_call_that_goes_on(tmp_path):
    """Many people begin with the same words."""
    first, then = ["hi"], ["hi", "hello", "2+2?"]
    for number, (of_first, of_then, stored) in enumerate([("no", "yes", 0), ("yes", None, 0), (None, "yes", 1)]):
        rows = call("a", first, "hello", of_first), call("b", then, "4", of_then)
        assert accepted(tmp_path / str(number), *rows) == stored
    rows = call("a", first, "hello", "yes", userId="ann"), call("b", then, "4", None, userId="ann")
    assert accepted(tmp_path / "of one user", *rows) == 1


def test_a_call_that_has_its_session_from_its_first_exchanges_can_be_refused_but_not_consented_for(tmp_path):
    said = ["What is the capital of Italy? Be short.", "It is Rome. Do you want to know more about Rome?"]
    said += ["Yes: since when?", "Since 1871, when the government moved there.", "Thanks"]
    for number, (of_first, of_then, stored) in enumerate([("no", "yes", 0), ("yes", None, 0), (None, "yes", 1)]):
        rows = call("a", said[:3], said[3], of_first, sessionId="s"), call("b", said, "You are welcome.", of_then)
        assert accepted(tmp_path / str(number), *rows) == stored


def test_a_call_beside_the_chat_can_refuse_but_not_consent_for_its_trace(tmp_path):
    for number, (beside, chat, stored) in enumerate([("no", "yes", 0), ("yes", None, 1), (None, "yes", 1)]):
        rows = call("a", ["Is it safe? 2+2?"], "yes", beside), call("b", ["2+2?"], "4", chat, traceId="a")
        assert accepted(tmp_path / str(number), *rows) == stored


@pytest.mark.parametrize("size", [1, 3], ids=["threads", "windows"])
@pytest.mark.parametrize(("beside", "stored"), [("no", 0), ("yes", 1), (None, 1)])
def test_a_trace_refuses_for_a_joined_chat_also_where_its_own_call_says_nothing(tmp_path, size, beside, stored):
    rows = calls(size, sessionId="c")
    for row in rows[:-1]:
        row["consent"] = "yes"
    other = call("x", ["Is it safe?"], "yes", beside, traceId=rows[-1]["traceId"], sessionId="checks")
    store = Store(tmp_path / "store")
    (tmp_path / "log.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in [*rows, other]))
    ingest([tmp_path / "log.jsonl"], store, settings=IngestionSettings(require_consent={"consent": "yes"}))
    chats = [chat for chat in store.conversations() if len(chat.messages) > 2]
    assert len(chats) == stored


def test_a_branch_is_not_refused_by_another(tmp_path):
    rows = [call("a", ["2+2?"], "5", None, userId="ann")]
    rows += [call(name, ["2+2?", "5", name], "4", name, userId="ann") for name in ("yes", "no")]
    assert accepted(tmp_path / "logs", *rows) == 1


@pytest.mark.parametrize(("row", "inside", "stored"), [("no", "yes", 0), ("yes", "no", 0), ("yes", None, 1)])
def test_a_row_that_contradicts_itself_gives_no_consent(tmp_path, row, inside, stored):
    chat = {"messages": CHAT, "consent": row}
    assert accepted(tmp_path / "metadata", {**chat, "metadata": {"consent": inside}}) == stored
    assert accepted(tmp_path / "tags", {**chat, "tags": {"consent": inside} if inside else {}}) == stored
    span = {"mlflow.spanType": '"LLM"', "mlflow.spanInputs": {"messages": CHAT[:1]}, "mlflow.spanOutputs": A}
    spans = [{"span_id": "1", "attributes": {"consent": inside}}, {"span_id": "2", "attributes": span}]
    trace = {"info": {"trace_id": "t", "trace_metadata": {"consent": row}}, "data": {"spans": spans}}
    assert accepted(tmp_path / "mlflow", trace) == stored
    observation = {"id": "o", "type": "GENERATION", "input": CHAT[:1], "output": A, "metadata": {"consent": inside}}
    about = {"id": "t", "timestamp": at(0), "metadata": {"consent": row}}
    assert accepted(tmp_path / "langfuse", {"trace": about, "observations": [observation]}) == stored
    weave = {"id": "w", "op_name": "openai.chat.completions.create", "trace_id": "t", "output": bot(A)}
    weave |= {"inputs": {"messages": CHAT[:1]}, "consent": row, "attributes": {"consent": inside}}
    assert accepted(tmp_path / "weave", weave) == stored
