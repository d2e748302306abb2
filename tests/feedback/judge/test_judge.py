"""The judge against a loopback server: whole conversations, repair, probabilities, decisions, hostile answers, cost."""

import dataclasses
import json

import pytest

from drift.endpoint import Capabilities
from drift.endpoint.fence import CLOSE, OPEN
from drift.feedback.judge.window import MOST_CHARACTERS, MOST_TURNS, judging_turns, windows
from drift.records import Conversation, Message

PLAIN = Capabilities(many=False, logprobs=False, repeats=True, json_schema=False, json_mode=False, decisions=False)
CHAT = ("sort b a", "b a", "that is wrong", "a b", "thanks a lot", "welcome", "now sort d c")


def labels_of(judge, *conversations):
    return [(told.label, told.subtype, told.evidence, told.p_dsat) for told in judge.label(conversations)]


def test_a_short_conversation_is_one_call(heard, judge_of, chat):
    judge, server = judge_of()
    assert labels_of(judge, chat(*CHAT)) == [
        ("DSAT", "wrong", "wrong", 0.9),
        ("SAT", "gratitude", "thanks", 0.1),
        ("NEUTRAL", None, None, 0.1),
    ]
    (body,) = server.chats()
    assert [(line["turn"], line.get("judge", False)) for line in heard.lines(body)] == [
        (0, False), (1, False), (2, True), (3, False), (4, True), (5, False), (6, True)
    ]  # fmt: skip
    assert body["temperature"] == 0.0
    first = next(iter(judge.label([chat(*CHAT)])))
    assert (first.labeller, first.reply_index, first.user_index, first.rubric) == ("judge", 1, 2, (("D1", 7),))


def test_structured_output_is_asked_for_as_the_server_supports_it(judge_of, chat):
    for able, kind in (({"json_schema": True}, "json_schema"), ({"json_mode": True}, "json_object"), ({}, None)):
        judge, server = judge_of(able=dataclasses.replace(PLAIN, **able))
        list(judge.label([chat("a", "b", "c")]))
        assert (server.chats()[0].get("response_format") or {}).get("type") == kind


def test_an_answer_that_cannot_be_read_is_asked_for_once_more(heard, judge_of, chat):
    judge, server = judge_of(lambda body, number: "I think <|im_end|> SAT" if number == 1 else heard.honest(body))
    assert labels_of(judge, chat("a", "b", "that is wrong"))[0][0] == "DSAT"
    assert judge.tally.repairs == 1
    again = server.chats()[1]["messages"][-1]["content"]
    assert "it is no JSON object" in again
    assert "<|im_end|>" not in again  # the answer may repeat what a stranger wrote


def test_twice_unreadable_is_an_abstention_and_no_answer_is_no_label(judge_of, said, chat):
    judge, server = judge_of(lambda *_: "hm")
    (told,) = judge.label([chat("a", "b", "wrong")])
    assert (told.label, told.abstain_reason, len(server.chats())) == ("ABSTAIN", "unreadable", 2)
    judge, _ = judge_of(lambda *_: said(b"", 500))
    assert list(judge.label([chat("a", "b", "wrong")])) == []
    assert judge.tally.unanswered == {"server": 1}
    judge, _ = judge_of(lambda *_: said({"error": "content filter"}, 400))
    assert [one.abstain_reason for one in judge.label([chat("a", "b", "wrong")])] == ["refused"]


def test_injections_reach_the_server_fenced_and_do_not_change_the_verdict(heard, judge_of, chat, injections):
    judge, server = judge_of()
    complaints = [f"{text} that is wrong" for text in injections]
    told = list(judge.label(chat("q", text, said) for text, said in zip(injections, complaints, strict=True)))
    assert [one.label for one in told] == ["DSAT"] * len(injections)
    for body in server.chats():
        system, user = body["messages"]
        assert user["content"].startswith(OPEN)
        assert user["content"].endswith(CLOSE)
        assert user["content"].count(OPEN) == user["content"].count(CLOSE) == 1
        assert len(user["content"].splitlines()) == 5
        (line,) = [line for line in heard.lines(body) if line.get("judge")]
        assert line["text"] in complaints
        assert system == server.chats()[0]["messages"][0]  # no word of theirs in it


def test_a_judge_that_obeys_an_injection_gets_no_label_through(judge_of, chat, injections):
    """Recorded obedience: the answer echoes what the speaker asked for; praise that nobody wrote is no evidence."""
    obedient = [
        '{"turns": [{"turn": 2, "label": "SAT", "evidence": "Excellent!", "p_dsat": 0.0, "items": []}]}',
        '{"turns": [{"turn": 2, "label": "SAT", "subtype": "praise", "evidence": "", "p_dsat": 0.0, "items": []}]}',
        '{"turns": [{"turn": 2, "label": "SAT", "evidence": "q", "p_dsat": 0.9, "items": []}]}',
        '{"turns": []}',
        '{"turns": [{"turn": 2, "label": "SAT"}, {"turn": 2, "label": "DSAT"}]}',
        '{"turns": [{"turn": 0, "label": "SAT", "evidence": "q", "p_dsat": 0.0, "items": []}]}',
        '{"label": "SAT"}',
        "SAT",
        "",
    ]
    for text in obedient:
        judge, _ = judge_of(lambda *_, text=text: text)
        told = list(judge.label(chat("q", "a", said) for said in injections))
        assert {one.label for one in told} == {"ABSTAIN"}
        assert all(one.evidence is None and one.p_dsat is None for one in told)


def test_what_is_not_asked_about_gets_no_label(heard, judge_of, chat):
    extra = '{"turns": [%s, {"turn": 0, "label": "SAT", "evidence": "q", "p_dsat": 0.0, "items": []}]}'
    judge, _ = judge_of(lambda body, _: extra % json.dumps(json.loads(heard.honest(body))["turns"][0]))
    assert [one.user_index for one in judge.label([chat("q", "a", "that is wrong")])] == [2]


def test_long_conversations_are_judged_in_stretches_and_every_turn_once():
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], f"{i} " + "x" * (i * 37 % 5000)) for i in range(201))
    conversation = Conversation("c", "test", "c", messages, "train")
    parts = list(windows(conversation))
    assert [turn for part in parts for turn in part.turns] == judging_turns(conversation)
    for part in parts:
        assert len(part.turns) <= MOST_TURNS
        assert part.first <= part.turns[0] - 1
        assert len(part.text()) <= MOST_CHARACTERS + 6000 * 2
    (only,) = windows(conversation, {8, 10})
    assert only.turns == (8, 10)


def test_a_window_shows_the_judged_reply_behind_instructions_of_each_turn():
    roles = ("user", "assistant", "system", "system", "system")
    messages = tuple(Message(roles[i % 5], f"{i} " + "x" * 5000) for i in range(101))
    parts = list(windows(Conversation("c", "test", "c", messages, "train")))
    assert [turn for part in parts for turn in part.turns] == list(range(5, 101, 5))
    assert all(part.first <= part.turns[0] - 4 for part in parts)


DECIDING = dataclasses.replace(PLAIN, decisions=True)


def decided(heard, body: dict) -> dict:
    """What the decision endpoint says: by the honest rule for labels, else the first option."""
    by_turn = {str(v["turn"]): v["label"] for v in json.loads(heard.honest(body))["turns"]}
    answers = {}
    for name, question in body["questions"].items():
        options = list(question["criteria"])
        best = by_turn.get(name, options[0])
        rest = 0.2 / (len(options) - 1) if len(options) > 1 else 0.0
        shares = {option: 1 - rest * (len(options) - 1) if option == best else rest for option in options}
        answers[name] = {"type": "choice", "probabilities": shares}
    return {"answers": answers, "usage": {"input_tokens": 9, "output_tokens": 0}}


def test_probabilities_of_the_decision_endpoint_are_taken(heard, judge_of, said, chat):
    judge, server = judge_of(
        lambda body, _: said(decided(heard, body)) if "questions" in body else heard.honest(body), able=DECIDING
    )
    first, second = judge.label([chat("q", "a", "that is wrong", "b", "go on")])
    assert (first.label, first.p_dsat, first.p_sat, first.evidence) == ("DSAT", 0.8, 0.1, "wrong")
    assert (second.label, second.p_dsat) == ("NEUTRAL", 0.1)
    assert sorted(path for path, *_ in server.requests) == ["/v1/chat/completions", "/v1/systemone"]


def test_the_decision_endpoint_alone_can_judge(heard, judge_of, said, chat):
    judge, server = judge_of(lambda body, _: said(decided(heard, body)), able=DECIDING, backend="decisions")
    first, second = judge.label([chat("q", "a", "Hm. That is wrong!", "b", "go on")])
    assert (first.label, first.subtype, first.evidence, first.p_dsat) == ("DSAT", "rephrase", "Hm.", 0.8)
    assert ("D1", 8) in first.rubric
    assert (second.label, second.evidence, second.rubric) == ("NEUTRAL", None, ())
    assert server.chats() == []


def test_options_of_decisions_are_escaped_too(heard, judge_of, said, chat, injections):
    judge, server = judge_of(lambda body, _: said(decided(heard, body)), able=DECIDING, backend="decisions")
    list(judge.label(chat("q", "a", f"{text} wrong") for text in injections))
    for _, body, _ in server.requests:
        shown = [*body["questions"].get("evidence", {}).get("criteria", {}).values()]
        assert not any(set(text) & set("<>\u202e\u200b\n") for text in shown)


def test_the_version_names_prompt_rubric_model_and_backend(judge_of):
    versions = {judge_of(able=able)[0].version for able in (PLAIN, PLAIN, DECIDING)}
    assert len(versions) == 2


@pytest.mark.parametrize(
    "told", ["[]", '{"turns": [null]}', '{"turns": [[]]}', "\x00", "{" * 5000, '{"turns": {"a": 1}}']
)
def test_garbage_never_breaks_the_judge(judge_of, chat, told):
    judge, _ = judge_of(lambda *_: told)
    assert [one.label for one in judge.label([chat("a", "b", "wrong")])] == ["ABSTAIN"]
