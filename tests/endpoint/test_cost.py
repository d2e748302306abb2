"""The price of tokens, and the line that a dry run prints."""

import threading

import pytest

from drift.config import EndpointSettings
from drift.endpoint import CostLimitReached, Endpoint
from drift.endpoint.cost import CostEstimate, cost_of, own_accounts, total_estimate

PRICES = {"price_per_million_input": 1.0, "price_per_million_output": 2.0}


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


@pytest.fixture
def tokens(serve, said):
    return serve(lambda *_: said.chat("ok", tokens_in=40, tokens_out=20))


def test_all_clients_of_a_command_share_the_limit_of_a_server(tokens, settings, ask):
    priced = settings(tokens, **PRICES, max_cost=500e-6)
    spent, stopped = [], 0
    with own_accounts():
        for _ in range(5):
            with Endpoint(priced) as endpoint:
                try:
                    list(endpoint.ask_many(ask(str(n)) for n in range(50)))
                except CostLimitReached:
                    stopped += 1
                spent.append(endpoint.spending.cost)
    assert stopped == 5
    assert spent[0] > 0
    assert spent[1:] == [0.0] * 4  # each client counts what it spent itself
    assert len(tokens.requests) * 80e-6 <= 500e-6


def test_clients_that_ask_at_the_same_time_stay_below_their_limit_together(tokens, settings, ask):
    def spend(endpoint):
        with pytest.raises(CostLimitReached):
            list(endpoint.ask_many(ask(str(n)) for n in range(50)))

    priced = settings(tokens, **PRICES, max_cost=1000e-6)
    with own_accounts(), Endpoint(priced) as one, Endpoint(priced) as other:
        threads = [threading.Thread(target=spend, args=(endpoint,)) for endpoint in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        costs = [endpoint.spending.cost for endpoint in (one, other)]
    assert 0 < sum(costs) <= 1000e-6
    assert len(tokens.requests) == round(sum(costs) / 80e-6)


def test_another_limit_another_server_and_another_run_begin_at_nothing(serve, said, tokens, settings, ask):
    other = serve(lambda *_: said.chat("ok", tokens_in=40, tokens_out=20))

    def spend(server, limit):
        with Endpoint(settings(server, **PRICES, max_cost=limit)) as endpoint:
            with pytest.raises(CostLimitReached):
                list(endpoint.ask_many(ask(str(n)) for n in range(50)))
            return endpoint.spending.cost

    with own_accounts():
        assert spend(tokens, 500e-6) > 0
        assert spend(tokens, 400e-6) > 0
        assert spend(other, 500e-6) > 0
        assert spend(tokens, 500e-6) == 0
    with own_accounts():
        assert spend(tokens, 500e-6) > 0
