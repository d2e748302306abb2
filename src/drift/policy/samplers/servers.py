"""One backend for everything that answers over HTTP: replicas side by side, each with its share of the batches."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from drift.endpoint import Endpoint, Reply, Unanswered
from drift.endpoint.exchange import Request as HttpRequest
from drift.policy.decode import Generated
from drift.policy.samplers.backend import Batch, SamplingRequest
from drift.records import Finish

BATCH = 16
"""Requests that are done again together if a run is stopped before the last of them is in."""

FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class Replica:
    """A server, and how a request is put to it."""

    endpoint: Endpoint
    ask: Callable[[SamplingRequest], HttpRequest]


def plan_by_conversation(requests: Sequence[SamplingRequest]) -> list[list[int]]:
    """Rows in batches of BATCH, those of a conversation side by side: a server's prefix cache is warm for them."""
    order = sorted(range(len(requests)), key=lambda row: (requests[row].conversation_id, row))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def request_seed(key: str) -> int:
    """31 bits that depend on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1


def run_on(replicas: Sequence[Replica], batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
    """Batch i goes to replica i mod R. Raises what a replica raises; the others' answers so far have been yielded."""
    done: queue.Queue[tuple[int, list[Generated]] | BaseException | None] = queue.Queue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_work, args=(replica, batches[place :: len(replicas)], done, stop), daemon=True)
        for place, replica in enumerate(replicas)
    ]
    for thread in threads:
        thread.start()
    working = len(threads)
    try:
        while working:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                working -= 1
            else:
                yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _work(replica: Replica, batches: Sequence[Batch], done: queue.Queue, stop: threading.Event) -> None:
    """Ask for all batches in one stream, so that the server is busy across their borders."""
    try:
        asked = (replica.ask(request) for _, requests in batches for request in requests if not stop.is_set())
        answers = replica.endpoint.ask_many(asked)
        for number, requests in batches:
            replies = [_generated(answer) for _, answer in zip(requests, answers, strict=False)]
            if len(replies) < len(requests):
                break  # stopped in the middle of the batch
            done.put((number, replies))
        done.put(None)
    except BaseException as error:  # handed to the thread that waits, whatever it is
        done.put(error)


def _generated(answer: Reply | Unanswered) -> Generated:
    if isinstance(answer, Unanswered):
        return Generated("", None, "error")
    choice = answer.choices[0]
    return Generated(choice.text, choice.token_ids, FINISHES.get(choice.finish or "", "error"))
