"""`drift rubric fit` against a loopback model that extracts, summarises and scores by simple rules."""

import json

import pytest

from drift.config import EndpointSettings
from drift.endpoint.fence import CLOSE, OPEN
from drift.errors import DataError
from drift.feedback.judge.rubric import Item, load_rubric
from drift.feedback.spur.fit import Scored, fit_rubric, regress, sign_test
from drift.store import Review, Reviews, Store

BAD = ["That is wrong.", "It does not work, error 5", "wrong again"]
GOOD = ["thanks a lot", "works now, thanks", "great, thanks"]
FINE = ["and in French?", "continue", "now sort it"]
ITEMS = {
    "DSAT": [{"text": "States that something is wrong.", "support": 9}, {"text": "Mentions a number.", "support": 2}],
    "SAT": [{"text": "Thanks the assistant.", "support": 12}, {"text": "Says the weather is nice.", "support": 1}],
}


def lines_of(text: str) -> list[dict]:
    inside = text[text.rindex(OPEN) + len(OPEN) : text.rindex(CLOSE)]
    return [json.loads(line) for line in inside.strip().splitlines()]


def model(said):
    def answer(path, body, number):
        if "chat" not in path:
            return said(b"", 404)
        system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
        verdict = "DSAT" if "dissatisfied" in system else "SAT"
        if "<reasons>" in user:
            return said.chat(json.dumps({"items": ITEMS[verdict]}))
        if not user.startswith(OPEN):
            return said.chat("The sea.")
        (line,) = [line for line in lines_of(user) if line.get("judge")]
        if '"reasons"' in system:
            true = {"reason": "Signs of it", "quote": line["text"][:5]}
            return said.chat(json.dumps({"reasons": [true, {"reason": "made up", "quote": "nowhere to be found"}]}))
        bad, good = "wrong" in line["text"] or "error" in line["text"], "thanks" in line["text"]
        told = {"label": "DSAT" if bad else "SAT" if good else "NEUTRAL", "p_dsat": 0.8 if bad else 0.1}
        items = [{"id": "D1", "impact": 8}] * bad + [{"id": "S1", "impact": 6}] * good
        items += [{"id": "D2", "impact": 5}]  # holds of every turn: it tells nothing
        evidence = line["text"] if bad or good else ""
        return said.chat(json.dumps({"turns": [{"turn": line["turn"], "evidence": evidence, "items": items, **told}]}))

    return answer


@pytest.fixture
def store(tmp_path, chat) -> Store:
    made = Store(tmp_path / "store")
    texts = {"DSAT": BAD, "SAT": GOOD, "NEUTRAL": FINE}
    made.add(chat("q", "a", f"{texts[v][i % 3]} {i}", name=f"{v}{i}") for v in texts for i in range(12))
    for verdict in texts:
        for i in range(12):
            Reviews(made.path).add(Review("me", f"{verdict}{i}", 1, 2, verdict))
    return made


def test_a_rubric_is_learnt_and_what_points_nowhere_is_dropped(store, serve, said, tmp_path):
    server, out = serve(model(said)), tmp_path / "mine.yaml"
    settings = EndpointSettings(base_url=server.url, model="big", retries=0)
    done = fit_rubric(store, settings, out, None, per_class=100, least=10)
    assert (done.dsat_items, done.sat_items, done.dropped) == (1, 1, ["D2", "S2"])
    assert done.turns == {"DSAT": 12, "SAT": 12, "NEUTRAL": 12}
    assert done.held_out_auroc == 1.0
    assert 0 < done.held_out_turns < 36
    assert done.reasons["DSAT"] < 12  # held-out conversations give none, and made-up quotes do not count
    rubric = load_rubric(out)
    assert rubric.regression is not None
    assert rubric.regression.weights["D1"] > 0 > rubric.regression.weights["S1"]
    assert rubric.provenance["model"] == "big"
    assert rubric.provenance["dropped"] == {"D2": "Mentions a number.", "S2": "Says the weather is nice."}
    heard = len(server.requests)
    fit_rubric(store, settings, out, None, per_class=100, least=10)
    assert len(server.requests) - heard <= 10  # the probe alone: all else is cached


def test_too_few_labelled_conversations_are_told(store, tmp_path):
    nobody = EndpointSettings(base_url="http://127.0.0.1:9", model="m")
    with pytest.raises(DataError, match="at least 30 labelled conversations per class; there are 12 DSAT and 12 SAT"):
        fit_rubric(store, nobody, tmp_path / "r.yaml", None, per_class=100, least=30)


def test_a_model_that_writes_no_rubric_is_told(store, serve, said, tmp_path):
    server = serve(lambda path, *_: said.chat("hm") if "chat" in path else said(b"", 404))
    settings = EndpointSettings(base_url=server.url, model="weak", retries=0)
    with pytest.raises(DataError, match="stronger model"):
        fit_rubric(store, settings, tmp_path / "r.yaml", None, per_class=100, least=10)


def test_signs_and_weights_by_hand():
    items = (Item(id="D1", text="wrong"), Item(id="S1", text="thanks"))
    held = [Scored({"D1": 8}, True, True), Scored({"S1": 4}, False, True), Scored({"D1": 2, "S1": 2}, False, True)]
    d, s = sign_test(items, held)
    assert (d.inside, d.outside, d.difference, d.kept) == (1, 1, 7.0, True)
    assert (s.inside, s.outside, s.difference, s.kept) == (2, 0, 3.0, True)
    fit = [Scored(turn.impacts, turn.dissatisfied, False, 1.0, 0.9 if turn.dissatisfied else 0.1) for turn in held]
    fitted = regress(items, [*held, *fit])
    assert fitted.weights["D1"] > 0
    assert fitted.server > 0
