"""URL#MODEL and the options beside it become one EndpointSettings."""

import pytest

from drift.config import EndpointSettings
from drift.endpoint.options import JudgePricing, endpoint_settings
from drift.errors import ConfigError


def test_the_options_become_settings():
    pricing = JudgePricing("KEY", 1.0, 2.0, 3.0, 4)
    assert endpoint_settings("http://x/v1#org/model", pricing) == EndpointSettings(
        base_url="http://x/v1", model="org/model", api_key_env="KEY", price_per_million_input=1.0,
        price_per_million_output=2.0, max_cost=3.0, max_concurrency=4,
    )  # fmt: skip
    assert endpoint_settings("http://x#m") == EndpointSettings(base_url="http://x", model="m")


@pytest.mark.parametrize(
    ("spec", "example"),
    [
        ("http://x", "http://x#NAME"),
        ("http://x#", "http://x#NAME"),
        ("#m", "#NAME"),
    ],
)
def test_a_server_without_url_or_model_is_refused_with_an_example(spec, example):
    with pytest.raises(ConfigError, match="expected URL#MODEL") as error:
        endpoint_settings(spec)
    assert example in str(error.value)
    assert repr(spec) in str(error.value)


def test_a_missing_server_is_asked_for_by_its_option():
    with pytest.raises(ConfigError, match="a judge is needed: --judge URL#MODEL, for example --judge http"):
        endpoint_settings(None)


def test_a_cost_limit_needs_both_prices():
    with pytest.raises(ConfigError, match="--max-cost 1 needs prices"):
        endpoint_settings("http://x#m", JudgePricing(max_cost=1.0, price_input=2.0))


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://HOST:abc/v1", "http://[::1/v1", "http://x:99999", "http://x y/v1", "http://x?a=b"]
)
def test_what_is_no_address_is_one_line(url):
    with pytest.raises(ConfigError, match="is no server's address; write it as http://HOST:PORT/v1") as error:
        endpoint_settings(f"{url}#m")
    assert url in str(error.value)


def test_a_key_in_place_of_its_variables_name_is_not_shown():
    with pytest.raises(ConfigError, match="write the NAME of the environment variable") as error:
        endpoint_settings("http://x#m", JudgePricing(api_key_env="sk-abc-123"))
    assert "abc" not in str(error.value)
