"""What a training process keeps of its pairs: Python lists against mapped files (training/pairs_file.py).

    python benchmarks/pairs_memory.py --pairs 20000 --json

Random token ids, 900 of the prompt and 200 of each reply, in new processes. `private_mb`: what only this process
holds (USS), `shared_mb`: pages of files, which the processes of a machine hold once and the system may take back; both
beyond what the process had before, after every pair was read in random order.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import psutil

from drift.training.pairs_file import PairsFile, write_tokens
from drift.training.tokens import TokenPair

PROMPT, REPLY = 900, 200


def random_pairs(count: int, seed: int = 0) -> Iterator[TokenPair]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        prompt, chosen, rejected = (
            tuple(generator.integers(0, 150_000, length).tolist()) for length in (PROMPT, REPLY, REPLY)
        )
        yield TokenPair(prompt, chosen, rejected)


def kept(way: str, count: int, folder: Path) -> dict[str, float]:
    """Memory, MB, that all pairs take in this process."""
    before = psutil.Process().memory_full_info()
    pairs: Sequence[TokenPair] = list(random_pairs(count)) if way == "lists" else PairsFile(folder, None, 0)
    for index in np.random.default_rng(1).permutation(count):
        assert pairs[index].length == PROMPT + REPLY
    after = psutil.Process().memory_full_info()
    return {
        "private_mb": round((after.uss - before.uss) / 2**20, 1),
        "shared_mb": round((after.rss - after.uss - before.rss + before.uss) / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object; it does so anyway")
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sys.stdout.buffer.write(orjson.dumps(kept(options.way[0], options.pairs, Path(options.way[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        tokens = write_tokens(Path(folder), random_pairs(options.pairs))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        result: dict[str, object] = {"pairs": options.pairs, "tokens": tokens, "files_mb": round(size / 2**20, 1)}
        for way in ("lists", "mapped"):
            command = [sys.executable, __file__, "--pairs", str(options.pairs), "--way", way, folder]
            result[way] = orjson.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
