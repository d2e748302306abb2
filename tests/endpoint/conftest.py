import pytest

from drift.config import EndpointSettings
from drift.endpoint import ChatRequest
from drift.records import ChatMessage


@pytest.fixture(scope="session")
def settings():
    """`settings(loopback, retries=1)`: of a model named tiny behind that server."""

    def make(loopback, **changes) -> EndpointSettings:
        return EndpointSettings(**{"base_url": loopback.url, "model": "tiny", "timeout": 2.0, "retries": 2, **changes})

    return make


@pytest.fixture(scope="session")
def ask():
    """`ask("hi", seed=1)`: a request."""

    def make(text: str = "hi", **parameters) -> ChatRequest:
        messages = (ChatMessage("system", "Be brief."), ChatMessage("user", text))
        return ChatRequest(messages, **{"max_tokens": 20, **parameters})

    return make


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Retries wait a hundredth of what they would."""
    monkeypatch.setattr("drift.endpoint.client.pause_before", lambda attempt: 0.005 * attempt)
