"""One merge of sorted runs, as benchmarks/alternatives.py prepares them, in a process that does nothing else.

Usage: python benchmarks/alternative_merge.py VARIANT FOLDER
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from drift.store import Store
from drift.store.rows import CONVERSATION, joined, write_conversations
from drift.store.runs import Runs, merged

MERGES = {  # DuckDB's memory limit; a store's is 400 MB
    "today": "",
    "today_all_versions": "",
    "duckdb_arrow": "400MB",
    "duckdb_parquet": "400MB",
    "duckdb_arrow_1gb": "1GB",
    "duckdb_parquet_1gb": "1GB",
}


def runs_in(folder: Path) -> Runs:
    runs = Runs((folder / "runs").open("rb"))
    runs._runs, runs.bytes = json.loads((folder / "places").read_text()), (folder / "runs").stat().st_size
    return runs


def merge(name: str, folder: Path) -> dict[str, Any]:
    out, runs = folder / "merged.parquet", runs_in(folder)

    def work() -> None:
        if name == "today":
            with Store(folder / "new").writer() as new:
                new._runs = runs
                write_conversations(out, new._winners())
        elif name == "today_all_versions":
            windows = ([batch for run in window for batch in run] for window in merged(runs.finish(), runs.bytes))
            write_conversations(out, (joined(batches).sort_by("conversation_id") for batches in windows if batches))
        else:
            arrow = pa.RecordBatchReader.from_batches(CONVERSATION, (batch for run in runs.finish() for batch in run))
            table = "arrow" if "arrow" in name else f"read_parquet('{folder}/*.part')"
            config = {"threads": 1, "memory_limit": MERGES[name], "temp_directory": str(folder / "spill")}
            with duckdb.connect(config=config) as connection:
                connection.register("arrow", arrow)
                how = "(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 2048)"
                connection.execute(f"COPY (SELECT * FROM {table} ORDER BY conversation_id) TO '{out}' {how}")

    pa.array([""])  # pyarrow loads pandas now, where there is one: ingestion has paid for that before it merges
    try:
        seconds = cpu(work)
    except duckdb.OutOfMemoryException as error:
        return {"failed": str(error).splitlines()[0], "peak_rss_mb": peak()}
    most, rows = peak(), pq.read_table(out, columns=["conversation_id"])
    assert rows.equals(rows.sort_by("conversation_id"))
    return {"cpu_seconds": seconds, "peak_rss_mb": most, "output_mb": out.stat().st_size / 1e6, "rows": len(rows)}


def peak() -> float:
    """Megabytes; other than getrusage, it leaves out what the process that started this one held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def cpu(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    print(json.dumps(merge(sys.argv[1], Path(sys.argv[2]))))
