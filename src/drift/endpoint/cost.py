"""What requests cost: the price of tokens, for the client's budget and for the estimates of a dry run."""

from collections.abc import Sequence
from dataclasses import dataclass

from drift.config import EndpointSettings

BYTES_PER_TOKEN = 4
"""A rule of thumb for English text, for estimates. The client's limit counts the worst case, one token per byte."""


def cost_of(settings: EndpointSettings, input_tokens: int, output_tokens: int) -> float | None:
    """In the currency of the prices; None unless both prices are set."""
    if settings.price_per_million_input is None or settings.price_per_million_output is None:
        return None
    return (
        input_tokens * settings.price_per_million_input + output_tokens * settings.price_per_million_output
    ) / 1_000_000


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """About what the questions that are still open take. `questions`: all of them. `cost`: None without prices.

    `answered`: questions with an answer on disk, which cost nothing.
    """

    questions: int
    answered: int
    input_tokens: int
    output_tokens: int
    cost: float | None

    def line(self) -> str:
        money = "cost unknown (no prices given)" if self.cost is None else f"cost about {self.cost:.2f}"
        return (
            f"{self.questions - self.answered} questions to ask, {self.answered} already answered; about "
            f"{self.input_tokens} input tokens, at most {self.output_tokens} output tokens; {money}"
        )


def total_estimate(estimates: Sequence[CostEstimate]) -> CostEstimate:
    """The sum over several sets of questions."""
    costs = [estimate.cost for estimate in estimates]
    return CostEstimate(
        questions=sum(estimate.questions for estimate in estimates),
        answered=sum(estimate.answered for estimate in estimates),
        input_tokens=sum(estimate.input_tokens for estimate in estimates),
        output_tokens=sum(estimate.output_tokens for estimate in estimates),
        cost=None if None in costs else sum(cost or 0.0 for cost in costs),
    )
