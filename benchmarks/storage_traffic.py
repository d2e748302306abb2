"""How many bytes each data stage reads and writes for a byte of chat logs: the constants of `drift run --plan`.

    python benchmarks/storage_traffic.py --conversations 5000 --json

A generated log goes through ingestion (redacted), near-duplicates, labels and prompts in one process. Counted are the
bytes that the process asks the kernel for (`rchar`, `wchar` of /proc/self/io), whether or not they are in memory.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson

from drift.bench.ingest import write_log
from drift.config import IngestionSettings
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.logs.near_duplicates import find_near_duplicates
from drift.pairs.stages import write_pairs
from drift.store import Store


def traffic() -> dict[str, int]:
    """Bytes that this process has read and written so far."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {"read": int(counts["rchar"]), "written": int(counts["wchar"])}


def measure(conversations: int, seed: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="drift-traffic-") as name:
        folder = Path(name)
        log, store, first = folder / "log.jsonl", Store(folder / "store"), folder / "first.jsonl"
        steps: dict[str, Callable[[], object]] = {
            "ingestion": lambda: ingest([log], store, settings=IngestionSettings()),
            "near_duplicates": lambda: find_near_duplicates(store),
            "labels": lambda: label_store(store),
            "pairs": lambda: write_pairs(store, folder / "prompts.jsonl", 0.5),
        }
        write_log(first, 100, seed)  # so that no step reads its libraries while it is measured
        other = Store(folder / "other")
        ingest([first], other, settings=IngestionSettings(near_duplicates=True))
        label_store(other)
        write_pairs(other, folder / "first-prompts.jsonl", 0.5)
        write_log(log, conversations, seed)
        size, measured = log.stat().st_size, {}
        for step, work in steps.items():
            before = traffic()
            work()
            measured[step] = {way: round((now - before[way]) / size, 3) for way, now in traffic().items()}
        stored = sum(file.stat().st_size for file in store.path.rglob("*.parquet"))
    return {
        "conversations": conversations,
        "seed": seed,
        "megabytes": round(size / 1e6, 1),
        "bytes_per_byte_of_logs": measured,
        "store_per_byte_of_logs": round(stored / size, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one line on stdout")
    arguments = parser.parse_args()
    result = measure(arguments.conversations, arguments.seed)
    if arguments.json:
        print(orjson.dumps(result).decode())
    else:
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode(), file=sys.stderr)


if __name__ == "__main__":
    main()
