"""vLLM in the workers of an engine: each has the GPUs of a replica, starts a server on them with its first piece, and
ends it with itself."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from drift.endpoint import CompletionRequest, Endpoint
from drift.engine import kept, let_go
from drift.errors import PrerequisiteError
from drift.policy.decode import Generated
from drift.policy.samplers.backend import NumberedBatch, SamplingRequest
from drift.policy.samplers.servers import generated
from drift.policy.samplers.vllm_server import IN_FLIGHT_REQUESTS, Serving, VllmServer

PIECE_REQUESTS = 8 * IN_FLIGHT_REQUESTS
"""Requests of a piece, at most. While its last ones are answered, the server is not full; but what a dead worker had is
asked again."""
PIECES_PER_WORKER = 4
"""So many at least, for workers of different speeds, unless a piece would not fill the server once."""
SERVERS_PER_PIECE = 2
"""A server that dies is started again, once for a piece."""


@dataclass(frozen=True, slots=True)
class ServerPiece:
    """Batches of the plan: their numbers, and the requests of each."""

    name: str
    numbers: tuple[int, ...]
    batches: tuple[tuple[CompletionRequest, ...], ...]


def pieces_of(
    batches: Sequence[NumberedBatch], workers: int, ask: Callable[[SamplingRequest], CompletionRequest]
) -> list[ServerPiece]:
    """The batches in pieces that fill a server, cut between conversations: a server keeps the prefixes of its own."""
    total = sum(len(requests) for _, requests in batches)
    wanted = min(max(total // (PIECES_PER_WORKER * workers), IN_FLIGHT_REQUESTS), PIECE_REQUESTS)
    groups: list[list[NumberedBatch]] = []
    size, last = wanted, None
    for number, requests in batches:
        if size >= wanted and requests[0].conversation_id != last:
            groups.append([])
            size = 0
        groups[-1].append((number, requests))
        size, last = size + len(requests), requests[-1].conversation_id
    return [
        ServerPiece(
            f"batches {group[0][0]} to {group[-1][0]} of the replies",
            tuple(number for number, _ in group),
            tuple(tuple(map(ask, requests)) for _, requests in group),
        )
        for group in groups
    ]


def answer_piece(serving: Serving, piece: ServerPiece) -> list[list[Generated]]:
    """In a worker: the completions of each batch, from the worker's server. Raises PrerequisiteError, with the name of
    the machine, if it does not start, or dies again and again."""
    try:
        for _ in range(SERVERS_PER_PIECE - 1):
            server, endpoint = kept(serving, partial(_running, serving))
            try:
                return _answers(server, endpoint, piece)
            except PrerequisiteError:
                if server.alive:
                    raise
                let_go()
        return _answers(*kept(serving, partial(_running, serving)), piece)
    except PrerequisiteError as error:
        raise PrerequisiteError(f"{socket.gethostname()}: {error}") from None


@contextmanager
def _running(serving: Serving) -> Iterator[tuple[VllmServer, Endpoint]]:
    with VllmServer(serving) as server, server.ready() as endpoint:
        yield server, endpoint


def _answers(server: VllmServer, endpoint: Endpoint, piece: ServerPiece) -> list[list[Generated]]:
    answers = endpoint.ask_many(request for batch in piece.batches for request in batch)
    try:
        replies = [[generated(answer) for answer in islice(answers, len(batch))] for batch in piece.batches]
    except PrerequisiteError:
        server.check_alive()  # the log of a server that has died says more
        raise
    if any(reply.finish == "error" for batch in replies for reply in batch):
        server.check_alive()
    return replies
