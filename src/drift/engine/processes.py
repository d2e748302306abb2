"""All cores of one machine: worker processes that take one piece after another. It needs no configuration."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

from drift.engine.engine import Answer, Engine, Local, Piece, Result, answer, killed
from drift.engine.kept import let_go
from drift.errors import PrerequisiteError
from drift.progress import report_note

END_SECONDS = 90.0
"""For a worker to end what it keeps: a vLLM server gets 30 s to end by itself."""


class Processes:
    """Worker processes on this machine, started with the first piece. `close` ends them.

    A process that dies is replaced, and its piece is done again, `retries` times in all.
    """

    together = None

    def __init__(
        self,
        workers: int | None = None,
        retries: int = 3,
        replicas: Sequence[str] = (),
        gpus_per_replica: int = 1,
    ) -> None:
        """`workers`: by default as many as the process may use cores. `replicas`: instead, one worker for each of them,
        which sees the GPUs that it names, as in CUDA_VISIBLE_DEVICES."""
        self._most = len(replicas) or workers or len(os.sched_getaffinity(0))
        # with replicas at least 2, so that stages work in pieces: a model over several GPUs is a worker's
        self.workers = max(self._most, 2) if replicas else self._most
        self.gpus = gpus_per_replica if replicas else 0
        self._gpus_per_replica = gpus_per_replica
        self._retries = retries
        self._idle: list[_Worker] = []
        self._said_alone = False
        self._gpus = list(replicas)  # without a worker

    def each(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[tuple[int, Result]]:
        waiting, tries = deque(range(len(pieces))), Counter[int]()
        busy: dict[Connection, tuple[int, _Worker]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self._most:
                    worker = self._idle.pop() if self._idle else _Worker(self._gpus.pop() if self._gpus else None)
                    number = waiting.popleft()
                    busy[worker.pipe] = (number, worker)
                    worker.send(work, pieces[number])
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    number, worker = busy.pop(pipe)
                    received = worker.receive()
                    if received is not None:
                        self._idle.append(worker)
                        yield number, received.unwrapped()
                        continue
                    tries[number] += 1
                    why = self._ended(worker)
                    if tries[number] == self._retries:
                        raise killed(pieces[number], tries[number], why)
                    waiting.appendleft(number)
        finally:  # after an error, nobody waits for what is still running
            for _, worker in busy.values():
                worker.kill()
                self._ended(worker)

    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> AbstractContextManager[Engine]:
        names, size = [str(number) for number in only] or _visible(gpus), self._gpus_per_replica
        replicas = [",".join(names[start : start + size]) for start in range(0, len(names) - size + 1, size)]
        if size > 1 and not replicas:
            raise PrerequisiteError(
                f"cluster.gpus_per_replica is {size}, but "
                + (f"sampling.vllm.gpus names {len(only)}" if only else f"this machine has {gpus}")
                + ". Set it to what there is, or set cluster.address to a Ray cluster whose nodes have so many."
            )
        if len(replicas) > 1 or size > 1:
            return closing(Processes(retries=self._retries, replicas=replicas, gpus_per_replica=size))
        if replicas or threads is None:
            return nullcontext(Local())
        models = self.workers // threads
        if models > 1:
            return closing(Processes(models, self._retries))
        if not self._said_alone:
            self._said_alone = True  # once in a run, not in each of its stages
            report_note(
                f"The model works in this process alone, which uses {threads} of {self.workers} cores. In a new run, "
                "--set threads=1 gives every core a process with the model"
            )
        return nullcontext(Local())

    def close(self) -> None:
        for worker in self._idle:
            worker.ask_to_end()
        while self._idle:
            self._idle.pop().kill(after=END_SECONDS)

    def _ended(self, worker: "_Worker") -> str:
        """Why the process ended. Its GPU is free."""
        if worker.gpu is not None:
            self._gpus.append(worker.gpu)
        return worker.end()


class _Worker:
    """One process and the pipe to it. The process ends when the pipe does, so none outlives a killed driver."""

    def __init__(self, gpu: str | None) -> None:
        self.gpu = gpu
        spawn = spawn_context()
        self.pipe, theirs = spawn.Pipe()
        self._process: BaseProcess = spawn.Process(target=_serve, args=(theirs, gpu), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, work: Callable[[Piece], Result], piece: Piece) -> None:
        with suppress(BrokenPipeError):  # it died while it was idle: `receive` says so
            self.pipe.send((work, piece))

    def receive(self) -> Answer | None:
        """The answer; None if the process died."""
        try:
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            return None

    def end(self) -> str:
        """Why the process ended."""
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def ask_to_end(self) -> None:
        """Let it end what it keeps."""
        with suppress(BrokenPipeError):
            self.pipe.send(None)

    def kill(self, after: float = 0.0) -> None:
        """`after`: seconds for it to end by itself, if it was asked to."""
        if after:
            self.pipe.poll(after)  # until it closes its end
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, gpu: str | None) -> None:
    """In the worker: answer until the driver asks it to end, or dies. `gpu`: the only one that it sees, or several."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends its workers
    end_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when torch loads: it has not yet
    one_thread()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while (given := pipe.recv()) is not None:
            work, piece = given
            pipe.send_bytes(pickle.dumps(answer(work, piece)))  # `send` passes tensors as handles of shared memory
    let_go()
    pipe.close()


def spawn_context() -> SpawnContext:
    """How worker processes start: a fork copies locks of threads (pyarrow, DuckDB) that nobody frees.

    What a killed worker leaves (a semaphore of tqdm, say) is removed at the end by multiprocessing's resource tracker,
    a process that warns of it. The command has said what happened, so the tracker is kept quiet.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        resource_tracker.ensure_running()  # it reads them when it starts
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before
    return multiprocessing.get_context("spawn")


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C comes when the block ends. A process that starts in it is not interrupted before `end_on_interrupt`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_on_interrupt() -> None:
    """End this worker on Ctrl-C without a word: the command that started it says it.

    As KeyboardInterrupt it would print a traceback while it loads modules or waits for work. Programs that it starts
    take Ctrl-C as always. Where the command ignores Ctrl-C, as shells make those in the background, so does the worker.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))  # without clean-up: what is unfinished resumes
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """End this process when its parent ends. A command that is killed with SIGKILL cannot stop its workers itself."""

    def wait_and_exit() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)  # without clean-up: a stage without a manifest is known to be unfinished

    threading.Thread(target=wait_and_exit, daemon=True).start()


def _visible(gpus: int) -> list[str]:
    """The names of this machine's GPUs that the process sees."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return names if len(names) == gpus else [str(number) for number in range(gpus)]


def one_thread() -> None:
    """Keep the libraries of this process to one thread: there is a process for every core."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when numpy and scikit-learn load: they have not yet
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
