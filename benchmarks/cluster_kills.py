"""Kill workers and drivers in the middle of `drift pairs LOGS --cluster local`, and compare with one process.

    python benchmarks/cluster_kills.py --kills 10 --json

Every second kill is of the driver, after which the same command is started again; the others are of a worker, after
which the command goes on. When all kills were made, the command runs to its end. `identical`: content, labels,
near-duplicates and prompts are those of one process. `lost`: conversations that are missing.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import psutil

from drift.bench.ingest import write_log
from drift.store import Store


def command(log: Path, folder: Path, cluster: str | None) -> list[str]:
    where = [] if cluster is None else ["--cluster", cluster]
    out = ["--store", str(folder / "store"), "--out", str(folder / "prompts.jsonl")]
    return [sys.executable, "-m", "drift", "pairs", str(log), *out, *where]


def result(folder: Path) -> tuple[str, str, bytes, bytes]:
    store = Store(folder / "store")
    files = (store.path / "near_duplicates.jsonl", folder / "prompts.jsonl")
    return store.content_hash(), store.label_hash(), *(file.read_bytes() for file in files)


def kill_one(driver: subprocess.Popen[bytes], of_driver: bool) -> str | None:
    """Kill the driver or one of its workers; returns what was killed, None if there was nothing to kill."""
    if driver.poll() is not None:
        return None
    if of_driver:
        driver.kill()
        driver.wait()
        return "driver"
    children = psutil.Process(driver.pid).children()
    found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    if not found:
        return None
    random.choice(found).kill()
    return "worker"


def run_with_kills(log: Path, folder: Path, kills: int, seconds: float) -> dict[str, int]:
    """Run the command, killing at random moments of about its duration, until all kills were made and it is done."""
    made = {"driver": 0, "worker": 0}
    driver = subprocess.Popen(command(log, folder, "local"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while sum(made.values()) < kills:
        time.sleep(random.uniform(0.1, 0.5) * seconds)
        killed = kill_one(driver, of_driver=sum(made.values()) % 2 == 0)
        if killed is not None:
            made[killed] += 1
        if driver.poll() is not None:  # killed, or done before all kills were made: once more, over what is there
            driver = subprocess.Popen(
                command(log, folder, "local"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
    if driver.wait() != 0:
        subprocess.run(command(log, folder, "local"), check=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="drift-kills-") as name:
        folder = Path(name)
        log, one, killed = folder / "log.jsonl", folder / "one", folder / "killed"
        one.mkdir()
        killed.mkdir()
        write_log(log, options.conversations, options.seed)
        for path in (one, killed):  # the same salt: the keys of users, which are in the prompts, depend on it
            Store(path / "store").add([])
        shutil.copy(one / "store" / "manifest.json", killed / "store" / "manifest.json")
        started = time.monotonic()
        subprocess.run(command(log, one, None), check=True, capture_output=True)
        made = run_with_kills(log, killed, options.kills, time.monotonic() - started)
        stores = (Store(path / "store") for path in (one, killed))
        expected, found = ({chat.conversation_id for chat in store.conversations()} for store in stores)
        report = {
            "identical": result(killed) == result(one),
            "lost": len(expected - found),
            "kills": made,
            "conversations": options.conversations,
            "seed": options.seed,
        }
    print(orjson.dumps(report).decode() if options.json else report)


if __name__ == "__main__":
    main()
