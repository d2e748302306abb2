"""Pieces of work on a Ray cluster: tasks that write files on storage that every node sees. Nothing else imports ray.

Ray's object store carries only the pieces and their counts. Its own retries are off, so that tries are counted in one
place.
"""

import logging
import os
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from drift.engine.engine import Answer, Piece, Result, answer, killed, name_of
from drift.engine.nodes import Sight, look, trouble_of
from drift.engine.processes import one_thread
from drift.errors import PrerequisiteError
from drift.progress import report_note

_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.5
_LATE, _LATE_SECONDS = 3.0, 10.0
"""A piece is late after so many times the median of the others and so many seconds: a second worker gets it too."""
_LOST_NODES = 10
"""So often may a piece lose its node: nodes of a spot market go, and it is not the piece's fault."""
# Ray's shorter keepalive (RAY_grpc_client_keepalive_time_ms) is not set here: where the nodes do not have it too, they
# close the connection of a piece that runs for longer than a few pings ("too many pings"), and the piece dies.


class OnRay:
    """The cluster at `address`. `close` leaves it as it was."""

    def __init__(self, address: str, retries: int = 3) -> None:
        """Raises PrerequisiteError if ray is not installed or no cluster answers."""
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise PrerequisiteError(
                f"cluster.address {address}: ray is not installed: pip install 'drift-training[ray]'"
            ) from None
        _check_reachable(address)
        self._ray, self._retries = ray, retries
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise PrerequisiteError(f"cluster.address {address}: {_first_line(error)}. {_HOW_TO_START}") from None
        self._task, self._folder = ray.remote(_answer), os.getcwd()

    @property
    def workers(self) -> int:
        """The cores of all nodes; at least 2, so that stages work in pieces."""
        return max(int(self._ray.cluster_resources().get("CPU", 0)), 2)

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[tuple[int, Result]]:
        shared = self._ray.put(work)
        waiting, done, seconds = deque(range(len(pieces))), set[int](), list[float]()
        started: dict[Any, tuple[int, float]] = {}
        tries, lost = Counter[int](), Counter[int]()
        try:
            while len(done) < len(pieces):
                while waiting and len(started) < 2 * self.workers:  # the next piece is there when one is done
                    self._start(shared, pieces, waiting.popleft(), started)
                ready, _ = self._ray.wait(list(started), num_returns=1, timeout=_POLL_SECONDS)
                for task in ready:
                    number, since = started.pop(task)
                    if number in done:  # a second worker was faster
                        continue
                    found = self._received(task, pieces[number], number, tries, lost)
                    if found is None:
                        waiting.appendleft(number)
                        continue
                    done.add(number)
                    seconds.append(time.monotonic() - since)
                    yield number, found.unwrapped()
                if not ready and not waiting and seconds:
                    self._hand_late_on(shared, pieces, started, seconds)
        finally:
            for task in started:
                self._ray.cancel(task, force=True)

    def close(self) -> None:
        self._ray.shutdown()

    def check_nodes(self, folder: Path) -> None:
        """Raise PrerequisiteError, in one line, if a node does not see what the others write below the folder, or has
        other code."""
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        own = place / f".drift-nodes-{uuid.uuid4().hex}"
        own.mkdir()
        try:
            mine = look(own, "this process")
            sights = self._on_all(nodes, own)
            seen = self._on_all(nodes, own)  # again: by now every node has written its file
        finally:
            for file in own.glob("*"):
                file.unlink()
            own.rmdir()
        if problem := trouble_of(place, mine, sights, seen):
            raise PrerequisiteError(problem)

    def _on_all(self, nodes: Sequence[dict[str, Any]], folder: Path) -> list[Sight]:
        from ray.util import scheduling_strategies  # pyright: ignore[reportMissingImports]

        tasks = []
        for node in nodes:
            there = scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = self._task.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            tasks.append(
                task.remote(self._folder, partial(look, folder), f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}")
            )
        try:
            answers: list[Answer] = self._ray.get(tasks)
        except self._ray.exceptions.RayError as error:
            raise PrerequisiteError(
                f"a node of the cluster cannot run DRIFT: {_first_line(error)}. Every node needs the same Python "
                "environment, with drift-training[ray] in it."
            ) from None
        return [found.unwrapped() for found in answers]

    def _start(self, work: Any, pieces: Sequence[Any], number: int, started: dict[Any, tuple[int, float]]) -> None:
        task = self._task.options(num_cpus=1, max_retries=0, name=name_of(pieces[number])[:80]).remote(
            self._folder, work, pieces[number]
        )
        started[task] = (number, time.monotonic())

    def _received(
        self, task: Any, piece: object, number: int, tries: Counter[int], lost: Counter[int]
    ) -> Answer | None:
        """The answer; None if its process or its node died and it may be tried again."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.RayTaskError as error:
            raise RuntimeError(f"{name_of(piece)}: {error}") from None
        except (errors.NodeDiedError, errors.ObjectLostError, errors.LocalRayletDiedError) as error:
            lost[number] += 1
            if lost[number] == _LOST_NODES:
                raise killed(piece, lost[number], _first_line(error)) from None
            report_note(f"a node was lost: {name_of(piece)} is done again")
        except errors.RayError as error:
            tries[number] += 1
            if tries[number] == self._retries:
                raise killed(piece, tries[number], _first_line(error)) from None
        return None

    def _hand_late_on(
        self, work: Any, pieces: Sequence[Any], started: dict[Any, tuple[int, float]], seconds: Sequence[float]
    ) -> None:
        """Give each late piece to one more worker. Whoever is first counts; both write the same file."""
        limit = max(_LATE * median(seconds), _LATE_SECONDS)
        copies = Counter(number for number, _ in started.values())
        for number, since in list(started.values()):
            if copies[number] == 1 and time.monotonic() - since > limit:
                report_note(f"{name_of(pieces[number])} is late: a second worker gets it too")
                self._start(work, pieces, number, started)


_HOW_TO_START = "Start one with `ray start --head --port 6379`, and give its HOST:PORT (docs/cluster.md)."


def _check_reachable(address: str) -> None:
    """Raise PrerequisiteError at once: ray itself would try for half a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise PrerequisiteError(
            f"cluster.address {address}: no Ray cluster answers ({error.strerror or error}). {_HOW_TO_START}"
        ) from None


def _answer(folder: str, work: Callable[[Any], Any], piece: Any) -> Answer:
    """In a worker of the cluster. `folder`: the driver's, from which paths that the user gave start."""
    one_thread()
    try:
        os.chdir(folder)
    except OSError as error:
        where = f"node {socket.gethostname()} does not see {folder} ({error.strerror})"
        return Answer(error=PrerequisiteError(f"{where}: start drift in a folder that every node sees."))
    return answer(work, piece)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]
