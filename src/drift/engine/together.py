"""Several machines at the same work at the same time: where one of them is lost, all of them begin again."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from drift.errors import PrerequisiteError
from drift.progress import report_note

Piece = TypeVar("Piece")
Result = TypeVar("Result")
_POLL_SECONDS, _WAIT_SECONDS = 0.5, 300.0
_SETTLE_SECONDS = 3.0
"""After so long the processes that a killed worker had started are gone (`end_with_parent` looks every second)."""


class MachineLost(Exception):
    """A machine, or the worker on it, died. The message says which."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`address`: its IP address. `gpus`: how many it has."""

    id: str
    name: str
    address: str
    gpus: int


class Together:
    """`count` machines of a cluster, each with all its GPUs. `retries`: how often their work may be begun."""

    def __init__(self, ray: Any, start: Callable[[Machine, Any, Any], Any], count: int, retries: int) -> None:
        """`start` hands a piece to a machine and returns what ray waits for."""
        self.count, self.retries, self._ray, self._start = count, retries, ray, start

    def machines(self) -> list[Machine]:
        """Those to work on, in the order of their addresses. While there are too few, waits for others to join.

        Raises PrerequisiteError if they do not.
        """
        deadline, noted = time.monotonic() + _WAIT_SECONDS, False
        while len(alive := self._alive()) < self.count:
            if time.monotonic() > deadline:
                raise PrerequisiteError(
                    f"cluster.nodes is {self.count}, but the cluster has {len(alive)}. Let more join (`ray start "
                    "--address HOST:PORT`) and run the same command again: finished training steps are kept."
                )
            if not noted:
                report_note(f"waiting for {self.count - len(alive)} more nodes, which training needs")
                noted = True
            time.sleep(_POLL_SECONDS)
        most = sorted(alive, key=lambda machine: (-machine.gpus, machine.address))[: self.count]
        return sorted(most, key=lambda machine: machine.address)

    def run(
        self,
        machines: Sequence[Machine],
        work: Callable[[Piece], Result],
        pieces: Sequence[Piece],
        watch: Callable[[], object] = lambda: None,
    ) -> list[Result]:
        """Do one piece on each machine; returns the results in order. `watch` is called twice a second meanwhile.

        Raises MachineLost, and the error of a piece, as soon as one of them fails; the others are ended before.
        """
        started = {self._start(machines[number], work, piece): number for number, piece in enumerate(pieces)}
        results: dict[int, Result] = {}
        waiting = list(started)
        try:
            while waiting:
                done, waiting = self._ray.wait(waiting, num_returns=1, timeout=_POLL_SECONDS)
                watch()
                for task in done:
                    results[started[task]] = self._received(task, machines[started[task]])
        finally:
            if waiting:
                for task in waiting:
                    with suppress(self._ray.exceptions.RayError):
                        self._ray.cancel(task, force=True)
                time.sleep(_SETTLE_SECONDS)
            watch()
        return [results[number] for number in range(len(pieces))]

    def _received(self, task: Any, machine: Machine) -> Any:
        try:
            return self._ray.get(task).unwrapped()
        except self._ray.exceptions.RayError as error:
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise MachineLost(f"node {machine.name} was lost ({why[:200]})") from None

    def _alive(self) -> list[Machine]:
        return [
            Machine(
                node["NodeID"],
                node["NodeManagerHostname"],
                node["NodeManagerAddress"],
                int(node["Resources"].get("GPU", 0)),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]
