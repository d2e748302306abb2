"""`--roles`: the log's words for its roles, in tables and in the messages of the formats that name them."""

import orjson
import pytest

from drift.config import IngestionSettings
from drift.errors import DataError
from drift.logs.ingest import check_usable, ingest
from drift.records import Reason
from drift.store import Store

SAID = [("customer", "2+2?"), ("ShopBot", "5"), ("note", "a hard one"), ("Anna", "No.")]
CHAT = [("user", "2+2?"), ("assistant", "5"), ("user", "No.")]
MAP = {"conversation": "c", "role": "who", "content": "said"}
ROLES = {"assistant": ["shopbot"], "user": ["*"], "skip": ["Note"]}


def read(tmp_path, log, roles, **columns):
    tmp_path.mkdir(exist_ok=True)
    file, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in log))
    summary = ingest([file], store, settings=IngestionSettings.model_validate({"roles": roles, "map": columns}))
    assert summary.adds_up
    found = [[(message.role, message.content) for message in one.messages] for one in store.conversations()]
    return found, summary


MESSAGES = [{"role": role, "content": text} for role, text in SAID]
SHAPES = {
    "messages": {"messages": MESSAGES},
    "text": {"messages": orjson.dumps(MESSAGES).decode()},
    "sharegpt": {"conversations": [{"from": role, "value": text} for role, text in SAID]},
    "preference": {"prompt": MESSAGES, "chosen": [{"role": "ShopBot", "content": "4"}],
                   "rejected": [{"role": "ShopBot", "content": "7"}]},
}  # fmt: skip


@pytest.mark.parametrize("shape", list(SHAPES))
def test_words_of_messages_in_a_list(tmp_path, shape):
    (found,), summary = read(tmp_path, [SHAPES[shape]], ROLES)
    assert found[:3] == CHAT
    assert summary.unread == {"messages.role=note": 1}


def test_requests_with_their_responses(tmp_path):
    completion = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "4"}}]}
    (found,), _ = read(tmp_path, [{"request": {"messages": MESSAGES}, "response": completion}], ROLES)
    assert found == [*CHAT, ("assistant", "4")]


def test_a_text_that_looks_like_messages_stays_a_text(tmp_path):
    text = orjson.dumps([{"role": "customer", "content": "x"}]).decode()
    (found,), _ = read(tmp_path, [{"messages": [{"role": "customer", "content": text}, MESSAGES[1]]}], ROLES)
    assert found[0] == ("user", text)


def test_a_table_in_which_everybody_else_is_the_user(tmp_path):
    rows = [{"c": "x", "who": role, "said": text} for role, text in [*SAID, ("bot", "4"), ("system", "S")]]
    (found,), summary = read(tmp_path, rows, ROLES, **MAP)
    assert found == [*CHAT, ("assistant", "4"), ("system", "S")]
    assert summary.filtered_by == {"not_a_chat": 1}
    rows[0]["who"] = ""
    _, summary = read(tmp_path / "2", rows, ROLES, **MAP)
    assert list(summary.quarantined) == ["unknown_role"]


@pytest.mark.parametrize(("roles", "advice"), [
    ({}, "--roles user=Anna or --roles assistant=Anna"),
    ({"assistant": ["ShopBot"]}, "add user=Anna to --roles, or user=* for every other word"),
    ({"user": ["Bert"]}, "add assistant=Anna to --roles, or assistant=* for every other word"),
])  # fmt: skip
def test_the_advice_names_the_side_that_is_missing(tmp_path, roles, advice):
    rows = [{"c": "x", "who": role, "said": "x"} for role in ("Anna", "user")]
    _, summary = read(tmp_path, rows, roles, **MAP)
    assert f"unknown role 'Anna': say who it is: {advice}; known: " in summary.details[Reason.UNKNOWN_ROLE]


def test_what_the_command_says_about_a_list_can_be_followed(tmp_path):
    _, summary = read(tmp_path, [{"messages": MESSAGES[:2]}], {})
    with pytest.raises(
        DataError, match=r"has role 'customer': say who it is: --roles user=customer or .*WORD\.$"
    ) as refused:
        check_usable(summary)
    assert "--map" not in str(refused.value)
