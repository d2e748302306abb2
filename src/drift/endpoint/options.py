"""A server as the command line names it: URL#MODEL, with the key's variable, the prices and the limits beside it."""

from dataclasses import dataclass

from pydantic import ValidationError

from drift.config import EndpointSettings, explain
from drift.errors import ConfigError


@dataclass(frozen=True, slots=True)
class JudgePricing:
    """The options that stand beside URL#MODEL: how the server is paid, and how hard it may be used.

    `api_key_env`: the NAME of the environment variable that holds the key. Prices are per million tokens, and
    `max_cost` is in their currency. `max_concurrency`: requests in flight; None keeps the default of EndpointSettings.
    `max_tokens`: least limit of an answer, for judges that think; None: what the answer alone needs.
    """

    api_key_env: str | None = None
    price_input: float | None = None
    price_output: float | None = None
    max_cost: float | None = None
    max_concurrency: int | None = None
    max_tokens: int | None = None


UNPRICED = JudgePricing()


def endpoint_settings(spec: str | None, pricing: JudgePricing = UNPRICED) -> EndpointSettings:
    """The server and the model that `spec`, URL#MODEL, names.

    Raises ConfigError if one of them is missing or the address is none, and for a cost limit without prices.
    """
    if spec is None:
        raise ConfigError("a judge is needed: --judge URL#MODEL, for example --judge http://127.0.0.1:8000/v1#NAME.")
    url, _, model = spec.partition("#")
    if not url or not model:
        example = f"{url or 'http://127.0.0.1:8000/v1'}#NAME"
        raise ConfigError(f"server {spec!r}: expected URL#MODEL, with the model's name, for example {example}.")
    if pricing.max_cost is not None and None in (pricing.price_input, pricing.price_output):
        raise ConfigError(
            f"--max-cost {pricing.max_cost:g} needs prices: --price-input and --price-output, per million tokens."
        )
    given = {
        "base_url": url,
        "model": model,
        "api_key_env": pricing.api_key_env,
        "price_per_million_input": pricing.price_input,
        "price_per_million_output": pricing.price_output,
        "max_cost": pricing.max_cost,
        "max_tokens": pricing.max_tokens,
        **({} if pricing.max_concurrency is None else {"max_concurrency": pricing.max_concurrency}),
    }
    try:
        return EndpointSettings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"server {spec!r}: {explain(error, EndpointSettings)}") from None
