"""Memory and speed of stitching: sessions of growing calls in LiteLLM's shape, through the whole ingestion.

    python benchmarks/stitch_calls.py --calls 20000 100000 > benchmarks/results/stitch_calls.jsonl

Each size runs in a process of its own; one JSON line each. Seconds are CPU time of that process.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CALLS_PER_SESSION = 4
WORDS = "the model reply question answer table code please wrong again short long list number name".split()  # noqa: SIM905


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.child)))
        return
    for calls in given.calls:
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
