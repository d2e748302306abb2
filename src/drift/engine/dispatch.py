"""Pieces on a Ray cluster: handed out, received, done again where a worker or a node died, or where one is late.

Ray's own retries are off, so that tries are counted in one place.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any, Protocol

from drift.engine.engine import Answer, answer, killed, lost_nodes, name_of
from drift.engine.processes import END_SECONDS, one_thread
from drift.errors import PrerequisiteError
from drift.progress import report_note

_POLL_SECONDS = 0.5
_LATE, _LATE_SECONDS = 3.0, 10.0
"""A piece is late after so many times the median of the others and so many seconds: a second worker gets it too."""
_LOST_NODES = 10
"""So often may a piece lose its node: nodes of a spot market go, and it is not the piece's fault."""


class Board(Protocol):
    """Where workers note which node they are on, each under the key of its piece."""

    def key(self) -> str: ...

    def node(self, key: str) -> str | None:
        """None if no worker has begun the piece."""
        ...

    def clear(self) -> None: ...


class Tasks:
    """Who does light pieces: any worker of the cluster. `count`: of pieces that are handed out at the same time."""

    def __init__(self, task: Any, count: int) -> None:
        self.count, self._task = count, task

    def start(self, name: str, *what: Any) -> Any:
        return self._task.options(num_cpus=1, max_retries=0, name=name).remote(*what)

    def ended(self, started: Any, died: bool) -> None: ...

    def cancel(self, ray: Any, started: Any) -> None:
        ray.cancel(started, force=True)


class Actors:
    """Who does pieces that need a model: `count` processes of the cluster, which keep what they load. `actor`: its
    class, whose `answer` does one piece, and whose `close` ends what it keeps."""

    def __init__(self, ray: Any, actor: type, needs: Mapping[str, int], count: int) -> None:
        self.count, self._ray = count, ray
        self._actor = ray.remote(actor).options(**needs, max_restarts=0)
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}

    def start(self, name: str, *what: Any) -> Any:
        actor = self._idle.pop() if self._idle else self._actor.remote()
        started = actor.answer.options(name=name, max_task_retries=0).remote(*what)
        self._busy[started] = actor
        return started

    def ended(self, started: Any, died: bool) -> None:
        actor = self._busy.pop(started)
        if died:
            self._ray.kill(actor)
        else:
            self._idle.append(actor)

    def cancel(self, ray: Any, started: Any) -> None:
        self.ended(started, died=True)

    def close(self) -> None:
        ending = [actor.close.remote() for actor in self._idle]
        if ending:
            with suppress(self._ray.exceptions.RayError):  # the cluster may be gone
                self._ray.wait(ending, num_returns=len(ending), timeout=END_SECONDS)
        for actor in self._idle:
            self._ray.kill(actor)


class Dispatch:
    """One call of `each`: what waits, what is started, and what died."""

    def __init__(
        self, ray: Any, board: Board, hands: Tasks | Actors, work: Any, pieces: Sequence[Any], retries: int
    ) -> None:
        self._ray, self._hands, self._pieces, self._retries = ray, hands, pieces, retries
        self._work, self._folder, self._board = ray.put(work), os.getcwd(), board
        self._waiting = deque(range(len(pieces)))
        self._started: dict[Any, tuple[int, float]] = {}
        self._keys: dict[Any, str] = {}
        self._tries, self._lost, self._seconds = Counter[int](), Counter[int](), list[float]()

    def results(self) -> Iterator[tuple[int, Any]]:
        done = set[int]()
        try:
            while len(done) < len(self._pieces):
                while self._waiting and len(self._started) < self._hands.count:
                    self._start(self._waiting.popleft())
                ready, _ = self._ray.wait(list(self._started), num_returns=1, timeout=_POLL_SECONDS)
                for task in ready:
                    number, since = self._started.pop(task)
                    result = self._received(task, number, done)
                    if number in done:  # a second worker was faster
                        continue
                    if result is None:
                        self._waiting.appendleft(number)
                        continue
                    done.add(number)
                    self._seconds.append(time.monotonic() - since)
                    yield number, result.unwrapped()
                if not ready and not self._waiting:
                    self._hand_late_on()
        finally:
            for task in self._started:
                self._hands.cancel(self._ray, task)
            with suppress(self._ray.exceptions.RayError):  # the cluster may be gone
                self._board.clear()

    def _start(self, number: int) -> None:
        piece, key = self._pieces[number], self._board.key()
        task = self._hands.start(name_of(piece)[:80], key, self._folder, self._work, piece)
        self._started[task], self._keys[task] = (number, time.monotonic()), key

    def _received(self, task: Any, number: int, done: set[int]) -> Answer | None:
        """The answer; None if its process or its node died. Raises DriftError if that may not be tried again."""
        errors, piece, died = self._ray.exceptions, self._pieces[number], True
        key = self._keys.pop(task)
        try:
            result: Answer = self._ray.get(task)
            died = False
            return result
        except errors.RayTaskError as error:
            raise RuntimeError(f"{name_of(piece)}: {error}") from None
        except errors.RayError as error:
            if number in done:
                return None
            node = self._node(key)
            if _lost_its_node(errors, error):
                counts, most, too_often = self._lost, _LOST_NODES, lost_nodes
            else:
                counts, most, too_often = self._tries, self._retries, killed
            counts[number] += 1
            if counts[number] == most:
                raise too_often(piece, most, lines_of(error)[0] + (f", on node {node}" if node else "")) from None
            if counts is self._lost:
                report_note(f"{f'node {node}' if node else 'a node'} was lost: {name_of(piece)} is done again")
        finally:
            self._hands.ended(task, died)
        return None

    def _node(self, key: str) -> str | None:
        """None also if the cluster's head does not answer: messages then do without the node."""
        with suppress(self._ray.exceptions.RayError):
            return self._board.node(key)
        return None

    def _hand_late_on(self) -> None:
        """Give each late piece to one more worker. Whoever is first counts; both write the same file."""
        if not self._seconds:
            return
        limit = max(_LATE * median(self._seconds), _LATE_SECONDS)
        copies = Counter(number for number, _ in self._started.values())
        for task, (number, since) in list(self._started.items()):
            seconds = time.monotonic() - since
            if copies[number] == 1 and seconds > limit and len(self._started) < self._hands.count:
                node = self._node(self._keys[task])
                where = f" on node {node}" if node else ", without a worker yet"
                report_note(
                    f"{name_of(self._pieces[number])} is late ({seconds:.0f} s{where}; others took "
                    f"{median(self._seconds):.0f} s): a second worker gets it too"
                )
                self._start(number)


def _lost_its_node(errors: Any, error: BaseException) -> bool:
    if isinstance(error, errors.NodeDiedError | errors.ObjectLostError | errors.LocalRayletDiedError):
        return True
    return isinstance(error, errors.ActorDiedError) and "its node has died" in str(error)


def do_piece(node: str, folder: str, work: Callable[[Any], Any], piece: Any) -> Answer:
    """In a worker on a node of the cluster. `folder`: the driver's, from which paths that the user gave start."""
    one_thread()
    try:
        os.chdir(folder)
    except OSError as error:
        where = f"node {node} does not see {folder} ({error.strerror})"
        return Answer(error=PrerequisiteError(f"{where}: start drift in a folder that every node sees."))
    return answer(work, piece, node)


def lines_of(error: BaseException) -> list[str]:
    """The message of an error of Ray, which may be a traceback: at least one line."""
    lines = [line.strip().rstrip(".")[:200] for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]
