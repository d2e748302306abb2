"""What the hand-out of pieces says about nodes, with a stand-in for ray: on a real cluster, test_on_ray.py."""

from dataclasses import dataclass
from typing import Any

import pytest

from drift.engine import dispatch
from drift.engine.dispatch import Dispatch
from drift.engine.engine import Answer
from drift.errors import DriftError
from drift.progress import listening


class RayError(Exception): ...


class NodeDiedError(RayError): ...


class Errors:
    RayError, NodeDiedError = RayError, NodeDiedError
    ObjectLostError = type("ObjectLostError", (RayError,), {})
    LocalRayletDiedError = type("LocalRayletDiedError", (RayError,), {})
    ActorDiedError = type("ActorDiedError", (RayError,), {})
    RayTaskError = type("RayTaskError", (RayError,), {})


@dataclass(frozen=True, eq=False)
class Started:
    """`ends`: with an answer, an error, or never (None)."""

    ends: Answer | Exception | None


class StandIn:
    """ray, the workers and their board in one. `fates`: how each try of a piece ends; then it is done well."""

    exceptions = Errors
    count = 4

    def __init__(self, **fates: list[Exception | None]) -> None:
        self.fates, self.keys, self.cleared = fates, 0, False

    def put(self, work: Any) -> Any:
        return work

    def start(self, name: str, key: str, folder: str, work: Any, piece: str) -> Started:
        fates = self.fates.get(piece, [])
        return Started(fates.pop(0) if fates else Answer(work(piece)))

    def wait(self, started: list[Started], num_returns: int, timeout: float) -> tuple[list[Started], list[Started]]:
        ready = [task for task in started if task.ends is not None][:1]
        return ready, []

    def get(self, task: Started) -> Answer:
        if isinstance(task.ends, Exception):
            raise task.ends
        assert task.ends is not None
        return task.ends

    def ended(self, started: Started, died: bool) -> None: ...

    def cancel(self, ray: Any, started: Started) -> None: ...

    def key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"

    def node(self, key: str) -> str | None:
        return None if key == "key-1" else f"host-{key[-1]}"

    def clear(self) -> None:
        self.cleared = True


class WithoutBoard(StandIn):
    """The head of the cluster does not answer."""

    def node(self, key: str) -> str | None:
        raise RayError("failed to connect to GCS")

    def clear(self) -> None:
        super().clear()
        raise RayError("failed to connect to GCS")


def done(stand_in: StandIn, retries: int = 2) -> tuple[dict[int, str], list[str]]:
    """The results of the pieces a, b and c, and the notes."""
    notes: list[str] = []
    hands: Any = stand_in
    with listening(lambda *_: None, notes.append):
        results = dict(Dispatch(stand_in, hands, hands, str.upper, ["a", "b", "c"], retries).results())
    assert stand_in.cleared
    return results, notes


def test_a_late_piece_says_which_node_it_waits_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "_LATE_SECONDS", 0.0)
    results, notes = done(StandIn(c=[None]))
    assert results == {0: "A", 1: "B", 2: "C"}
    assert notes == ["piece c is late (0 s on node host-3; others took 0 s): a second worker gets it too"]


def test_a_late_piece_that_nobody_has_begun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "_LATE_SECONDS", 0.0)
    _, notes = done(StandIn(a=[None]))
    assert notes == ["piece a is late (0 s, without a worker yet; others took 0 s): a second worker gets it too"]


def test_a_lost_node_is_named_and_is_no_try():
    results, notes = done(StandIn(b=[NodeDiedError("gone"), NodeDiedError("gone"), NodeDiedError("gone")]), retries=1)
    assert results == {0: "A", 1: "B", 2: "C"}
    assert notes[0] == "node host-2 was lost: piece b is done again"
    assert len(notes) == 3


def test_a_piece_that_always_loses_its_node_does_not_blame_its_process():
    stand_in = StandIn(b=[NodeDiedError("gone.\nlong story")] * 10)
    says = r"^piece b: 10 nodes were lost under it, the last one with: gone, on node host-\d\. Finished pieces"
    with pytest.raises(DriftError, match=says) as error:
        done(stand_in)
    assert "died" not in str(error.value)
    results, notes = done(StandIn(b=[NodeDiedError("gone")] * 9))
    assert (results[1], len(notes)) == ("B", 9)


def test_a_piece_is_done_again_also_where_nobody_knows_its_node():
    results, notes = done(WithoutBoard(b=[NodeDiedError("gone"), RayError("worker died")]))
    assert results == {0: "A", 1: "B", 2: "C"}
    assert notes == ["a node was lost: piece b is done again"]


def test_a_piece_that_kills_its_process_names_the_node():
    stand_in = StandIn(b=[RayError("worker died.\nlong story"), RayError("worker died.\nlong story")])
    with pytest.raises(DriftError, match=r"^piece b: its process died 2 times \(worker died, on node host-\d\)\."):
        done(stand_in)
    assert stand_in.cleared
