"""Pieces of work and who does them.

A piece writes what it makes as a file (`disk.new_file`) and returns a small record of counts, so that a piece that is
done twice does no harm. Who does the pieces is ambient (`using_engine`): no stage takes an engine as an input, so no
key of a stage depends on it, and a run may begin on a laptop and continue on a cluster.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from drift.engine.memory import give_back_memory
from drift.engine.together import Together
from drift.errors import ConfigError, DataError, DriftError, NothingToTrainOn, PrerequisiteError, disk_trouble
from drift.progress import report_progress
from drift.records.jsonl import parsed
from drift.rundir import Journal

Piece = TypeVar("Piece")
Result = TypeVar("Result")
_KINDS = (NothingToTrainOn, DataError, ConfigError, PrerequisiteError, DriftError)  # the narrower ones first


class Engine(Protocol):
    """`workers`: how many pieces are done at the same time. With 1, stages work in this process without pieces.

    `gpus`: how many each worker has for itself.
    """

    @property
    def workers(self) -> int: ...

    @property
    def gpus(self) -> int: ...

    @property
    def together(self) -> Together | None:
        """The machines on which one training runs (`cluster.nodes`); None: on this one alone."""
        ...

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[tuple[int, Result]]:
        """Yield the number and the result of each piece, in the order in which they finish.

        `work` is a function of a module, or a partial of one. An error in a piece is raised here. Raises DriftError,
        which names the piece, if its process dies again and again.
        """
        ...

    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> AbstractContextManager["Engine"]:
        """An engine whose workers each have room for a model: the GPUs of a replica, else `threads` cores.

        Its workers keep what they load until the block ends, and end with it (kept.py). `threads` None: for work that
        needs GPUs; without any, it is this process. `gpus`: of this machine; `only`: their numbers, if not all of them.
        Raises PrerequisiteError if no machine has the GPUs of a replica.
        """
        ...


class Local:
    """This process, one piece after another."""

    workers = 1
    gpus = 0
    together = None

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[tuple[int, Result]]:
        for number, piece in enumerate(pieces):
            yield number, work(piece)

    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> AbstractContextManager[Engine]:
        return nullcontext(self)


_THIS_PROCESS = Local()
_engine: ContextVar[Engine] = ContextVar("engine", default=_THIS_PROCESS)


def current_engine() -> Engine:
    """The engine of this block; outside of `using_engine`, this process."""
    return _engine.get()


@contextmanager
def using_engine(engine: Engine) -> Iterator[Engine]:
    """Let every stage in this block use the engine."""
    token = _engine.set(engine)
    try:
        yield engine
    finally:
        _engine.reset(token)


def in_pieces(
    work: Callable[[Piece], Result], pieces: Sequence[Piece], record: type[Result], journal: Path, plan: object
) -> list[Result]:
    """The results of all pieces in their order, from the current engine. Reports progress in pieces.

    `journal`: a folder for the results of finished pieces (rundir/journal.py), from which the same command resumes if
    `plan`, which says what the pieces are, has not changed; nothing else may be kept in it. `record`: of a result.
    """
    journal.mkdir(parents=True, exist_ok=True)
    results: dict[int, Result] = {}
    with Journal.open(journal, plan) as finished:
        results |= {number: parsed(content, record) for number, content in finished.done.items()}
        missing = [number for number in range(len(pieces)) if number not in results]
        report_progress(len(results), len(pieces))
        for place, result in current_engine().each(work, [pieces[number] for number in missing]):
            results[missing[place]] = result
            finished.append(missing[place], orjson.loads(orjson.dumps(result, option=orjson.OPT_NON_STR_KEYS)))
            report_progress(len(results), len(pieces))
    return [results[number] for number in range(len(pieces))]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process gives back of a piece: its result, or the error. `trace`: of an error that is a bug."""

    result: Any = None
    error: DriftError | None = None
    trace: str | None = None

    def unwrapped(self) -> Any:
        """The result. Raises the error of the piece."""
        if self.error is not None:
            raise self.error
        if self.trace is not None:
            raise RuntimeError(f"a piece of work failed in another process:\n{self.trace}")
        return self.result


def answer(work: Callable[[Any], Any], piece: Any, node: str | None = None) -> Answer:
    """Do a piece in the process that calls this. It raises nothing: not every error can be sent to another process.

    `node`: of a cluster; errors of its disk name it.
    """
    try:
        return _answer(work, piece, node)
    finally:
        give_back_memory()


def _answer(work: Callable[[Any], Any], piece: Any, node: str | None) -> Answer:
    try:
        return Answer(work(piece))
    except Exception as error:
        trouble = _trouble_of_node(error, node) if node else None
        if trouble is None and isinstance(error, DriftError):
            kind = next(kind for kind in _KINDS if isinstance(error, kind))
            trouble = kind(str(error))
        return Answer(error=trouble or disk_trouble(error), trace=traceback.format_exc())


def _trouble_of_node(error: Exception, node: str) -> DriftError | None:
    """An error of the node's disk or of files that it lacks, also where a reader has put it into its own words."""
    if trouble := disk_trouble(error):
        return DriftError(f"node {node}: {trouble}")
    cause = error.__context__ if isinstance(error, DriftError) else error
    if isinstance(cause, FileNotFoundError) and cause.filename:
        return PrerequisiteError(
            f"node {node} does not see {cause.filename}. Every node must see logs, store and run folder under the same "
            "path."
        )
    return None


def killed(piece: object, tries: int, why: str) -> DriftError:
    """The error of a piece whose process died too often."""
    return DriftError(
        f"{name_of(piece)}: its process died {tries} times ({why}). The likely causes are too little memory and a "
        "library that crashes on these data. Finished pieces are kept: run the same command again with more memory per "
        "core, or without these data."
    )


def lost_nodes(piece: object, times: int, why: str) -> DriftError:
    """The error of a piece whose node was lost too often."""
    return DriftError(
        f"{name_of(piece)}: {times} nodes were lost under it, the last one with: {why}. Finished pieces are kept: run "
        "the same command again when the nodes stay, for example not on spot machines. If only this piece loses its "
        "nodes, they have too little memory for it."
    )


def name_of(piece: object) -> str:
    """A piece as messages name it: its own `name`, also behind a number, else its text."""
    if isinstance(piece, tuple):
        piece = piece[-1]
    return str(getattr(piece, "name", None) or f"piece {piece}")[:300]
