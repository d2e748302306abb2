"""What requests cost: the price of tokens, the estimates of a dry run, and what a command may spend.

Money is reserved before a request is sent, so that `max_cost` is never exceeded. A command opens many clients of one
server: one for each stage, iteration and guard. Those with the same limit share it.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from drift.config import EndpointSettings
from drift.endpoint.exchange import Usage
from drift.errors import ConfigError, DriftError

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


class CostLimitReached(DriftError):
    """The next request could exceed `max_cost`. Earlier answers are in the cache."""


@dataclass(frozen=True, slots=True)
class Spending:
    """`requests`: answered by the server; `cached`: answered from the cache. `cost`: None without prices."""

    requests: int
    cached: int
    input_tokens: int
    output_tokens: int
    cost: float | None


class Account:
    """The money of one limit at one server. All clients of a command that have this limit share it.

    `limit`: None allows everything.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._under_way = 0
        self._spent = self._reserved = 0.0
        self._excess = 1.0  # how far a server's count exceeded our bound
        self._changed = threading.Condition()

    def reserve(self, most: float) -> float:
        """Reserve the most that a request can cost. Waits while requests in flight may turn out cheaper.

        Raises CostLimitReached.
        """
        with self._changed:
            while True:
                bound = most * self._excess
                if self._limit is None or self._spent + self._reserved + bound <= self._limit:
                    self._reserved += bound
                    self._under_way += 1
                    return bound
                if not self._under_way:
                    raise CostLimitReached(
                        f"stopped before max_cost {self._limit:g}: {self._spent:.4g} spent, the next request could "
                        f"cost {bound:.4g}. To continue, run the same command with a higher limit."
                    )
                self._changed.wait(1.0)

    def settle(self, reserved: float, cost: float) -> None:
        """Pay, and release the reservation."""
        with self._changed:
            self._under_way -= 1
            self._reserved = self._reserved - reserved if self._under_way else 0.0  # no rounding error stays
            self._spent += cost
            if cost > reserved > 0:
                self._excess = max(self._excess, self._excess * cost / reserved)
            self._changed.notify_all()


_of_process: dict[tuple[str, float], Account] = {}
_accounts = ContextVar("accounts", default=_of_process)
_opening = threading.Lock()


@contextmanager
def own_accounts() -> Iterator[None]:
    """In this block every limit begins anew. Without it, a limit is that of the process: of one command."""
    token = _accounts.set({})
    try:
        yield
    finally:
        _accounts.reset(token)


def _account(url: str, limit: float | None) -> Account:
    if limit is None:
        return Account(None)
    with _opening:
        return _accounts.get().setdefault((url, limit), Account(limit))


class Budget:
    """What one client has spent, and what it may still spend. Raises ConfigError for a limit without prices."""

    def __init__(self, settings: EndpointSettings, url: str) -> None:
        self._settings = settings
        self._has_prices = cost_of(settings, 0, 0) is not None
        if settings.max_cost is not None and not self._has_prices:
            raise ConfigError(
                "max_cost needs prices: set price_per_million_input and price_per_million_output "
                "(drift label: --price-input, --price-output)."
            )
        self._account = _account(url, settings.max_cost)
        self._requests = self._cached = self._input = self._output = 0
        self._spent = 0.0
        self._lock = threading.Lock()

    def cost(self, usage: Usage) -> float | None:
        return cost_of(self._settings, usage.input_tokens, usage.output_tokens)

    def reserve(self, most: Usage) -> float:
        """Reserve the most that the request can cost. Raises CostLimitReached."""
        return self._account.reserve(self.cost(most) or 0.0)

    def settle(self, reserved: float, used: Usage | None) -> None:
        """Release a reservation; `used` is None if the server did no work."""
        cost = 0.0 if used is None else self.cost(used) or 0.0
        with self._lock:
            if used is not None:
                self._requests += 1
                self._input += used.input_tokens
                self._output += used.output_tokens
                self._spent += cost
        self._account.settle(reserved, cost)

    def from_cache(self) -> None:
        with self._lock:
            self._cached += 1

    def spending(self) -> Spending:
        with self._lock:
            cost = round(self._spent, 8) if self._has_prices else None
            return Spending(self._requests, self._cached, self._input, self._output, cost)
