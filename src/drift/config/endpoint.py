"""A model behind a server: its address, and how it is asked and paid."""

from pydantic import Field, PositiveFloat, PositiveInt

from drift.config.section import Settings


class EndpointSettings(Settings):
    """An OpenAI-compatible server.

    `api_key_env`: name of the environment variable that holds the key; null sends no key. `max_concurrency`: maximum
    requests in flight. `timeout`: seconds per attempt. `retries`: further attempts after the first one fails. Prices
    are per million tokens, in any currency. `max_cost`, in that currency, is a limit: a request whose cost could
    exceed it is not sent. `max_tokens`: the least token limit of a judge's answer, thoughts included; null: what the
    answer alone needs.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    max_concurrency: PositiveInt = 8
    timeout: PositiveFloat = 120.0
    retries: int = Field(default=5, ge=0)
    max_tokens: PositiveInt | None = None
    price_per_million_input: float | None = Field(default=None, ge=0.0)
    price_per_million_output: float | None = Field(default=None, ge=0.0)
    max_cost: float | None = Field(default=None, gt=0.0)
