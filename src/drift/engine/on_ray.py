"""Pieces of work on a Ray cluster: tasks that write files on storage that every node sees. Nothing else imports ray.

Ray's object store carries only the pieces and their counts. dispatch.py hands the pieces out.
"""

import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from drift.engine.dispatch import Actors, Dispatch, Tasks, do_piece, lines_of
from drift.engine.engine import Answer, Engine, Local, Piece, Result, name_of
from drift.engine.kept import let_go
from drift.engine.nodes import Sight, look, nodes_in_words, trouble_of
from drift.engine.together import Machine, Together
from drift.errors import PrerequisiteError
from drift.progress import report_note

_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 300.0
# Ray's shorter keepalive (RAY_grpc_client_keepalive_time_ms) is not set here: where the nodes do not have it too, they
# close the connection of a piece that runs for longer than a few pings ("too many pings"), and the piece dies.


class OnRay:
    """The cluster at `address`. `close` leaves it as it was."""

    gpus = 0

    def __init__(self, address: str, retries: int = 3, nodes: int | None = None, gpus_per_replica: int = 1) -> None:
        """Raises PrerequisiteError if ray is not installed or no cluster answers."""
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise PrerequisiteError(
                f"cluster.address {address}: ray is not installed: pip install 'drift-training[ray]'"
            ) from None
        _check_reachable(address)
        self._ray, self._retries, self._gpus_per_replica = ray, retries, gpus_per_replica
        self._said_unused = False
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise PrerequisiteError(f"cluster.address {address}: {lines_of(error)[0]}. {_HOW_TO_START}") from None
        self._task, self._folder = ray.remote(_do), os.getcwd()
        self.together = Together(ray, self._start_on, nodes, retries) if nodes else None

    @property
    def workers(self) -> int:
        """The cores of all nodes; at least 2, so that stages work in pieces."""
        return max(int(self._ray.cluster_resources().get("CPU", 0)), 2)

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[tuple[int, Result]]:
        hands = Tasks(self._task, 2 * self.workers)
        yield from Dispatch(self._ray, _Board(), hands, work, pieces, self._retries).results()

    @contextmanager
    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> Iterator[Engine]:
        """As of the protocol: an actor on every `gpus_per_replica` GPUs of a node, else on every `threads` cores.

        `only` numbers GPUs of this machine, so it is not followed. Raises PrerequisiteError also if no node has so
        many cores.
        """
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        alive, size = [node["Resources"] for node in nodes], self._gpus_per_replica
        on_gpus = sum(int(node.get("GPU", 0)) // size for node in alive)
        if size > 1 and not on_gpus:
            raise PrerequisiteError(
                f"cluster.gpus_per_replica is {size}, but no node of the cluster has so many GPUs: "
                f"{nodes_in_words(nodes)}. Set it to what a node has, or let larger nodes join."
            )
        if not on_gpus and threads is None:
            yield Local()
            return
        if on_gpus and only and not self._said_unused:
            self._said_unused = True  # once in a run, not in each of its stages
            report_note(
                f"sampling.vllm.gpus {list(only)} is not used on the cluster: each replica gets {size} of its node's "
                "GPUs (cluster.gpus_per_replica)"
            )
        models = on_gpus or sum(int(node.get("CPU", 0)) // (threads or 1) for node in alive)
        if not models:
            raise PrerequisiteError(
                f"no node of the cluster has the {threads} cores on which this run's models work. Set fewer, in a new "
                "run: --set threads=N"
            )
        needs = {"num_gpus": size} if on_gpus else {"num_cpus": threads or 1}
        with closing(Actors(self._ray, _Actor, needs, models)) as actors:
            yield _Models(self._ray, actors, self._retries, size if on_gpus else 0)

    def close(self) -> None:
        self._ray.shutdown()

    def check_nodes(self, folders: Sequence[Path]) -> None:
        """Say which nodes there are. Raise PrerequisiteError, in one line, if one of them does not see what the others
        write below the folders, or has other code."""
        alive = (node for node in self._ray.nodes() if node["Alive"])
        nodes = sorted(alive, key=lambda node: (node["NodeManagerHostname"], node["NodeID"]))
        report_note(f"on Ray: {nodes_in_words(nodes)}")
        absolute = map(Path.absolute, folders)
        for place in sorted({next(path for path in (one, *one.parents) if path.is_dir()) for one in absolute}):
            self._check_place(place, nodes)

    def _check_place(self, place: Path, nodes: Sequence[dict[str, Any]]) -> None:
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

    def _start_on(self, machine: Machine, work: Any, piece: Any) -> Any:
        """On a machine, with all its GPUs."""
        options = self._there(machine.id) | ({"num_gpus": machine.gpus} if machine.gpus else {})
        return self._task.options(**options, name=name_of(piece)[:80]).remote(None, self._folder, work, piece)

    def _there(self, node: str) -> dict[str, Any]:
        from ray.util import scheduling_strategies  # pyright: ignore[reportMissingImports]

        there = scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        return {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}

    def _on_all(self, nodes: Sequence[dict[str, Any]], folder: Path) -> list[Sight]:
        tasks: dict[Any, str] = {}
        for node in nodes:
            task = self._task.options(**self._there(node["NodeID"]))
            name = f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}"
            tasks[task.remote(None, self._folder, partial(look, folder), name)] = name
        _, silent = self._ray.wait(list(tasks), num_returns=len(tasks), timeout=_ANSWER_SECONDS)
        if silent:
            raise PrerequisiteError(f"node {tasks[silent[0]]} does not answer for {_ANSWER_SECONDS:g} s. {_ITS_RAY}")
        return [self._sight(task, name) for task, name in tasks.items()]

    def _sight(self, task: Any, name: str) -> Sight:
        try:
            result: Answer = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            raise PrerequisiteError(f"node {name} cannot run DRIFT: {lines_of(error)[-1]}. {_ITS_RAY}") from None
        return result.unwrapped()


class _Models(Local):
    """The engine that `OnRay.for_models` gives."""

    def __init__(self, ray: Any, actors: Actors, retries: int, gpus: int) -> None:
        self.gpus = gpus
        # at least 2, so that stages work in pieces: the only GPU may be another node's
        self.workers, self._ray, self._actors, self._retries = max(actors.count, 2), ray, actors, retries

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[tuple[int, Result]]:
        yield from Dispatch(self._ray, _Board(), self._actors, work, pieces, self._retries).results()


class _Board:
    """In the table of the cluster's head."""

    def __init__(self) -> None:
        self._name, self._keys = f"drift-{uuid.uuid4().hex}-", count()

    def key(self) -> str:
        return f"{self._name}{next(self._keys)}"

    def node(self, key: str) -> str | None:
        name = internal_kv()._internal_kv_get(key)
        return name.decode() if name else None

    def clear(self) -> None:
        internal_kv()._internal_kv_del(self._name, del_by_prefix=True)


def internal_kv() -> Any:
    from ray.experimental import internal_kv  # pyright: ignore[reportMissingImports]

    return internal_kv


def _do(key: str | None, folder: str, work: Callable[[Any], Any], piece: Any) -> Answer:
    """In a worker: note on the board, under `key`, where it is, and do the piece."""
    node = socket.gethostname()
    if key is not None:
        internal_kv()._internal_kv_put(key, node)
    return do_piece(node, folder, work, piece)


class _Actor:
    """A process that keeps what its pieces load."""

    def answer(self, key: str, folder: str, work: Callable[[Any], Any], piece: Any) -> Answer:
        return _do(key, folder, work, piece)

    def close(self) -> None:
        let_go()


_ITS_RAY = (
    "Every node needs the same Python environment, with drift-training[ray] in it. Mend the node, or take it out of "
    "the cluster: `ray stop` on it."
)
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
