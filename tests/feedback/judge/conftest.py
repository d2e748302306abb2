"""A loopback judge: it reads the fenced conversation out of the request, and answers by a rule or with a recording."""

import json

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Capabilities, Endpoint
from drift.endpoint.fence import CLOSE, OPEN
from drift.feedback.judge.judge import JudgeLabeller
from drift.feedback.judge.rubric import load_rubric

PLAIN = Capabilities(many=False, logprobs=False, repeats=True, json_schema=False, json_mode=False, decisions=False)


def lines_of(body: dict) -> list[dict]:
    """The messages that reached the server, decoded."""
    text = body["messages"][-1]["content"] if "messages" in body else body["state"]
    inside = text[text.rindex(OPEN) + len(OPEN) : text.rindex(CLOSE)]
    return [json.loads(line) for line in inside.strip().splitlines()]


def verdict(line: dict) -> dict:
    """An honest rule: complaints say "wrong", thanks say "thanks"."""
    text = line["text"]
    for label, word, subtype in (("DSAT", "wrong", "wrong"), ("SAT", "thanks", "gratitude")):
        if word in text:
            p = 0.9 if label == "DSAT" else 0.1
            items = [{"id": label[0] + "1", "impact": 7}]
            told = {"label": label, "subtype": subtype, "evidence": word, "p_dsat": p, "items": items}
            return {"turn": line["turn"], **told}
    return {"turn": line["turn"], "label": "NEUTRAL", "subtype": None, "evidence": "", "p_dsat": 0.1, "items": []}


def honest(body: dict) -> str:
    return json.dumps({"turns": [verdict(line) for line in lines_of(body) if line.get("judge")]})


@pytest.fixture(scope="session")
def heard():
    """`heard.lines(body)`, `heard.honest(body)`: what a loopback judge makes of a request."""

    class Heard:
        lines = staticmethod(lines_of)
        honest = staticmethod(honest)
        plain = PLAIN

    return Heard


@pytest.fixture
def judge_of(serve, said):
    """`judge_of(answer, able=...)`: the labeller and the server it asks; `answer(body, number)` gives text or Said."""
    opened = []

    def make(answer=lambda body, _: honest(body), able=PLAIN, cache=None, rubric=None, **parameters):
        def say(path, body, number):
            told = answer(body, number)
            return said.chat(told) if isinstance(told, str) else told

        server = serve(say)
        settings = EndpointSettings(base_url=server.url, model="judge", retries=0, timeout=5)
        endpoint = Endpoint(settings, cache)
        opened.append(endpoint)
        return JudgeLabeller(endpoint, able, rubric or load_rubric(), **parameters), server

    yield make
    for endpoint in opened:
        endpoint.close()
