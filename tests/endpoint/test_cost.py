"""The price of tokens, and the line that a dry run prints."""

import pytest

from drift.config import EndpointSettings
from drift.endpoint.cost import CostEstimate, cost_of, total_estimate


def test_cost_needs_both_prices():
    settings = EndpointSettings(base_url="http://x", model="m", price_per_million_input=2.0)
    assert cost_of(settings, 10, 10) is None
    priced = settings.model_copy(update={"price_per_million_output": 5.0})
    assert cost_of(priced, 1_000_000, 100_000) == pytest.approx(2.5)
    assert cost_of(priced, 0, 0) == 0.0


def test_the_total_and_its_line():
    one, other = CostEstimate(5, 2, 300, 40, 0.25), CostEstimate(1, 0, 10, 4, 0.5)
    assert total_estimate([one, other]) == CostEstimate(6, 2, 310, 44, 0.75)
    assert total_estimate([one, CostEstimate(1, 0, 10, 4, None)]).cost is None
    assert one.line() == (
        "3 questions to ask, 2 already answered; about 300 input tokens, at most 40 output tokens; cost about 0.25"
    )
    assert total_estimate([]).line().startswith("0 questions to ask")
    assert CostEstimate(1, 0, 1, 1, None).line().endswith("cost unknown (no prices given)")
