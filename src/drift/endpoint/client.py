"""The client: answers from the cache first, then from the server, with retries and as fast as the server can serve.

`Pace` sets how many requests are in flight: one more after each round of successes, half as many after a failure.
"""

import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from drift.config import EndpointSettings
from drift.endpoint.cache import Cache
from drift.endpoint.cost import Budget, Spending
from drift.endpoint.exchange import ChatRequest, Reply, Request, Unanswered, Usage, parse_reply
from drift.endpoint.transport import Failure, Transport
from drift.errors import PrerequisiteError
from drift.progress import report_note

WINDOW = 4
"""Requests prepared ahead, per connection, so that one slow answer does not hold up the others."""
LONGEST_WAIT = 600.0
"""Seconds. If a server asks for a longer pause, the command stops and says so."""
IN_A_ROW = 10
"""After so many consecutive requests failed, each after all its retries, the command stops."""
_NOT_TAKEN = re.compile(r"support|cannot both|deprecated|not allowed|may only|must be|only the default")
"""How servers say that a parameter, or its value, is not for this model."""
INTERRUPTED = Unanswered("connection", "interrupted")
"""The outcome of a request that was not sent because the command was stopped."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What a server's errors taught about its requests. Newer models want `max_completion_tokens`, and refuse a
    temperature, a top_p, or both at once. `left_out`: parameters that are not sent."""

    max_tokens: str = "max_tokens"
    left_out: frozenset[str] = frozenset()

    def of(self, body: Mapping[str, object]) -> dict[str, object]:
        named = {self.max_tokens if name == "max_tokens" else name: value for name, value in body.items()}
        return {name: value for name, value in named.items() if name not in self.left_out}

    def after(self, refusal: Failure) -> "RequestForm | None":
        """The form that this error asks for; None if it is about something else, or nothing is left to change."""
        detail = refusal.detail.lower()
        if "max_completion_tokens" in detail and self.max_tokens == "max_tokens":
            return replace(self, max_tokens="max_completion_tokens")
        for name in ("top_p", "temperature"):
            named = re.search(rf"['\"`]{name}['\"`]|support {name}\b", detail)
            if named and _NOT_TAKEN.search(detail) and name not in self.left_out:
                return replace(self, left_out=self.left_out | {name})
        return None


class Endpoint:
    """One model behind one server. Use it as a context manager, or `close` it.

    `cache`: the file of cached answers; None: no cache. Raises ConfigError (address, prices), PrerequisiteError (the
    key's variable is not set) and DataError (the cache).
    """

    def __init__(self, settings: EndpointSettings, cache: Path | None = None) -> None:
        self.settings = settings
        self.model = settings.model
        self._form = RequestForm()
        self._transport = Transport(
            settings.base_url, api_key(settings), settings.timeout, connections=settings.max_concurrency
        )
        self._budget = Budget(settings, self._transport.url)
        self._cache = Cache(cache) if cache else None
        self._pace = Pace(settings.max_concurrency)
        self._stop = threading.Event()
        self._reached = False
        self._failed_in_a_row = 0

    @property
    def url(self) -> str:
        return self._transport.url

    @property
    def spending(self) -> Spending:
        return self._budget.spending()

    def ask(self, request: Request) -> Reply | Unanswered:
        """One answer. Raises PrerequisiteError (no server, no access, no model) and CostLimitReached."""
        if isinstance(request, ChatRequest):
            request = request.with_room(self.settings.max_tokens)
        cached = self._cache.find(request, self.model) if self._cache else None
        if cached is not None:
            self._budget.from_cache()
            return cached
        return self._pay(request)

    def ask_many(self, requests: Iterable[Request]) -> Iterator[Reply | Unanswered]:
        """One outcome per request, in the order of the requests, which are read lazily while answers arrive."""
        return self.each(self.ask, requests)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Call `work`, which asks this endpoint, on each item in threads; results come in the order of the items.

        On an error, on an interrupt, or when the caller stops reading, requests in flight are still waited for and
        their answers cached: they are paid for.
        """
        self._stop.clear()
        waiting: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(self.settings.max_concurrency, thread_name_prefix="endpoint")
        try:
            for item in items:
                waiting.append(pool.submit(copy_context().run, work, item))  # a thread's notes reach the listener
                if len(waiting) >= WINDOW * self.settings.max_concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._stop.clear()

    def look(self, path: str) -> bytes | Failure:
        """GET a page of the server, once. Raises PrerequisiteError if no server answers."""
        answer = self._transport.get(path)
        if isinstance(answer, Failure) and answer.absent:
            raise self._absent(answer.detail)
        return answer

    def try_once(self, request: Request) -> Reply | Unanswered:
        """As `ask`, without the cache, and retried only if the server is busy or hung up: for probing."""
        return self._pay(request, probing=True)

    def close(self) -> None:
        self._transport.close()
        if self._cache:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pay(self, request: Request, probing: bool = False) -> Reply | Unanswered:
        most = Usage(*request.most_tokens(), reported=False)
        outcome: Failure | Reply | Unanswered = INTERRUPTED
        for attempt in range(self.settings.retries + 1):
            if attempt:
                self._stop.wait(pause_before(attempt))
            if self._stop.is_set():
                break
            outcome = self._attempt_as_wanted(request, most, use_cache=not probing)
            if isinstance(outcome, Reply) or (isinstance(outcome, Failure) and not outcome.retry):
                break
            if probing and outcome.problem not in ("busy", "connection"):
                break
        return self._settled(outcome, probing)

    def _attempt_as_wanted(self, request: Request, most: Usage, use_cache: bool) -> Reply | Unanswered | Failure:
        """As `_attempt`, in the form that the server's errors ask for; what helped is kept for later requests."""
        begun = form = self._form
        while True:
            body = request.body(self.model)
            if isinstance(request, ChatRequest):
                body = form.of(body)
            outcome = self._attempt(request, body, most, use_cache)
            if isinstance(outcome, Reply) and form is not begun:
                self._keep(form)
            if not isinstance(outcome, Failure):
                return outcome
            wanted = form.after(outcome) if outcome.problem == "refused" else None
            if wanted is None:
                return outcome
            form = wanted

    def _keep(self, form: RequestForm) -> None:
        for name in sorted(form.left_out - self._form.left_out):
            report_note(f"{self.url}: {self.model} refuses {name}, so it answers with its own")
        self._form = form

    def _attempt(
        self, request: Request, body: dict[str, object], most: Usage, use_cache: bool
    ) -> Reply | Unanswered | Failure:
        reserved = self._budget.reserve(most)
        used: Usage | None = None
        try:
            with self._pace.turn(self._stop) as begun:
                if begun is None:
                    return INTERRUPTED
                answer = self._transport.post(request.path, body)
            if isinstance(answer, Failure):
                used = most if answer.billed else None
                return self._judge_failure(answer, begun)
            self._reached = True
            self._pace.succeeded()
            reply = parse_reply(request, answer, self._transport.without_key)
            used = reply.usage if isinstance(reply, Reply) else most
            if isinstance(reply, Unanswered):
                return reply
            reply = replace(reply, cost=self._budget.cost(reply.usage))
            if self._cache and use_cache:
                self._cache.keep(request, self.model, answer, reply.cost)
            return reply
        finally:
            self._budget.settle(reserved, used)

    def _judge_failure(self, failure: Failure, begun: float) -> Failure:
        """Slow down if that may help; raise PrerequisiteError if no retry can help."""
        if failure.absent and not self._reached:
            raise self._absent(failure.detail)
        self._reached = self._reached or failure.status is not None
        if failure.status == 404 and "model" in failure.detail.lower():
            raise PrerequisiteError(f"{self.url}: {failure.detail} `curl {self.url}/models` lists what is served.")
        if failure.retry_after > LONGEST_WAIT:
            wait = f"the server asks to wait {failure.retry_after:.0f} s ({failure.detail})"
            raise PrerequisiteError(f"{self.url}: {wait}. Run the same command later to continue.")
        if failure.retry:
            self._pace.strained(begun, failure.retry_after)
        return failure

    def _settled(self, outcome: Reply | Unanswered | Failure, probing: bool) -> Reply | Unanswered:
        if isinstance(outcome, Failure):
            outcome = Unanswered(outcome.problem, outcome.detail)
        if outcome is INTERRUPTED:  # says nothing about the server
            return outcome
        if isinstance(outcome, Reply) or outcome.problem == "refused" or probing:
            self._failed_in_a_row = 0
            return outcome
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= IN_A_ROW and not self._stop.is_set():
            raise PrerequisiteError(
                f"{self.url}: the last {IN_A_ROW} requests failed after {self.settings.retries} retries each "
                f"({outcome.detail}). All answers so far are kept: run the same command to continue."
            )
        return outcome

    def _absent(self, detail: str) -> PrerequisiteError:
        why = " ".join(detail.split())
        return PrerequisiteError(f"{self.url}: no server answers ({why}). Start it, or correct its address (base_url).")


def api_key(settings: EndpointSettings) -> str | None:
    """The server's key; None if it needs none. Raises PrerequisiteError if the variable does not hold one."""
    if settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env, "").strip()  # a file that a shell reads it from ends with a line break
    if not key:
        raise PrerequisiteError(
            f"The environment variable {settings.api_key_env} is not set: export the server's key in it."
        )
    wrong = next((place for place, sign in enumerate(key, 1) if not "!" <= sign <= "~"), None)
    if wrong is not None:
        raise PrerequisiteError(
            f"The environment variable {settings.api_key_env} holds no key: character {wrong} is a space, a control "
            "character or not ASCII. Export the server's key in it, and nothing else."
        )
    return key


FIRST = 4
LONGEST_PAUSE = 60.0


class Pace:
    """Additive increase, multiplicative decrease, between 1 and `ceiling`; shared by all threads."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(min(FIRST, ceiling))
        self._under_way = 0
        self._not_before = 0.0
        self._last_cut = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, stop: threading.Event) -> Iterator[float | None]:
        """Wait until one more request may start; yields its start time, or None once `stop` is set."""
        with self._changed:
            while not stop.is_set():
                pause = self._not_before - time.monotonic()
                if pause <= 0 and self._under_way < int(self.limit):
                    break
                self._changed.wait(min(max(pause, 0.01), 1.0) if pause > 0 else 1.0)
            self._under_way += 1
        try:
            yield None if stop.is_set() else time.monotonic()
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def succeeded(self) -> None:
        with self._changed:
            self.limit = min(self.limit + 1 / self.limit, float(self.ceiling))
            self._changed.notify_all()

    def strained(self, begun: float, wait: float) -> None:
        """The server refused or failed a request that started at `begun`; nothing is sent for `wait` seconds.

        A request that was in flight when the limit was last halved tells nothing new, and does not halve it again.
        """
        with self._changed:
            now = time.monotonic()
            if begun >= self._last_cut:
                self.limit = max(1.0, self.limit / 2)
                self._last_cut = now
            self._not_before = max(self._not_before, now + wait)


def pause_before(attempt: int) -> float:
    """Seconds before the attempt of this number (the first retry is 1): exponential, with full jitter."""
    return random.uniform(0.0, min(LONGEST_PAUSE, 0.5 * 2**attempt))
