"""A model behind a server: its address, and how it is asked and paid."""

import os
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from drift.config.section import Settings


def server_address(url: str) -> str:
    """The address. Raises ValueError unless it is http(s)://HOST[:PORT][/PATH]."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        is_address = False
    if not is_address or re.search(r"[\s?#]", url):
        raise ValueError(f"{url!r} is no server's address; write it as http://HOST:PORT/v1 or https://HOST/v1")
    return url


def variable_name(name: str | None) -> str | None:
    """Raises ValueError for no variable and no usual name of one. It may be the key itself, so it is not shown."""
    if name is not None and name not in os.environ and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("write the NAME of the environment variable that holds the key, for example OPENAI_API_KEY")
    return name


class EndpointSettings(Settings):
    """An OpenAI-compatible server.

    `api_key_env`: name of the environment variable that holds the key; null sends no key. `max_concurrency`: maximum
    requests in flight. `timeout`: seconds for an attempt, from its start to the end of the answer. `retries`: further
    attempts after the first one fails. Prices are per million tokens, in any currency. `max_cost`, in that currency,
    limits what one command pays this server: a request whose cost could exceed it is not sent (docs/endpoint.md).
    `max_tokens`: the least token limit of a judge's answer, thoughts included; null: what the answer alone needs.
    """

    base_url: Annotated[str, AfterValidator(server_address)]
    model: str
    api_key_env: Annotated[str | None, AfterValidator(variable_name)] = None
    max_concurrency: PositiveInt = 8
    timeout: PositiveFloat = 120.0
    retries: int = Field(default=5, ge=0)
    max_tokens: PositiveInt | None = None
    price_per_million_input: float | None = Field(default=None, ge=0.0)
    price_per_million_output: float | None = Field(default=None, ge=0.0)
    max_cost: float | None = Field(default=None, gt=0.0)
