"""What holds for every reader and any rows: nothing escapes, nothing is lost, judgements point at replies."""

import ast
import contextlib
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift.logs.draft import ConversationDraft, Evidence, finish
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.files.sources import LogFile
from drift.logs.readers import READERS
from drift.logs.reading import Reading, read_logs
from drift.logs.traces import texts
from drift.records import Conversation

FOLDER = Path(__file__).parents[1] / "seeds"


def words(name: str) -> list[str]:
    """The keys and values that a reader knows: short texts in its code."""
    source = Path(str(sys.modules[READERS[name].read.__module__].__file__))
    nodes = (node for file in (source, Path(texts.__file__)) for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return [
        *sorted(text for text in found if 0 < len(text) < 60 and " " not in text),
        "role",
        "content",
        "user",
        "assistant",
    ]


def rows_of(name: str) -> st.SearchStrategy[list[dict]]:
    """Rows out of the reader's own words, and seeds of which a part is something else."""
    known = st.sampled_from(words(name))
    scalars = known | st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=3)
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known, inner, max_size=4), max_leaves=12
    )
    seeds = [orjson.loads(row) for row in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    changed = st.builds(replaced, st.sampled_from(seeds), st.lists(st.integers(0, 9), max_size=6), values)
    return st.lists(changed | st.dictionaries(known, values, max_size=5), min_size=1, max_size=4)


def replaced(value, path: list[int], part):
    """The value with what lies at `path` replaced."""
    if not path:
        return part if isinstance(part, dict) else value
    return _replaced(value, path, part)


def _replaced(value, path, part):
    if isinstance(value, dict) and value and path:
        key = sorted(value)[path[0] % len(value)]
        return {**value, key: _replaced(value[key], path[1:], part)}
    if isinstance(value, list) and value and path:
        place = path[0] % len(value)
        return [*value[:place], _replaced(value[place], path[1:], part), *value[place + 1 :]]
    return part


def check(conversation: Conversation) -> None:
    orjson.dumps(conversation, default=list)
    assert any(message.role == "user" for message in conversation.messages)
    for rating in conversation.ratings:
        assert rating.reply_index >= 0
        assert conversation.messages[rating.reply_index].role == "assistant"


@pytest.mark.parametrize("name", READERS)
def test_every_row_becomes_something_with_a_name(name):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rows_of(name))
    def holds(rows):
        found = list(READERS[name].read(LogRow(Place(n), row) for n, row in enumerate(rows, 1)))
        assert sum(outcome.rows for outcome in found) == len(rows)
        for outcome in found:
            assert isinstance(outcome, ConversationDraft | Evidence | Reject)
            if isinstance(outcome, ConversationDraft):
                with contextlib.suppress(Unusable):
                    check(finish(outcome, name, str))

    holds()


@pytest.mark.parametrize("name", READERS)
def test_a_scalar_where_a_list_or_a_mapping_belongs_stops_nothing(name):
    seeds = [orjson.loads(row) for row in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    for seed in seeds:
        parts = (5, True, "text", nested(900, "content"), nested(900, None))
        for changed in (row for part in parts for row in with_part_at_each_place(seed, part)):
            found = list(READERS[name].read([LogRow(Place(1), changed)]))
            assert sum(outcome.rows for outcome in found) == 1, changed


def nested(depth: int, key: str | None):
    """Lists in lists, or messages in messages, as deep as a parser lets them through."""
    value: list | dict = []
    for _ in range(depth):
        value = [value] if key is None else {"role": "user", "type": "text", key: value}
    return value


def with_part_at_each_place(value, part):
    """The value once for each list and mapping inside it, with `part` in its place."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            for new in (part, *with_part_at_each_place(inner, part)):
                changed = value.copy()
                changed[key] = new
                yield changed


@pytest.mark.parametrize("name", [name for name, known in READERS.items() if known.stitched])
def test_stitching_loses_nothing_and_the_order_does_not_matter(name, tmp_path_factory):
    file = tmp_path_factory.mktemp("stitch") / "log.jsonl"

    def read(rows) -> tuple[set[str], int]:
        file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        reading = Reading()
        found = list(read_logs([LogFile(file)], name, None, str, reading))
        conversations = [outcome for outcome in found if isinstance(outcome, Conversation)]
        for conversation in conversations:
            check(conversation)
        return {repr((c.messages, c.ratings)) for c in conversations}, len(found) + reading.merged

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rows_of(name))
    def holds(rows):
        read(rows)

    holds()
    seeds = [orjson.loads(row) for row in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    assert read(seeds) == read(seeds[::-1])


@pytest.mark.parametrize("name", READERS)
def test_each_seed_is_recognised_as_what_it_is(name):
    reading = Reading()
    found = list(read_logs([LogFile(FOLDER / f"{name}.jsonl")], None, None, str, reading))
    assert list(reading.formats.values()) == [name]
    assert any(isinstance(outcome, Conversation) for outcome in found)


@pytest.mark.parametrize("part", [None, True, 7, "x", [], {}, [[]], [{}], {"a": {}}, [7, None]], ids=repr)
def test_recognition_survives_any_value(part):
    for file in sorted(FOLDER.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            for key in row if isinstance(row, dict) else ():
                for reader in READERS.values():
                    assert reader.recognises({**row, key: part}) in (True, False)
