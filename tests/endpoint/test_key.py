"""The key of a server: what may be in its variable, and that no message repeats it."""

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Endpoint, Reply, Unanswered
from drift.errors import PrerequisiteError

KEY = "sk-abcdefgh-0123456789"


def test_a_key_with_a_line_break_at_its_end_is_sent_without_it(serve, said, settings, ask, monkeypatch):
    monkeypatch.setenv("SOME_KEY", f" {KEY}\r\n")
    server = serve(lambda *_: said.chat("ok"))
    with Endpoint(settings(server, api_key_env="SOME_KEY")) as endpoint:
        assert isinstance(endpoint.ask(ask()), Reply)
    assert server.requests[0][2]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (f"{KEY}\nsecond", "SOME_KEY holds no key: character 23 is a space, a control character or not ASCII"),
        (f"{KEY[:5]}\u00e9{KEY[5:]}", "SOME_KEY holds no key: character 6 is"),
        ("two words", "SOME_KEY holds no key: character 4 is"),
        (" \n", "SOME_KEY is not set"),
    ],
)
def test_what_is_no_key_is_one_line_that_does_not_show_it(monkeypatch, key, message):
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(PrerequisiteError, match=message) as error:
        Endpoint(EndpointSettings(base_url="http://localhost", model="m", api_key_env="SOME_KEY"))
    assert KEY[:5] not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 400, "body": {"error": {"message": f"not with the key {KEY}"}}},
        {"status": 500, "body": ("a" * 290 + KEY).encode()},  # messages are cut
        {"status": 401, "body": {"error": f"bad key {KEY}"}},
        {"status": 307, "headers": {"location": f"http://other/v1?key={KEY}"}},
        {"status": 429, "body": f"Bearer {KEY}".encode(), "headers": {"retry-after": "86400"}},
        {"status": 404, "body": {"error": f"no model for {KEY}"}},
        {"status": 200, "body": {"headers": {"Authorization": f"Bearer {KEY}"}}},  # it repeats what it was sent
        {"status": 200, "body": (" " * 70 + KEY).encode()},
    ],
)
def test_no_message_repeats_the_key(serve, said, settings, ask, monkeypatch, answer):
    monkeypatch.setenv("SOME_KEY", KEY)
    server = serve(lambda *_: said(**{"body": b"", **answer}))
    with Endpoint(settings(server, api_key_env="SOME_KEY", retries=0)) as endpoint:
        try:
            outcome = endpoint.ask(ask())
            assert isinstance(outcome, Unanswered)
            message = outcome.detail
        except PrerequisiteError as error:
            message = str(error)
    assert KEY[:8] not in message


def test_a_password_in_the_address_is_sent_and_not_shown(serve, said, settings, ask):
    server = serve(lambda *_: said(b"no", 401))
    address = server.url.replace("http://", "http://me:s3cret-pass@")
    there = settings(server, base_url=address)
    with Endpoint(there) as endpoint, pytest.raises(PrerequisiteError, match="http://me@") as error:
        endpoint.ask(ask())
    assert "s3cret" not in str(error.value)
    assert server.requests[0][2]["Authorization"].startswith("Basic ")
