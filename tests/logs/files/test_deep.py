"""Rows that are nested too deep for the usual parsers: trees of replies are read, anything else has a name."""

import contextlib
import json
import random

import pytest

from drift.logs.files.deep import RepeatedKey, TooDeep, parse_deep
from drift.logs.ingest import ingest
from drift.records import Reason
from drift.store import Store

DEPTH = 3000
PLAIN = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def oasst(depth: int) -> str:
    head = '{"message_id": "N", "text": "turn N \\ud83d", "role": "'
    nodes = (f'{head.replace("N", str(i))}{("prompter", "assistant")[i % 2]}", "replies": [' for i in range(depth))
    return '{"message_tree_id": "0", "prompt": ' + "".join(nodes) + "]}" * depth + "}"


def librechat(depth: int) -> str:
    head = '{"messageId": "id N", "text": "turn N", "isCreatedByUser": '
    nodes = (f'{head.replace("N", str(i))}{("true", "false")[i % 2]}, "children": [' for i in range(depth))
    return '{"conversationId": "c", "messages": [' + "".join(nodes) + "]}" * depth + "]}"


@pytest.mark.parametrize("made", [oasst, librechat])
@pytest.mark.parametrize("array", [False, True])
def test_a_deep_tree_of_replies_is_one_conversation(tmp_path, made, array):
    log, store = tmp_path / "log.json", Store(tmp_path / "store")
    log.write_text(f"[{made(DEPTH)}]" if array else made(DEPTH) + "\n" + made(2).replace('"c"', '"d"') + "\n")
    assert ingest([log], store).quarantined == {}
    longest = max(store.conversations(), key=lambda one: len(one.messages))
    assert [m.content.split(" \ufffd")[0] for m in longest.messages] == [f"turn {i}" for i in range(DEPTH)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (PLAIN[:-3] + ', "children": [' + '{"children": [' * DEPTH + "]}" * DEPTH + "]}]}", Reason.NESTED_TOO_DEEP),
        (PLAIN[:-1] + ', "more": ' + "[" * DEPTH + "]" * DEPTH + "}", Reason.NESTED_TOO_DEEP),
        ("[" * DEPTH + "]" * DEPTH, Reason.NESTED_TOO_DEEP),
        (PLAIN[:-1] + ', "more": ' + "[" * 500_000, Reason.NESTED_TOO_DEEP),
        (oasst(DEPTH)[:-1], Reason.BROKEN_JSON),
        (oasst(DEPTH).replace("]}", "}]", 1), Reason.BROKEN_JSON),
        (oasst(DEPTH)[:-1] + ', "message_tree_id": "1"}', Reason.DUPLICATE_KEYS),
    ],
    ids=list("abcdefg"),
)
def test_what_is_too_deep_to_read_has_a_name_and_costs_no_other_row(tmp_path, row, reason):
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_text(f"{PLAIN}\n{row}\n" + PLAIN.replace('"a"', '"c"') + "\n")
    summary = ingest([log], store)
    assert (summary.accepted, summary.quarantined) == (2, {reason: 1})
    assert summary.adds_up


def test_a_long_text_inside_of_a_deep_tree_is_no_tree(tmp_path):
    """Keys named like those of a tree count in messages alone: what a message holds is read by recursion."""
    inside = '{"children": [' * DEPTH + "]}" * DEPTH
    row = librechat(1).replace("[]", f'[], "content": [{inside}]')
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_text(librechat(2).replace('"c"', '"d"') + f"\n{row}\n")
    assert ingest([log], store).quarantined == {Reason.NESTED_TOO_DEEP: 1}


@pytest.mark.parametrize("seed", range(20))
def test_it_parses_as_json_does(seed):
    rng = random.Random(seed)

    def value(depth: int):
        if depth and rng.random() < 0.7:
            inner = [value(depth - 1) for _ in range(rng.randrange(4))]
            return inner if rng.random() < 0.5 else {f"k{n}\n\u00e9": one for n, one in enumerate(inner)}
        return rng.choice([None, True, False, 0, -1.5, 1e300, "", 'a "quoted" \u2028 word', 10**30])

    for indent in (None, 2):
        text = json.dumps(expected := value(6), indent=indent, ensure_ascii=seed % 2 == 0)
        assert parse_deep(f" {text}\n") == expected
        for _ in range(20):  # one character less, or another one
            place = rng.randrange(len(text))
            broken = text[:place] + rng.choice(("", "{", "]", ",", '"', ":", "1")) + text[place + 1 :]
            try:
                expected = json.loads(broken, strict=False)
            except ValueError:
                with pytest.raises(ValueError):  # noqa: PT011 (the words are not JSON's)
                    parse_deep(broken)
                continue
            with contextlib.suppress(RepeatedKey):  # json keeps the last value
                assert parse_deep(broken) == expected


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(RepeatedKey):
        parse_deep('{"a": 1, "a": 1}')


def test_a_bomb_of_brackets_is_refused_early():
    with pytest.raises(TooDeep):
        parse_deep("[" * 10_000_000)
