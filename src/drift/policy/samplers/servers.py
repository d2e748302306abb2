"""Batches on servers that answer over HTTP: several replicas at the same time, each with its share of the batches."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from drift.endpoint import Endpoint, Reply, Unanswered
from drift.endpoint.exchange import Request as HttpRequest
from drift.policy.decode import Generated
from drift.policy.samplers.backend import NumberedBatch, SamplingRequest
from drift.records import Finish

BATCH_REQUESTS = 16
"""Requests of a batch: they are all sent again if a run is stopped before the last of them is answered."""

FINISHES: dict[str, Finish] = {
    **dict.fromkeys(("stop", "tool_calls", "function_call"), "stop"),
    **dict.fromkeys(("eos_token", "eos", "end_turn", "stop_sequence"), "stop"),  # TGI and gateways
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
"""How a server's reply ended, by its `finish_reason`; any other is an error, and the reply is not used."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A server, and how a sampling request becomes one of its HTTP requests."""

    endpoint: Endpoint
    ask: Callable[[SamplingRequest], HttpRequest]


def plan_by_conversation(requests: Sequence[SamplingRequest]) -> list[list[int]]:
    """Indices of requests in batches, those of a conversation together: the server's prefix cache serves them."""
    order = sorted(range(len(requests)), key=lambda row: (requests[row].conversation_id, row))
    return [order[start : start + BATCH_REQUESTS] for start in range(0, len(order), BATCH_REQUESTS)]


def request_seed(key: str) -> int:
    """31 bits that depend on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1


def run_on(replicas: Sequence[Replica], batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
    """Yield each batch's number and completions as batches are done. Batch i goes to replica i mod R.

    Raises what a replica raises, after the batches that were done before it.
    """
    results: queue.Queue[tuple[int, list[Generated]] | Future[None]] = queue.Queue()
    stop = threading.Event()
    with ThreadPoolExecutor(len(replicas)) as pool:
        for index, replica in enumerate(replicas):
            worker = pool.submit(_answer_batches, replica, batches[index :: len(replicas)], results, stop)
            worker.add_done_callback(results.put)  # the worker itself is the last thing in the queue from it
        working = len(replicas)
        try:
            while working:
                result = results.get()
                if isinstance(result, Future):
                    result.result()
                    working -= 1
                else:
                    yield result
        finally:
            stop.set()  # also when the caller stops early: the workers send nothing more, and the pool waits for them


def _answer_batches(
    replica: Replica, batches: Sequence[NumberedBatch], results: queue.Queue, stop: threading.Event
) -> None:
    """Send the requests of all batches in one stream, so that the server is busy between batches too."""
    stream = (replica.ask(request) for _, requests in batches for request in requests if not stop.is_set())
    answers = replica.endpoint.ask_many(stream)
    for number, requests in batches:
        replies = [generated(answer) for _, answer in zip(requests, answers, strict=False)]
        if len(replies) < len(requests):
            return  # stopped in the middle of this batch
        results.put((number, replies))


def generated(answer: Reply | Unanswered) -> Generated:
    """The completion of a request; with finish `error` if it failed."""
    if isinstance(answer, Unanswered):
        return Generated("", None, "error")
    choice = answer.choices[0]
    finish = FINISHES.get(choice.finish or "", "error")
    if choice.token_ids is not None:
        return Generated(choice.text, choice.token_ids, finish)
    return Generated(choice.answer, None, finish, choice.thoughts or None, choice.tool_calls)
