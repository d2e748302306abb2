"""`drift pairs LOGS`: logs to pairs in one command, and nothing more the second time."""

import orjson
import pytest

from drift.errors import DataError
from drift.records import PromptItem, Reason, read_jsonl
from drift.run import pairs_from_logs
from drift.store import Store

ANSWER = "The capital of that country is, as far as anybody knows, the town on the river, which is its largest."


def chat(number: int, question: str) -> dict:
    said = ((question, "user"), (f"{ANSWER} {question}", "assistant"), ("No, that is wrong.", "user"))
    return {"id": f"c{number}", "messages": [{"role": role, "content": text} for text, role in said]}


def test_logs_become_pairs_without_repeats(tmp_path):
    log, out, store = tmp_path / "log.jsonl", tmp_path / "out" / "prompts.jsonl", Store(tmp_path / "store")
    chats = [chat(1, "What is the capital of France?"), chat(2, "What is the capital of France?")]
    chats.append({**chat(3, "x"), "messages": [{"role": "user", "content": "Tell me of whales."}]})
    log.write_bytes(b"\n".join(map(orjson.dumps, chats)))
    done = pairs_from_logs([log], store, out, 0.5)
    assert (done.ingested.accepted, done.ingested.near_duplicates) == (3, 1)
    assert done.labelled.labels == {"DSAT": 2}
    assert done.pairs.prompt_counts == {"rows": 1, f"dropped.{Reason.NEAR_DUPLICATE_CONVERSATION}": 1}
    (item,) = read_jsonl(out, PromptItem)
    again = pairs_from_logs([log], store, out, 0.5)
    assert (again.ingested.accepted, again.labelled.added) == (0, 0)
    assert list(read_jsonl(out, PromptItem)) == [item]


def grown(number: int) -> list[dict]:
    """A chat as an application logs it that writes all of it under a new id each time; the user complains last."""
    turns = [" ".join(f"w{place}-{word}-{number}" for word in range(20)) for place in range(14)]
    turns[-2:] = ["No, that is wrong.", "Sorry."]
    said = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]
    return [{"id": f"c{number}-{length}", "messages": said[:length]} for length in (12, 14)]


def test_a_chat_that_is_logged_as_it_grows_keeps_its_complaint(tmp_path):
    log, out, store = tmp_path / "log.jsonl", tmp_path / "prompts.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"\n".join(orjson.dumps(row) for number in range(8) for row in grown(number)))
    done = pairs_from_logs([log], store, out, 0.5)
    assert done.pairs.prompt_counts["rows"] == done.labelled.labels["DSAT"] == 8
    split = {chat.source_id: chat.split for chat in store.conversations()}
    torn = sum(split[f"c{number}-12"] != split[f"c{number}-14"] for number in range(8))
    assert done.ingested.near_duplicates == torn > 0


def test_an_output_that_cannot_be_written_is_told_first(tmp_path):
    with pytest.raises(DataError, match="--out"):
        pairs_from_logs([tmp_path / "none.jsonl"], Store(tmp_path / "store"), tmp_path, 0.5)
    assert not (tmp_path / "store").exists()
