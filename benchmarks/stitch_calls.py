"""Memory and speed of stitching: sessions of growing calls in LiteLLM's shape, through the whole ingestion.

    python benchmarks/stitch_calls.py --calls 20000 100000 > benchmarks/results/stitch_calls.jsonl
    python benchmarks/stitch_calls.py --calls 20000 --pairs 2

Each size runs in a process of its own; one JSON line each. Seconds are CPU time of that process. With `--pairs`, each
size is ingested by turns in one process and in pieces by two worker processes, whose CPU time counts too.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing, nullcontext
from pathlib import Path

CALLS_PER_SESSION = 4
WORKERS = 2
WORDS = "the model reply question answer table code please wrong again short long list number name".split()  # noqa: SIM905


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--pairs", type=int, default=0, help="how often to compare one process with two workers")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ingest", nargs=3, metavar=("LOG", "STORE", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ingest:
        log, store, workers = given.ingest
        ingest_with(Path(log), Path(store), int(workers))
        return
    if given.child:
        print(json.dumps(measure(given.child)))
        return
    for calls in given.calls if given.pairs else ():
        for _ in range(given.pairs):
            print(json.dumps(compare(calls)), flush=True)
    for calls in () if given.pairs else given.calls:
        done = subprocess.run([sys.executable, __file__, "--child", str(calls)], stdout=subprocess.PIPE, check=True)
        print(done.stdout.decode().strip(), flush=True)


def measure(calls: int) -> dict[str, float]:
    from drift.logs.ingest import ingest
    from drift.store import Store

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "calls.jsonl"
        write(log, calls)
        before, begun = peak_mb(), time.process_time()
        summary = ingest([log], Store(Path(folder) / "store"))
        seconds = time.process_time() - begun
        megabytes = log.stat().st_size / 1e6
    if summary.accepted != calls // CALLS_PER_SESSION:
        raise AssertionError(f"{calls} calls became {summary.accepted} conversations")
    return {
        "calls": calls,
        "conversations": summary.accepted,
        "megabytes": round(megabytes, 1),
        "cpu_seconds": round(seconds, 1),
        "mb_per_cpu_second": round(megabytes / seconds, 1),
        "peak_rss_mb": peak_mb(),
        "rss_before_mb": before,
    }


def compare(calls: int) -> dict[str, float | bool]:
    """CPU seconds of one process and of an ingestion in pieces, and whether the stores are equal."""
    from drift.store import Store

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "calls.jsonl", calls)
        seconds, peaks = {}, {}
        for store, workers in (("one", 1), ("pieces", WORKERS)):
            command = [sys.executable, __file__, "--ingest", folder / "calls.jsonl", folder / store, str(workers)]
            _, status, used = os.wait4(subprocess.Popen(command).pid, 0)  # with the processes that it waited for
            if status:
                raise SystemExit(f"the ingestion with {workers} workers failed")
            seconds[store], peaks[store] = used.ru_utime + used.ru_stime, used.ru_maxrss // 1024
        equal = Store(folder / "one").content_hash() == Store(folder / "pieces").content_hash()
    return {
        "calls": calls,
        "equal": equal,
        "cpu_seconds_one": round(seconds["one"], 1),
        "cpu_seconds_pieces": round(seconds["pieces"], 1),
        "cpu_ratio": round(seconds["pieces"] / seconds["one"], 2),
        "peak_rss_mb_one": peaks["one"],
        "peak_rss_mb_pieces": peaks["pieces"],
    }


def ingest_with(log: Path, store: Path, workers: int) -> None:
    from drift.engine import Local, Processes, using_engine
    from drift.logs.ingest import ingest
    from drift.store import Store

    with closing(Processes(workers)) if workers > 1 else nullcontext(Local()) as engine, using_engine(engine):
        ingest([log], Store(store))


def write(log: Path, calls: int) -> None:
    """Sessions of four calls each, interleaved: each call holds all messages before it."""
    draw = random.Random(0)
    with log.open("w", encoding="utf-8") as out:
        for block in range(0, calls // CALLS_PER_SESSION, 100):
            histories: dict[int, list[dict[str, str]]] = {session: [] for session in range(block, block + 100)}
            for turn in range(CALLS_PER_SESSION):
                for session, history in histories.items():
                    history.append({"role": "user", "content": text(draw, 40)})
                    answer = {"role": "assistant", "content": text(draw, 120)}
                    row = {"id": f"{session}-{turn}", "session_id": f"s{session}", "call_type": "acompletion"}
                    row |= {
                        "startTime": 1.7e9 + turn,
                        "messages": history,
                        "response": {"choices": [{"message": answer}]},
                    }
                    out.write(json.dumps(row) + "\n")
                    history.append(answer)


def text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
