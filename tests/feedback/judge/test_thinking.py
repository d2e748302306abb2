"""A labelling judge that thinks, over HTTP: what is read, what is counted and why, and when the stage fails."""

import json

import pytest

from drift.config import EndpointSettings, LabelSettings
from drift.endpoint.fence import CLOSE, OPEN
from drift.errors import DataError
from drift.feedback.stage import JudgedSummary, label_by, plan
from drift.store import Store

DRAFT = '{"turns": [{"turn": 2, "label": "SAT", "subtype": "praise", "evidence": "bad", "p_dsat": 0.1, "items": []}]}'
ROOM = 2000
"""Tokens that this judge needs for its thoughts."""


def verdicts(body: dict) -> str:
    text = body["messages"][-1]["content"].partition(CLOSE)[0]
    turns = []
    for line in map(json.loads, text.removeprefix(OPEN).strip().splitlines()):
        if line.get("judge"):
            bad = "bad" in line["text"]
            label = {"label": "DSAT", "evidence": "bad", "p_dsat": 0.9} if bad else {"label": "NEUTRAL", "p_dsat": 0.1}
            turns.append({"turn": line["turn"], "subtype": "wrong", "items": [], **label})
    return json.dumps({"turns": turns})


@pytest.fixture
def thinking(serve, said):
    """`thinking(message)`: a server whose judge says `message(answer, room)`, a (message, finish_reason)."""

    def start(message):
        def answer(path, body, number):
            if "chat" not in path:
                return said(b"", 404)
            if not body["messages"][-1]["content"].startswith(OPEN):
                return said.chat("The sea is wide.")  # the probe's question
            content, finish = message(verdicts(body), body["max_tokens"] >= ROOM)
            return said.chat("", message={"role": "assistant", **content}, finish_reason=finish)

        return serve(answer)

    return start


@pytest.fixture
def store(tmp_path, chat) -> Store:
    made = Store(tmp_path / "store")
    made.add([chat("q", "a", f"{word} {n}", name=f"{word}{n}") for word in ("bad", "fine") for n in range(3)])
    return made


def settings(server, **changes) -> LabelSettings:
    endpoint = EndpointSettings(base_url=server.url, model="judge", retries=0, max_concurrency=2, **changes)
    return LabelSettings(labeller="judge", endpoint=endpoint)


@pytest.mark.parametrize(
    "message",
    [
        lambda answer, _: ({"content": f"<think>First {DRAFT}, no: {{braces}}\n</think>\n\n{answer}"}, "stop"),
        lambda answer, _: ({"content": f"Okay, {{a}} or {DRAFT}?\n</think>\n{answer}"}, "stop"),
        lambda answer, _: ({"content": f"{DRAFT}\nWait, that is wrong.\n```json\n{answer}\n```"}, "stop"),
        lambda answer, _: ({"content": answer, "reasoning_content": f"Perhaps {DRAFT}"}, "stop"),
        lambda answer, _: ({"content": answer, "reasoning": f"Perhaps {DRAFT}"}, "stop"),
        lambda answer, _: ({"content": f"[THINK]{DRAFT}[/THINK]{answer}"}, "stop"),
    ],
)
def test_the_answer_behind_the_thoughts_counts(thinking, store, message):
    done = label_by(store, settings(thinking(message)))
    assert isinstance(done, JudgedSummary)
    assert done.judge is not None
    assert done.labels == {"DSAT": 3, "NEUTRAL": 3}
    assert (done.judge.unreadable, done.judge.repairs) == ({}, 0)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": None, "reasoning_content": "Let me see {"}, "cut_in_thoughts"),
        ({"content": f"<think>Let me see {DRAFT}"}, "cut_in_thoughts"),
        ({"content": '{"turns": [{"turn": 2, "la'}, "cut"),
        ({"content": ""}, "cut"),
    ],
)
def test_a_judge_without_room_fails_the_stage_and_says_what_to_set(thinking, store, message, reason):
    server = thinking(lambda answer, room: ({"content": answer}, "stop") if room else (message, "length"))
    with pytest.raises(DataError, match=rf"all 6 judgements of judge were unreadable: 6 {reason} \(") as error:
        label_by(store, settings(server))
    assert "Raise labels.endpoint.max_tokens (drift label: --judge-max-tokens)" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(store.labels()) == []  # no label of a judge that nobody could read
    assert label_by(store, settings(server, max_tokens=ROOM)).labels == {"DSAT": 3, "NEUTRAL": 3}


@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        ({"content": None, "reasoning": "I think so."}, "stop", "thoughts_only"),
        ({"content": None}, "stop", "empty"),
        ({"content": None, "refusal": "No."}, "stop", "refused"),
        ({"content": "I would say the user is unhappy."}, "stop", "wrong_form"),
        ({"content": '{"verdicts": []}'}, "stop", "wrong_form"),
    ],
)
def test_every_other_reason_has_its_name(thinking, store, message, finish, reason):
    with pytest.raises(DataError, match=f"6 {reason} "):
        label_by(store, settings(thinking(lambda *_: (message, finish))))


def test_some_unreadable_answers_are_counted_by_reason(thinking, store):
    def message(answer, _):
        return ({"content": "<think>hm"}, "length") if "DSAT" in answer else ({"content": answer}, "stop")

    done = label_by(store, settings(thinking(message)))
    assert isinstance(done, JudgedSummary)
    assert done.judge is not None
    assert done.labels == {"ABSTAIN": 3, "NEUTRAL": 3}
    assert done.judge.unreadable == {"cut_in_thoughts": 3}
    assert done.judge.abstained == {"unreadable": 3}


def test_the_estimate_counts_the_room_for_thoughts(thinking, store):
    server = thinking(lambda answer, _: ({"content": answer}, "stop"))
    priced = {"price_per_million_input": 0.0, "price_per_million_output": 1.0}
    assert plan(store, settings(server, max_tokens=ROOM, **priced)).most_cost == pytest.approx(6 * ROOM / 1e6)
