"""What work in pieces costs and gives: the same logs in one process, in two workers, and on a Ray cluster.

    python benchmarks/cluster.py --conversations 250000 --json [--ray HOST:PORT]

Ingestion (redacted), near-duplicates, labels and prompts of a generated log, each way into a new store.

`equal`: content, labels, near-duplicates and prompts are those of one process.
`cpu_ratio`: CPU time of all processes with two workers over that of one process, without the start of the workers.
`speedup`: wall time of one process over that of two workers; it says something on two idle cores only.
`load`: processes that were running before.
`rss_mb`: the largest peak of a process that worked on pieces.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from drift.bench.ingest import write_log
from drift.config import ClusterSettings, IngestionSettings
from drift.engine import Processes, open_engine, using_engine
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.pairs.stages import write_pairs
from drift.store import Store


@dataclass(frozen=True, slots=True)
class Way:
    """How the work was done: seconds of CPU in all processes, of the clock, and the peak of a worker."""

    cpu: float
    wall: float
    rss_mb: float
    result: tuple[str, str, bytes, bytes]


def work(log: Path, folder: Path) -> tuple[str, str, bytes, bytes]:
    """All stages of `drift pairs LOGS`; returns what must be equal."""
    store, prompts = Store(folder / "store"), folder / "prompts.jsonl"
    ingest([log], store, settings=IngestionSettings(near_duplicates=True))
    label_store(store)
    write_pairs(store, prompts, 0.5)
    near = (store.path / "near_duplicates.jsonl").read_bytes()
    return store.content_hash(), store.label_hash(), near, prompts.read_bytes()


def cpu_of(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


def workers() -> list[psutil.Process]:
    """The worker processes of this process, and those of a Ray cluster on this machine."""
    children = [child for child in psutil.Process().children() if "resource_tracker" not in " ".join(child.cmdline())]
    ray = [one for one in psutil.process_iter(["cmdline"]) if " ".join(one.info["cmdline"] or ()).startswith("ray::")]
    return [*children, *ray]


@contextmanager
def two_workers() -> Iterator[None]:
    with closing(Processes(2)) as engine, using_engine(engine):
        list(engine.each(warm_up, range(2)))  # imports are the start, not the work
        yield


@contextmanager
def on_ray(address: str, folder: Path) -> Iterator[None]:
    with open_engine(ClusterSettings(address=address), folder) as engine:
        list(engine.each(warm_up, range(2)))
        yield


def warm_up(number: int) -> int:
    """Load what the stages load."""
    import drift.run  # noqa: F401
    from drift.feedback.embedded.labeller import EmbeddedLabeller

    EmbeddedLabeller()
    time.sleep(1)  # so that every worker gets one
    return number


def empty_store(folder: Path, manifest: Path) -> None:
    """Begin every store with the same salt: the keys of users, which are in the prompts, depend on it."""
    store = Store(folder / "store")
    store.add([])
    if not manifest.exists():
        shutil.copy(store.path / "manifest.json", manifest)
    shutil.copy(manifest, store.path / "manifest.json")


def measured(way: Callable[[], AbstractContextManager[Any]], log: Path, folder: Path) -> Way:
    folder.mkdir()
    empty_store(folder, log.parent / "salt.json")
    with way():
        before, peak = cpu_of(workers()), 0.0
        own, wall = time.process_time(), time.monotonic()
        result = work(log, folder)
        own, wall = time.process_time() - own, time.monotonic() - wall
        others = workers()
        cpu = own + cpu_of(others) - before
        for one in others:
            with open(f"/proc/{one.pid}/status", encoding="ascii") as status:
                peak = max(peak, *(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM")))
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return Way(round(cpu, 2), round(wall, 2), round(peak, 1), result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", metavar="HOST:PORT", help="also on this Ray cluster, of this machine")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = psutil.getloadavg()[0]
    ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "one process": nullcontext,
        "two workers": two_workers,
    }
    with tempfile.TemporaryDirectory(prefix="drift-cluster-") as folder:
        if options.ray:
            ways["ray"] = lambda: on_ray(options.ray, Path(folder))
        log = Path(folder) / "log.jsonl"
        write_log(log, options.conversations, options.seed)
        megabytes = log.stat().st_size / 1e6
        done = {}
        for number, (name, way) in enumerate(ways.items()):
            done[name] = measured(way, log, Path(folder) / str(number))
            one = done[name]
            print(f"{name}: {one.cpu} CPU s, {one.wall} s, {one.rss_mb} MB", file=sys.stderr)
    first, two = done["one process"], done["two workers"]
    report = {
        "conversations": options.conversations,
        "megabytes": round(megabytes, 1),
        "seed": options.seed,
        "load": round(load, 1),
        "equal": all(one.result == first.result for one in done.values()),
        "cpu_ratio": round(two.cpu / first.cpu, 3),
        "speedup": round(first.wall / two.wall, 2),
        "rss_mb": max(one.rss_mb for name, one in done.items() if name != "one process"),
        "ways": {name: {"cpu": one.cpu, "wall": one.wall, "rss_mb": one.rss_mb} for name, one in done.items()},
    }
    print(orjson.dumps(report).decode() if options.json else report)


if __name__ == "__main__":
    main()
