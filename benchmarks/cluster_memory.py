"""Is the memory of `drift pairs LOG --cluster local` flat? The peak of each process, for logs of several sizes.

    python benchmarks/cluster_memory.py --conversations 10000 100000 --json

`resident`, `private`: MB, the largest that was seen of each process, the run's own first; `private` is without files
that the kernel shares between processes. `growth`: of the largest resident size, last log over first.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import psutil

from drift.bench.ingest import write_log

SAMPLE_SECONDS = 0.2


def peaks(command: list[str]) -> list[dict[str, float]]:
    """Run the command; the peaks of its process and of its workers."""
    seen: dict[int, dict[str, float]] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for pid in (process.pid, *(one.pid for one in psutil.Process(process.pid).children())):
                sizes = memory(pid)
                before = seen.get(pid, sizes)
                seen[pid] = {name: max(size, before[name]) for name, size in sizes.items()}
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(process.returncode)
    first, *others = seen.values()
    return [first, *sorted(others, key=lambda sizes: -sizes["resident"])]


def memory(pid: int) -> dict[str, float]:
    """MB; zeros if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    sizes = {
        name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return {"resident": round(sizes.get("VmHWM", 0.0), 1), "private": round(sizes.get("RssAnon", 0.0), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for conversations in options.conversations:
        with tempfile.TemporaryDirectory(prefix="drift-memory-") as folder:
            log, store, out = (Path(folder) / name for name in ("log.jsonl", "store", "prompts.jsonl"))
            write_log(log, conversations, options.seed)
            pairs = ["pairs", str(log), "--store", str(store), "--out", str(out), "--cluster", "local"]
            found[conversations] = peaks([sys.executable, "-m", "drift", *pairs])
            print(f"{conversations}: {found[conversations]}", file=sys.stderr)
    largest = [max(one["resident"] for one in sizes) for sizes in found.values()]
    report = {"seed": options.seed, "processes": found, "growth": round(largest[-1] / largest[0], 3)}
    print(orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS).decode() if options.json else report)


if __name__ == "__main__":
    main()
