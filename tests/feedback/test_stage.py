"""`drift label` with a judge: into the store, in a cascade, within a budget, and again after a kill -9."""

import json
import signal
import subprocess
import sys
import time

import pytest

from command import drift
from drift.config import EndpointSettings, LabelSettings
from drift.endpoint import ANSWERS
from drift.endpoint.fence import CLOSE, OPEN
from drift.errors import ConfigError
from drift.feedback.label import label_store
from drift.feedback.stage import JudgedSummary, label_by, plan, select
from drift.records import Rating
from drift.store import Store

PRICES = {"price_per_million_input": 1.0, "price_per_million_output": 4.0}


def lines_of(body: dict) -> list[dict]:
    text = body["messages"][-1]["content"]
    return [json.loads(line) for line in text.removeprefix(OPEN).removesuffix(CLOSE).strip().splitlines()]


@pytest.fixture
def judging(serve, said):
    """A server whose judge calls each turn with "bad" in it DSAT."""

    def answer(path, body, number):
        if "chat" not in path:
            return said(b"", 404)
        if not body["messages"][-1]["content"].startswith(OPEN):
            return said.chat("The sea is wide.")  # the probe's question
        turns = []
        for line in lines_of(body):
            bad = "bad" in line["text"]
            told = {"label": "DSAT", "evidence": "bad", "p_dsat": 0.9} if bad else {"label": "NEUTRAL", "p_dsat": 0.1}
            turns += [{"turn": line["turn"], "subtype": "wrong", "items": [], **told}] if line.get("judge") else []
        return said(said.chat(json.dumps({"turns": turns}), 1000, 50).body, delay=answer.delay)

    answer.delay = 0.0
    server = serve(answer)
    server.slow = lambda seconds: setattr(answer, "delay", seconds)
    server.judged = lambda: [body for body in server.chats() if body["messages"][-1]["content"].startswith(OPEN)]
    return server


def settings(server, labeller="judge", **changes) -> LabelSettings:
    endpoint = {"base_url": server.url, "model": "judge", "retries": 0, "max_concurrency": 2}
    own = {name: changes.pop(name) for name in list(changes) if name in EndpointSettings.model_fields}
    return LabelSettings(labeller=labeller, endpoint=EndpointSettings(**{**endpoint, **own}), **changes)


@pytest.fixture
def store(tmp_path, chat) -> Store:
    made = Store(tmp_path / "store")
    made.add([
        *(chat("q", "a", f"Please go on, part {n}", name=f"fine{n}") for n in range(12)),
        *(chat("q", "a", f"That's wrong and bad! {n}", name=f"bad{n}") for n in range(4)),
        chat("q", "a", "a bad and quiet one", name="quiet"),
        chat("q", "a", "bad bad", name="rated", ratings=(Rating(1, "thumb", -1.0),)),
    ])  # fmt: skip
    return made


def test_the_judges_labels_come_into_the_store(judging, store):
    done = label_by(store, settings(judging, **PRICES))
    assert isinstance(done, JudgedSummary)
    assert done.judge is not None
    assert (done.conversations, done.labels) == (18, {"NEUTRAL": 12, "DSAT": 6})
    assert done.judge.server.startswith("supports seed; not n")
    assert done.judge.spending.cost == pytest.approx(18 * (1000 + 4 * 50) / 1e6, rel=0.2)  # and the probe's
    assert {told.labeller for told in store.labels()} == {"judge", "rating"}
    (thumb,) = [told for told in store.labels() if told.labeller == "rating"]
    assert thumb.evidence == "bad"  # what followed the bare thumb reads as its reason


def test_a_finished_job_needs_no_server_again_and_new_chats_do(judging, store, chat):
    label_by(store, settings(judging))
    asked = len(judging.requests)
    nobody = EndpointSettings(base_url="http://127.0.0.1:9/v1", model="judge")
    assert label_by(store, LabelSettings(labeller="judge", endpoint=nobody)).added == 0
    assert len(judging.requests) == asked
    store.add([chat("q", "a", "a bad new one", name="new")])
    assert label_by(store, settings(judging)).added == 1
    assert len(judging.judged()) == 19


def test_a_cascade_sees_the_band_and_an_audit_slice(judging, store):
    told = settings(judging, "cascade", experimental={"audit_share": 0.5})
    done = label_by(store, told)
    assert isinstance(done, JudgedSummary)
    assert done.judge is not None
    assert done.cascade is not None
    chosen = select(store, told)
    assert {f"bad{n}" for n in range(4)} <= set(chosen.band)
    assert 0 < len(chosen.audit) < 12
    assert len(judging.judged()) == len(chosen.band) + len(chosen.audit) < 18
    assert done.cascade.band.judged == len(chosen.band)
    assert done.cascade.rest.size == 18 - len(chosen.band)
    assert done.cascade.prevalence is not None
    assert {told.labeller for told in store.labels()} == {"judge", "rating", "embedded"}


def test_the_dry_run_says_what_it_would_take_and_asks_nobody(judging, store):
    told = plan(store, settings(judging, **PRICES))
    assert (told.turns, told.estimate.questions) == (18, 18)
    assert told.estimate.cost is not None
    assert told.most_cost is not None
    assert 0 < told.estimate.cost < told.most_cost
    assert list(told.plain()) == ["turns", "calls", "input_tokens", "output_tokens", "cost", "most_cost"]
    assert (told.plain()["calls"], told.plain()["output_tokens"]) == (18, 18 * 70)
    assert judging.requests == []
    free = plan(store, settings(judging))
    assert (free.estimate.cost, free.most_cost) == (None, None)


def test_the_budget_ends_the_judge_and_what_it_bought_is_kept(judging, store):
    done = label_by(store, settings(judging, **PRICES, max_cost=0.012, max_concurrency=1))
    assert isinstance(done, JudgedSummary)
    assert done.judge is not None
    assert done.judge.stopped is not None
    assert "max_cost 0.012" in done.judge.stopped
    assert done.judge.spending.cost is not None
    assert done.judge.spending.cost <= 0.012
    assert 0 < sum(done.labels.values()) < 18
    first = len(judging.judged())
    again = label_by(store, settings(judging, **PRICES))
    assert again.labels == {"NEUTRAL": 12, "DSAT": 6}
    assert len(judging.judged()) == 18 >= first  # nothing was paid for twice


def test_killed_and_given_again_it_pays_for_nothing_twice(judging, store):
    judging.slow(0.15)
    command = ["label", "--store", str(store.path), "--labeller", "judge"]
    command += ["--judge", f"{judging.url}#judge", "--max-concurrency", "2", "--json"]
    started = [sys.executable, "-m", "drift", *command]
    process = subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(judging.judged()) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    judging.slow(0.0)
    before = len(judging.judged())
    assert 6 <= before < 18
    assert (store.path / ANSWERS).exists()
    assert list(store.labels()) == []
    done = drift(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["labels"] == {"NEUTRAL": 12, "DSAT": 6}
    assert len(judging.judged()) <= 18 + 2  # at most the two that were under way are asked for again


def test_a_judge_without_a_server_or_with_the_wrong_kind_is_refused(judging, store):
    with pytest.raises(ValueError, match=r"set labels\.endpoint\.base_url"):
        LabelSettings(labeller="judge")
    with pytest.raises(ConfigError, match="has no decision endpoint"):
        label_by(store, settings(judging, judge_by="decisions"))


def test_the_embedded_labeller_needs_no_server(store):
    assert label_by(store, LabelSettings()).added == 19
    assert label_store(store).added == 0


@pytest.mark.slow
def test_a_real_local_server_end_to_end(transformers_serve, store):
    """A random model knows nothing: the plumbing is what is looked at. Its written answers are no answers."""
    server = transformers_serve
    command = [sys.executable, "-m", "drift", "label", "--store", str(store.path), "--labeller", "judge", "--json"]
    command += ["--judge", f"{server.base_url}#{server.model}", "--max-concurrency", "2"]
    by_chat = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert by_chat.returncode == 0, by_chat.stderr
    told = json.loads(by_chat.stdout.splitlines()[-1])
    assert "JSON schema" in told["judge"]["server"].split("not")[1]
    assert told["judge"]["turns"] == 18
    decided = subprocess.run(
        [*command, "--judge-by", "decisions"], capture_output=True, text=True, timeout=500, check=False
    )
    assert decided.returncode == 0, decided.stderr
    labels = list(store.labels_by("judge"))
    assert len(labels) == 18
    texts = {one.conversation_id: one.messages for one in store.conversations()}
    for label in labels:
        assert label.p_dsat is None or 0 <= label.p_dsat <= 1
        assert label.evidence is None or label.evidence in texts[label.conversation_id][label.user_index or 0].content
