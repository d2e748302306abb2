"""Records of logs are ordinary frozen dataclasses, though Message writes its own `__init__`."""

import copy
import gc
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from drift.engine import rare_collections
from drift.records import Conversation, Message, ToolCall
from drift.records.messages import FunctionCall

CALL = ToolCall(FunctionCall("add"))
MESSAGE = Message("assistant", "5", "noon", 3, tool_calls=(CALL,), name="n", reasoning="2+3", has_media=True)
CHAT = Conversation("c", "s", None, (MESSAGE,), "train", tags={"consent": "yes"}, tools="[]")


@pytest.mark.parametrize("record", [MESSAGE, CHAT])
def test_a_record_of_a_log_is_an_ordinary_frozen_dataclass(record: Message | Conversation):
    first = fields(record)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(record, first, "x")
    with pytest.raises(FrozenInstanceError):
        delattr(record, first)
    assert copy.deepcopy(record) == pickle.loads(pickle.dumps(record)) == replace(record) == record
    assert type(record)(**{field.name: getattr(record, field.name) for field in fields(record)}) == record
    assert not hasattr(record, "__dict__")


def test_defaults_are_those_of_the_fields():
    assert Message("user", "hi") == Message("user", "hi", None, None, tool_calls=(), is_cut=False, has_media=False)
    first, second = (Conversation("c", "s", None, (), "train") for _ in range(2))
    assert first.tags == {}
    assert first.tags is not second.tags


def test_python_looks_for_garbage_as_before_after_a_stage():
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
