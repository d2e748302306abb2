"""Batches on several replicas: which gets what, what a failing one leaves, and that no thread is left running."""

import threading

import pytest

from drift.endpoint import Unanswered
from drift.errors import DriftError
from drift.policy.samplers.servers import Replica, run_on
from drift.records import ChatMessage

REQUESTS = 3


class FakeEndpoint:
    """Answers requests in order, all of them as failed; raises before the request number `fails_at`."""

    def __init__(self, fails_at: int | None = None, error: BaseException | None = None):
        self.fails_at, self.error, self.asked = fails_at, error, 0

    def ask_many(self, requests):
        for _ in requests:
            if self.error is not None and self.asked == self.fails_at:
                raise self.error
            self.asked += 1
            yield Unanswered("refused", "400")


def batches(count: int) -> list:
    return [(number, [ChatMessage("user", f"{number}/{n}") for n in range(REQUESTS)]) for number in range(count)]


def replicas(*endpoints: FakeEndpoint) -> list[Replica]:
    return [Replica(endpoint, lambda request: request) for endpoint in endpoints]  # pyright: ignore


def test_every_batch_is_answered_once():
    servers = FakeEndpoint(), FakeEndpoint()
    answered = dict(run_on(replicas(*servers), batches(5)))
    assert sorted(answered) == [0, 1, 2, 3, 4]
    assert all([reply.finish for reply in replies] == ["error"] * REQUESTS for replies in answered.values())
    assert [server.asked for server in servers] == [3 * REQUESTS, 2 * REQUESTS]


@pytest.mark.parametrize("error", [DriftError("the server is gone"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_replica_raises_is_raised_after_what_it_answered(error):
    answered = []
    with pytest.raises(type(error)) as raised:
        answered.extend(number for number, _ in run_on(replicas(FakeEndpoint(2 * REQUESTS, error)), batches(4)))
    assert raised.value is error
    assert answered == [0, 1]


def test_a_caller_that_stops_leaves_no_thread():
    before = threading.active_count()
    running = run_on(replicas(FakeEndpoint(), FakeEndpoint()), batches(400))
    next(running)
    running.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert threading.active_count() == before
