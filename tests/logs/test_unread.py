"""Nothing is left unread in silence: keys that held something and that no reader reads are counted by name."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.config import IngestionSettings
from drift.logs.files.rows import LogRow, Place
from drift.logs.ingest import ingest, preview
from drift.logs.readers import READERS
from drift.logs.unread import EACH, MOST_NAMES, OTHERS, Keys, Unread, keys
from drift.store import Store

SEEDS = Path(__file__).parent / "seeds"
QUESTION, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def unread(tmp_path: Path, *rows: dict, **options) -> dict[str, int]:
    tmp_path.mkdir(exist_ok=True)
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return ingest([log], Store(tmp_path / "store"), **options).unread


def test_keys_that_held_something_are_counted_and_the_others_are_not(tmp_path):
    rows = [
        {"messages": [QUESTION, {**ANSWER, "reaction": "sad"}], "verdict": "x", "verified": False, "user": "u"},
        {"messages": [{**QUESTION, "edited": 0}, ANSWER], "verdict": "y", "verified": None, "images": [], "note": ""},
        {
            "messages": [QUESTION, {**ANSWER, "feedback": {"thumb": 1, "stars": 5}}],
            "metadata": {"app": "x", "no": None},
        },
        {"messages": [QUESTION, ANSWER], "licence": "MIT", "metadata": {"opt_out": False}},
        {"messages": orjson.dumps([{**QUESTION, "mood": "ok"}, {**ANSWER, "consent": "no"}]).decode()},
    ]
    found = unread(tmp_path, *rows)
    assert found == {
        "verdict": 2,
        "verified": 1,
        "messages.reaction": 1,
        "messages.edited": 1,
        "messages.feedback.stars": 1,
        "metadata.app": 1,
        "messages.mood": 1,
        "messages.consent": 1,
    }
    assert next(iter(found)) == "verdict"  # the most frequent first
    log = tmp_path / "log.jsonl"
    assert preview([log], Store(tmp_path / "other")).summary.unread == found


def test_a_judgement_that_is_about_no_reply_is_unread(tmp_path):
    row = {"messages": [{**QUESTION, "feedback": "down"}, {**ANSWER, "feedback": "up"}]}
    assert unread(tmp_path, row) == {"messages.feedback": 1}
    rows = [
        {"q": "2+2?", "a": "5", "said": said, "stars": stars} for said, stars in (("bad", None), ("ok", 1), ("", 0))
    ]
    columns = IngestionSettings(map={"request": "q", "reply": "a", "comment": "said", "rating": "stars"})
    assert unread(tmp_path / "table", *rows, settings=columns) == {"said": 1}


RESPONSES = {  # what is unread of a `response` that stands beside messages that end with ...
    "a request": [
        ("a", {}),
        ({**ANSWER, "mood": 1}, {"response.mood": 1}),
        ({"choices": [{"message": ANSWER}]}, {}),
        (None, {}),
        (5, {"response": 1}),
        ({"choices": []}, {"response": 1}),
    ],
    "a reply": [("b", {"response": 1}), ("", {}), (None, {}), ({"choices": [{"message": ANSWER}]}, {"response": 1})],
}


@pytest.mark.parametrize(("end", "response", "found"), [(end, *case) for end in RESPONSES for case in RESPONSES[end]])
def test_a_response_that_became_no_message_is_unread(tmp_path, end, response, found):
    messages = [QUESTION] if end == "a request" else [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert unread(tmp_path, {"messages": messages, "response": response}) == found


BESIDES = [
    ({"system": "S"}, False, {}),
    ({"system": ["S"]}, False, {}),
    ({"system": "S"}, True, {}),  # the messages say the same
    ({"system": "another"}, True, {"system": 1}),
    ({"system": {"text": "S"}}, False, {"system": 1}),
    ({"system": ""}, False, {}),
    ({"tools": [{"name": "f"}]}, False, {}),
    ({"tools": '[{"name": "f"}]'}, False, {}),
    ({"tools": "f"}, False, {"tools": 1}),
    ({"functions": [5, None]}, False, {"functions": 1}),
    ({"tools": []}, False, {}),
]


@pytest.mark.parametrize(("beside", "has_system", "found"), BESIDES)
def test_what_stands_beside_the_messages_and_is_left_out_is_unread(tmp_path, beside, has_system, found):
    messages = [{"role": "system", "content": "S"}] * has_system + [QUESTION, ANSWER]
    assert unread(tmp_path, {"messages": messages, **beside}) == found
    shared = [{"from": m["role"], "value": m["content"]} for m in messages]
    assert unread(tmp_path / "2", {"conversations": shared, **beside}) == found


WHO = {"user_id": "ann", "session_id": "s", "shop": "x"}
TRACED = {
    "gemini": {
        "contents": [{"role": "user", "parts": [{"text": "q"}]}],
        "labels": WHO,
        "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}}]},
        "metadata": WHO,
    },
    "bedrock": {
        "schemaType": "ModelInvocationLog",
        "input": {"inputBodyJson": {"messages": [{"role": "user", "content": [{"text": "q"}]}]}},
        "output": {"outputBodyJson": {"output": {"message": {"role": "assistant", "content": [{"text": "a"}]}}}},
        "metadata": WHO,
    },
    "braintrust": {
        "root_span_id": "r",
        "span_attributes": {"type": "llm"},
        "input": [QUESTION],
        "output": [{"message": ANSWER}],
        "metadata": {**WHO, "model": "m"},
    },
}


@pytest.mark.parametrize("name", TRACED)
def test_who_speaks_is_no_unread_key_of_the_metadata(tmp_path, name):
    found = unread(tmp_path, TRACED[name])
    assert found == {"metadata.shop": 1} | ({"labels.shop": 1} if name == "gemini" else {})


def test_the_time_and_the_name_of_a_span_are_read(tmp_path):
    """As Logfire names them."""
    texts = {"gen_ai.prompt": "q", "gen_ai.completion": "a"}
    span = {"span_name": "chat", "start_timestamp": "2024-05-01T00:00:00Z", "attributes": texts, "shop": "x"}
    assert unread(tmp_path, span) == {"shop": 1}


def test_a_content_of_chatgpt_of_an_unknown_kind_is_unread(tmp_path):
    def node(name, above, role, content):
        return {"message": {"author": {"role": role}, "content": content}, "parent": above, "children": []}

    nodes = {
        "1": node("1", None, "user", {"content_type": "text", "parts": ["q"]}),
        "2": node("2", "1", "assistant", {"content_type": "hologram", "shape": "cube"}),
    }
    row = {"conversation_id": "c", "current_node": "2", "mapping": nodes}
    assert unread(tmp_path, row) == {"mapping.message.content.shape": 1}


def test_ids_as_keys_and_long_names_cost_no_memory(tmp_path):
    rows = [{"messages": [QUESTION, ANSWER], **{f"{n}-{k}": 1 for k in range(40)}, "k" * 200: 1} for n in range(50)]
    found = unread(tmp_path, *rows)
    assert len(found) == MOST_NAMES + 1
    assert found[OTHERS] == 50 * 41 - sum(count for name, count in found.items() if name != OTHERS)
    assert max(map(len, found)) == 63


def test_values_under_any_key_are_alike():
    counted = Unread(lambda name: name == "consent")
    known = keys("a", tree={EACH: keys("b", leaf=keys("c"))})
    row = {"a": 1, "consent": 1, "tree": {"x": {"b": 1, "d": 1}, "y": {"leaf": {"c": 1, "e": 1}}, "z": 7}}
    assert list(counted.counted([LogRow(Place(1), row)], known)) == [LogRow(Place(1), row)]
    assert counted.counts == {"tree.d": 1, "tree.leaf.e": 1}


class Recording(dict):
    """A row that notes which of its keys are read."""

    def __init__(self, value: dict, read: set[str]) -> None:
        super().__init__(value)
        self.read = read

    def get(self, key: Any, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        self.read.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_declares_the_keys_that_it_reads(name):
    known: Keys | None = READERS[name].keys
    assert known is not None, f"{name}: give its Format the keys that it reads"
    read: set[str] = set()
    rows = [orjson.loads(row) for row in (SEEDS / f"{name}.jsonl").read_bytes().splitlines()]
    for row in rows:
        list(READERS[name].read([LogRow(Place(1), Recording(row, read))]))
    assert (read & {key for row in rows for key in row}) - {"metadata", "extra"} <= set(
        known
    )  # where consent is looked for in every format


@pytest.mark.parametrize(
    ("tags", "found"), [({"variant": "short"}, {}), (["short"], {"tags": 1}), ({"a": {"b": 1}, "c": 2}, {"tags": 1})]
)
def test_tags_that_are_not_kept_are_unread(tmp_path, tags, found):
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    assert unread(tmp_path, {"messages": messages, "tags": tags}) == found


CHART = {"data-chart": 1, "data-grid": 1, "source-url": 1, "data-usage": 1, "data-chatId": 1}
SDK_PARTS = [{"type": "text", "text": "See:"}, *({"type": kind, "data": {"x": 1}, "url": "u"} for kind in CHART)]
TYPED = [{"type": "text", "text": "See:"}, {"type": "chart", "x": 1}]
BARE = [{"text": "See:"}, {"chart": {"x": 1}}, {"toolCall": {"x": 1}}, {"thoughtSignature": "s"}]
REPLY = {"type": "message", "role": "assistant", "content": TYPED}
PARTS = {  # a row, the reply, what is unread
    "ai_sdk": (
        {"id": "c", "messages": [{"role": "user", "parts": SDK_PARTS[:1]}, {"role": "assistant", "parts": SDK_PARTS}]},
        "See:",
        {f"messages.parts.{kind}": 1 for kind in CHART},
    ),
    "ai_sdk, a chart alone": (
        {"messages": [{"role": "user", "parts": SDK_PARTS[:1]}, {"role": "assistant", "parts": SDK_PARTS[1:2]}]},
        "[file]",
        {"messages.parts.data-chart": 1},
    ),
    "ai_sdk_table": (
        {"id": "m", "chatId": "c", "role": "assistant", "parts": SDK_PARTS[:2]},
        "See:",
        {"parts.data-chart": 1},
    ),
    "gemini": (
        {
            "contents": [{"role": "user", "parts": BARE[:2]}],
            "response": {"candidates": [{"content": {"role": "model", "parts": BARE}}]},
        },
        "See:\n[file]",
        {
            "contents.parts.chart": 1,
            **{f"candidates.content.parts.{kind}": 1 for kind in ("chart", "toolCall", "thoughtSignature")},
        },
    ),
    "bedrock": (
        {
            "messages": [{"role": "user", "content": BARE[:2]}],
            "output": {"message": {"role": "assistant", "content": BARE[:2]}},
        },
        "See:\n[file]",
        {"messages.content.chart": 1, "output.message.content.chart": 1},
    ),
    "claude": (
        {"uuid": "c", "chat_messages": [{"sender": "human", "text": "q"}, {"sender": "assistant", "content": TYPED}]},
        "See:\n[file]",
        {"chat_messages.content.chart": 1},
    ),
    "anthropic": (
        {"request": {"messages": [{"role": "user", "content": TYPED}]}, "response": REPLY},
        "See:\n[file]",
        {"messages.content.chart": 1, "response.content.chart": 1},
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_an_unknown_kind_leaves_a_mark_and_is_counted(tmp_path, name):
    row, reply, found = PARTS[name]
    asked = {"id": "q", "chatId": "c", "role": "user", "parts": SDK_PARTS[:1]}
    assert unread(tmp_path, *([asked] if "chatId" in row else []), row) == found
    (chat,) = Store(tmp_path / "store").conversations()
    assert chat.messages[-1].content == reply
    assert chat.has_media(len(chat.messages) - 1) == ("[file]" in reply)


def test_columns_of_attributes_are_read_and_not_counted(tmp_path):
    """As Phoenix's dataframes have them: the summary said that the messages were left unread."""
    row = {
        "context.trace_id": "t", "context.span_id": "s", "attributes.openinference.span.kind": "LLM", "parent_id": "p",
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "q"}],
        "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": "a"}],
    }  # fmt: skip
    assert unread(tmp_path, row) == {"parent_id": 1}
