"""The client against a real server on loopback that is good, busy, broken, slow or absent."""

import socket
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Cache, CostLimitReached, DecisionRequest, Endpoint, Question, Reply, Unanswered
from drift.endpoint.client import FIRST
from drift.endpoint.transport import retry_after
from drift.errors import ConfigError, DataError, PrerequisiteError


def test_a_request_goes_out_as_it_was_meant_and_its_answer_comes_back(serve, said, settings, ask, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "s3cret")
    told = {"top_logprobs": [{"token": "Yo", "logprob": -2.0}, {"token": "Hi", "logprob": -0.2}]}
    logprobs = {"content": [{"token": "Hi", "logprob": -0.2, **told}]}
    server = serve(lambda *_: said.chat("Hi", logprobs=logprobs))
    with Endpoint(settings(server, api_key_env="SOME_KEY")) as endpoint:
        reply = endpoint.ask(ask("hello", seed=3, top_logprobs=2, temperature=0.5, extra={"top_k": 5}))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.choices[0].finish, reply.cost, reply.cached) == ("Hi", "stop", None, False)
    assert [(c.token, c.logprob) for c in reply.choices[0].tokens[0]] == [("Hi", -0.2), ("Yo", -2.0)]
    ((path, body, headers),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer s3cret"
    assert not [name for name in headers if name.lower().startswith("x-")]
    assert body == {
        "model": "tiny", "max_tokens": 20, "temperature": 0.5, "seed": 3, "logprobs": True, "top_logprobs": 2,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}], "top_k": 5,
    }  # fmt: skip


def test_answers_come_in_the_order_of_the_requests(serve, said, settings, ask):
    def slow_if_even(path, body, number):
        text = body["messages"][-1]["content"]
        return said(said.chat(text).body, delay=0.02 if int(text) % 2 == 0 else 0.0)

    server = serve(slow_if_even)
    with Endpoint(settings(server, max_concurrency=4)) as endpoint:
        replies = list(endpoint.ask_many(ask(str(n)) for n in range(40)))
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [str(n) for n in range(40)]
    assert 1 < server.most_at_once <= 4


def test_a_busy_server_is_waited_for_as_long_as_it_asks(serve, said, settings, ask):
    times = []

    def busy_once(path, body, number):
        times.append(time.monotonic())
        return said(b"", 429, {"retry-after": "1"}) if number == 1 else said.chat("ok")

    with Endpoint(settings(serve(busy_once))) as endpoint:
        assert isinstance(endpoint.ask(ask()), Reply)
    assert times[1] - times[0] >= 1.0


def test_a_server_whose_clock_is_an_hour_off_is_waited_for_by_its_own_clock():
    an_hour_ahead = datetime.now(UTC) + timedelta(hours=1)
    headers = {"date": format_datetime(an_hour_ahead), "retry-after": format_datetime(an_hour_ahead + timedelta(0, 7))}
    assert retry_after(headers) == 7
    assert retry_after({"retry-after": format_datetime(datetime.now(UTC) - timedelta(hours=1))}) == 0


def test_a_strained_server_gets_everything_a_second_time(serve, said, settings, ask):
    def strained(path, body, number):
        return said(b"{}", 503) if 10 <= number < 13 else said(said.chat("ok").body, delay=0.002)

    server = serve(strained)
    with Endpoint(settings(server, max_concurrency=16, retries=5)) as endpoint:
        assert all(isinstance(outcome, Reply) for outcome in endpoint.ask_many(ask(str(n)) for n in range(60)))
    assert len(server.requests) == 63


def test_one_strain_halves_once(settings):
    from drift.endpoint.client import Pace

    pace, begun = Pace(16), time.monotonic()
    for _ in range(8):
        pace.strained(begun, 0.0)  # all of them were under way at the same time
    assert pace.limit == 2.0
    pace.strained(time.monotonic(), 0.0)
    pace.strained(time.monotonic(), 0.0)
    assert pace.limit == 1.0
    for _ in range(10):  # one more per round: 1 + 2 + 3 + 4 successes
        pace.succeeded()
    assert 4.0 < pace.limit < 5.0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"body": b'{"error": {"message": "boom"}}', "status": 500}, "server"),
        ({"body": b"<html>not json</html>"}, "garbage"),
        ({"body": b'{"choices": []}'}, "garbage"),
        ({"body": b'{"choices": [{"message": {"content": 3}}]}'}, "garbage"),
        ({"body": b'{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": 1}]}}]}'}, "garbage"),
        ({"body": b"", "status": 429}, "busy"),
        ({"body": b'{"error": "the prompt is too long"}', "status": 400}, "refused"),
        ({"body": b"", "delay": 0.5}, "timeout"),
    ],
)
def test_what_cannot_be_answered_is_named_and_is_no_reply(serve, said, settings, ask, answer, problem):
    server = serve(lambda *_: said(**answer))
    short = {"timeout": 0.15} if problem == "timeout" else {}
    with Endpoint(settings(server, retries=2, **short)) as endpoint:
        outcome = endpoint.ask(ask())
    assert isinstance(outcome, Unanswered)
    assert outcome.problem == problem
    assert len(server.requests) == (1 if problem == "refused" else 3)


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nx-slow: ", b"a"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x"),
    ],
    ids=["body", "header", "processing", "size of a chunk"],
)
def test_a_server_that_trickles_is_not_waited_for_for_ever(ask, begin: bytes, part: bytes):
    """Until it hangs up, which would be a problem of the connection."""

    def trickle(listener):
        connection, _ = listener.accept()
        connection.recv(65536)
        with suppress(OSError), connection:
            connection.sendall(begin)
            for _ in range(100):
                connection.sendall(part)
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Endpoint(EndpointSettings(base_url=url, model="m", timeout=0.3, retries=0)) as endpoint:
            outcome = endpoint.ask(ask())
    assert outcome == Unanswered("timeout", "no complete answer within 0.3 s")


def test_a_server_that_keeps_failing_ends_the_command(serve, said, settings, ask):
    server = serve(lambda path, body, number: said.chat("ok") if number == 1 else said(b"", 500))
    with (
        Endpoint(settings(server, retries=0, max_concurrency=1)) as endpoint,
        pytest.raises(PrerequisiteError, match="run the same command to continue"),
    ):
        list(endpoint.ask_many(ask(str(n)) for n in range(50)))
    assert len(server.requests) < 20


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 401, "body": b'{"error": {"message": "bad key"}}'}, "401: bad key.*api_key_env"),
        ({"status": 429, "body": b'{"error": {"code": "insufficient_quota"}}'}, "429"),
        ({"status": 404, "body": b'{"error": {"message": "The model tiny does not exist"}}'}, "lists what is served"),
        ({"status": 307, "headers": {"location": "http://other/v1"}}, "moved to 'http://other/v1'"),
        ({"status": 429, "headers": {"retry-after": "86400"}}, "asks to wait 86400 s"),
    ],
)
def test_what_no_retry_can_mend_is_told_in_one_line(serve, said, settings, ask, answer, told):
    with Endpoint(settings(serve(lambda *_: said(**answer)))) as endpoint, pytest.raises(PrerequisiteError, match=told):
        endpoint.ask(ask())


def test_nobody_there_an_impossible_address_and_a_missing_key(settings, ask, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    nobody = EndpointSettings(base_url="http://127.0.0.1:1/v1", model="m")
    with Endpoint(nobody) as endpoint, pytest.raises(PrerequisiteError, match="no server answers"):
        endpoint.ask(ask())
    with pytest.raises(ConfigError, match=r"base_url 'http://1\.2\.3\.999/v1': Invalid IPv4 address.* Write it as"):
        Endpoint(EndpointSettings(base_url="http://1.2.3.999", model="m"))
    impossible = EndpointSettings(base_url="http://a..b", model="m")
    with Endpoint(impossible) as endpoint, pytest.raises(PrerequisiteError, match="no server answers"):
        endpoint.ask(ask())
    with pytest.raises(PrerequisiteError, match="NO_SUCH_KEY is not set"):
        Endpoint(EndpointSettings(base_url="http://localhost", model="m", api_key_env="NO_SUCH_KEY"))
    with pytest.raises(ConfigError, match="max_cost needs prices"):
        Endpoint(EndpointSettings(base_url="http://localhost", model="m", max_cost=1))


def test_what_was_answered_is_never_paid_again(serve, said, settings, ask, tmp_path):
    server, file = serve(lambda *_: said.chat("ok")), tmp_path / "answers.sqlite"
    requests = [ask(str(n)) for n in range(5)]
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 2.0}
    with Endpoint(settings(server, **prices), file) as endpoint:
        paid = list(endpoint.ask_many(requests))
        assert endpoint.spending.cost == pytest.approx(5 * 20e-6)
    with Endpoint(settings(server), file) as endpoint:
        again = list(endpoint.ask_many(requests))
        assert (endpoint.spending.requests, endpoint.spending.cached) == (0, 5)
    assert len(server.requests) == 5
    assert all(isinstance(reply, Reply) and reply.cached and reply.cost == pytest.approx(20e-6) for reply in again)
    assert [r.text for r in paid if isinstance(r, Reply)] == [r.text for r in again if isinstance(r, Reply)]


def test_another_parameter_prompt_input_sample_or_model_is_another_answer(serve, said, settings, ask, tmp_path):
    server, file = serve(lambda *_: said.chat("ok")), tmp_path / "answers.sqlite"
    different = [ask(), ask("ho"), ask(seed=1), ask(temperature=1.0), ask(sample=1), ask(max_tokens=9)]
    for model in ("tiny", "other"):
        with Endpoint(settings(server, model=model), file) as endpoint:
            list(endpoint.ask_many([*different, ask()]))
    assert len(server.requests) in (12, 13, 14)  # the one that stands twice may be under way twice


def test_failures_are_not_cached_and_a_file_that_is_no_cache_is_refused(serve, said, settings, ask, tmp_path):
    server = serve(lambda path, body, number: said.chat("ok") if number > 1 else said(b"x" * 10))
    with Endpoint(settings(server, retries=0), tmp_path / "c.sqlite") as endpoint:
        assert isinstance(endpoint.ask(ask()), Unanswered)
        assert isinstance(endpoint.ask(ask()), Reply)
    (tmp_path / "other").write_bytes(b"hello" * 500)
    with pytest.raises(DataError, match="cannot be used as the answer cache"):
        Endpoint(settings(server), tmp_path / "other")


def test_answers_about_a_conversation_can_be_forgotten(serve, said, settings, ask, tmp_path):
    server, file = serve(lambda *_: said.chat("ok")), tmp_path / "c.sqlite"
    requests = [ask("a", owner="a"), ask("b", owner="b")]
    with Endpoint(settings(server), file) as endpoint:
        list(endpoint.ask_many(requests))
    cache = Cache(file)
    assert (cache.forget(["a"]), cache.forget(["a"])) == (1, 0)
    assert [cache.find(request, "tiny") is not None for request in requests] == [False, True]
    cache.close()


def test_what_a_judge_said_about_the_forgotten_is_in_no_file(serve, said, settings, ask, tmp_path):
    """Neither on free pages of the database nor in its log, which another process may keep open."""
    server = serve(lambda path, body, number: said.chat("a secret of " + body["messages"][-1]["content"]))
    with Endpoint(settings(server), tmp_path / "c.sqlite") as endpoint:
        list(endpoint.ask_many([ask(name, owner=name) for name in ("Ann", "Bob")]))
        with closing(Cache(tmp_path / "c.sqlite")) as cache:
            cache.forget(["Ann"])
        left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret of Ann" not in left
    assert b"secret of Bob" in left


def test_the_limit_of_cost_is_never_passed(serve, said, settings, ask):
    server = serve(lambda *_: said.chat("ok", tokens_in=40, tokens_out=20))
    limit = 500e-6
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 2.0, "max_cost": limit}
    answered = []
    with Endpoint(settings(server, **prices)) as endpoint:
        with pytest.raises(CostLimitReached, match="To continue, run the same command with a higher limit"):
            answered.extend(endpoint.ask_many(ask(str(n)) for n in range(50)))
        spent = endpoint.spending.cost
    assert spent is not None
    bound = (ask("1").most_tokens()[0] + 2 * 20) * 1e-6
    assert limit - bound < spent <= limit  # no request more would have been sure to fit
    assert len(server.requests) == round(spent / 80e-6)
    assert len(answered) <= len(server.requests)


def test_a_server_that_reports_no_usage_is_counted_at_its_bound(serve, said, settings, ask):
    body = {"choices": [{"message": {"content": "ok"}}]}
    with Endpoint(settings(serve(lambda *_: said(body)))) as endpoint:
        reply = endpoint.ask(ask("four"))
        assert isinstance(reply, Reply)
        assert (reply.usage.reported, reply.usage.output_tokens) == (False, 20)
        assert endpoint.spending.input_tokens == len("Be brief." + "four") + 2 * 16


def test_decisions_are_checked(serve, said, settings):
    question = Question("Fine?", {"yes": "It is", "no": "It is not"})
    good, bad = {"probabilities": {"yes": 0.75, "no": 0.25}}, {"probabilities": {"yes": 0.9, "no": 0.9}}
    server = serve(lambda *_: said({"answers": {"a": good, "b": bad, "x": good}, "usage": {"input_tokens": 7}}))
    with Endpoint(settings(server)) as endpoint:
        reply = endpoint.ask(DecisionRequest("state", {"a": question, "b": question, "c": question}))
    assert isinstance(reply, Reply)
    assert reply.probabilities == {"a": {"yes": 0.75, "no": 0.25}}
    assert server.requests[0][0] == "/v1/systemone"
    asked = server.requests[0][1]["questions"]["a"]
    assert asked == {"type": "choice", "instructions": "Fine?", "criteria": {"yes": "It is", "no": "It is not"}}


def test_what_waits_when_the_command_stops_is_not_sent(serve, said, settings, ask):
    gate = threading.Event()

    def answer(path, body, number):
        if body["messages"][-1]["content"] != "0":  # whichever of the first requests arrives first
            gate.wait(20)
        return said.chat("ok")

    server = serve(answer)
    with Endpoint(settings(server, max_concurrency=8, timeout=30.0)) as endpoint:
        outcomes = endpoint.ask_many(ask(str(n)) for n in range(20))
        next(outcomes)
        while len(server.requests) < 1 + FIRST:  # as many are under way as may be: the others wait for a place
            time.sleep(0.01)
        threading.Timer(0.5, gate.set).start()
        outcomes.close()
    assert len(server.requests) == 1 + FIRST


def test_who_stops_reading_keeps_what_was_under_way(serve, said, settings, ask, tmp_path):
    server, file = serve(lambda *_: said(said.chat("ok").body, delay=0.05)), tmp_path / "c.sqlite"
    with Endpoint(settings(server, max_concurrency=4), file) as endpoint:
        outcomes = endpoint.ask_many(ask(str(n)) for n in range(100))
        next(outcomes)
        outcomes.close()
    with closing(Cache(file)) as cache:
        kept = sum(cache.find(ask(str(n)), "tiny") is not None for n in range(100))
    assert kept == len(server.requests) < 30
