"""What a judge may cost, and the key that it wants."""

from dataclasses import dataclass

from drift.config import EndpointSettings
from drift.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Terms:
    """`api_key_env`: the NAME of the environment variable. Prices per million tokens, `max_cost` in their currency."""

    api_key_env: str | None = None
    price_input: float | None = None
    price_output: float | None = None
    max_cost: float | None = None

    def apply(self, settings: EndpointSettings) -> EndpointSettings:
        """Raises ConfigError for a limit without prices: nothing could be held to it."""
        if self.max_cost is not None and None in (self.price_input, self.price_output):
            raise ConfigError("--max-cost needs prices: --price-input and --price-output, per million tokens.")
        return settings.model_copy(
            update={
                "api_key_env": self.api_key_env,
                "price_per_million_input": self.price_input,
                "price_per_million_output": self.price_output,
                "max_cost": self.max_cost or None,
            }
        )
