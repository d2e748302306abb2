"""What a judge may cost, and the key that it wants."""

from dataclasses import dataclass

from drift.config import EndpointSettings
from drift.errors import ConfigError


def endpoint_of(source: str) -> EndpointSettings:
    """URL#MODEL. Raises ConfigError without a model's name."""
    url, _, model = source.partition("#")
    if not model:
        raise ConfigError(f"{source}: name the model behind the address, for example {url}#NAME.")
    return EndpointSettings(base_url=url, model=model)


def one_of(existing: str, files: object, model: str | None, judge: str | None) -> bool:
    """Are existing files to be measured, and not a model? Raises ConfigError unless it is exactly one of the two."""
    if bool(files) == (model is not None) or (model is not None and judge is None):
        raise ConfigError(f"give either {existing}, or a MODEL and --judge URL#NAME to have it judged.")
    return bool(files)


@dataclass(frozen=True, slots=True)
class Terms:
    """`api_key_env`: the NAME of the environment variable. Prices per million tokens, `max_cost` in their currency."""

    api_key_env: str | None = None
    price_input: float | None = None
    price_output: float | None = None
    max_cost: float | None = None

    def judge(self, source: str) -> EndpointSettings:
        """The judge behind URL#MODEL, on these terms. Raises ConfigError."""
        return self.apply(endpoint_of(source))

    def apply(self, settings: EndpointSettings) -> EndpointSettings:
        """Raises ConfigError for a limit without prices: nothing could be held to it."""
        if self.max_cost is not None and None in (self.price_input, self.price_output):
            raise ConfigError("--max-cost needs prices: --price-input and --price-output, per million tokens.")
        return settings.model_copy(
            update={
                "api_key_env": self.api_key_env,
                "price_per_million_input": self.price_input,
                "price_per_million_output": self.price_output,
                "max_cost": self.max_cost,
            }
        )
