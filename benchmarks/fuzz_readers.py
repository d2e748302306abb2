"""Fuzz the readers of chat logs, guided by coverage (atheris, libFuzzer), each in a process of its own.

    python benchmarks/fuzz_readers.py --seconds 60 --json
    python benchmarks/fuzz_readers.py --reader openwebui --seconds 600

`--seconds` is shared out evenly among the readers that are fuzzed. An input is a file of one format: bytes as libFuzzer
mutates them, rows of the format with parts replaced, or rows out of the keys and values that it knows. It fails if
anything but a DataError escapes, if a row is not accounted for, if a judgement points at no reply, if what is stored is
not what was accepted, if one input takes longer than 60 s (by the clock: on a quiet machine it takes milliseconds), or
if a process needs more than 1 GB. What failed lies in `--artifacts` afterwards and belongs into tests/logs/seeds, where
a test reads every file by every reader.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

SEEDS = Path(__file__).parent.parent / "tests" / "logs" / "seeds"
SOURCE = Path(__file__).parent.parent / "src" / "drift" / "logs"
RSS_LIMIT_MB = 1024
SECONDS_PER_INPUT = 60
WHOLE_EVERY = 64
"""Every so many inputs are ingested (recognised, stitched, redacted, stored and read back), slower than reading."""


def names_of_readers() -> list[str]:
    """The keys of READERS, from the source: the package must not be imported before it is instrumented."""
    tree = ast.parse((SOURCE / "readers" / "__init__.py").read_text("utf-8"))
    (formats,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "READERS"
    )
    assert isinstance(formats, ast.Dict)
    return [key.value for key in formats.keys if isinstance(key, ast.Constant)]


TABLE = "table"
"""The reader of tables, whose columns the user maps, is fuzzed with this mapping."""
COLUMNS = {
    "conversation": "thread", "role": "sender", "content": "body.text", "time": "at", "user": "user", "model": "model",
    "rating": "stars", "comment": "note", "session": "session", "tool_calls": "tool_calls",
}  # fmt: skip
READERS = [*names_of_readers(), TABLE]
SHARED = ("texts", "verdicts", "clouds", "streams", "otel/spans")
ROLES = ["user", "assistant", "system", "tool", "human", "gpt"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--reader", choices=READERS, action="append")
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz-artifacts"))
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        fuzz(given.child, given.seconds, given.corpus, given.artifacts)
        return
    try:
        import atheris  # noqa: F401 (only to say early that it is missing)
    except ModuleNotFoundError:
        sys.exit("fuzz_readers: atheris is missing; install it: pip install atheris")
    names = given.reader or READERS
    found = {name: run_child(name, given.seconds / len(names), given.artifacts) for name in names}
    failed = {name: told["failures"] for name, told in found.items() if told["failures"]}
    for name, told in found.items():
        print(f"{name:14} {told}", file=sys.stderr)
    if given.as_json:
        print(json.dumps({"engine": "atheris", "seconds": given.seconds, "ok": not failed, "readers": found}))
    sys.exit(1 if failed else 0)


def run_child(name: str, seconds: float, artifacts: Path) -> dict[str, Any]:
    """Fuzz one reader in a process of its own, because libFuzzer ends its process."""
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    with tempfile.TemporaryDirectory(prefix="drift-fuzz-") as corpus:
        limit = str(int(seconds) + 900)  # on a busy machine, beginning alone may take minutes
        command = [
            "timeout",
            "-k",
            "5",
            limit,
            sys.executable,
            __file__,
            "--child",
            name,
            "--corpus",
            corpus,
            "--artifacts",
            str(artifacts),
        ]
        begun = time.monotonic()
        done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False)
        report = Path(corpus) / "outcomes.json"
        outcomes = json.loads(report.read_text("utf-8")) if report.exists() else {}
    told = done.stderr

    def stat(pattern: str) -> int:
        matches = re.findall(pattern, told)
        return int(matches[-1]) if matches else 0

    failures = sorted(str(file) for file in set(artifacts.iterdir()) - before)
    if done.returncode != 0 and not failures:
        failures = [told.strip().splitlines()[-1] if told.strip() else f"exit status {done.returncode}"]
    return {
        "executions": stat(r"stat::number_of_executed_units:\s*(\d+)"),
        "coverage_features": stat(r"ft: (\d+)"),
        "peak_rss_mb": stat(r"stat::peak_rss_mb:\s*(\d+)"),
        "slowest_seconds": stat(r"stat::slowest_unit_time_sec:\s*(\d+)"),
        "outcomes": outcomes,
        "wall_seconds": round(time.monotonic() - begun, 1),
        "failures": failures,
    }


def fuzz(name: str, seconds: float, corpus: str, artifacts: Path) -> None:
    """The child: never returns, because libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["drift.logs"]):
        harness = Harness(name, Path(corpus) / "outcomes.json")
    for number, seed in enumerate(sorted(SEEDS.glob("*"))):
        (Path(corpus) / f"seed-{number}").write_bytes(b"\x00" + seed.read_bytes())
    words = Path(corpus) / "words.dict"
    words.write_text("".join(f'"\\"{word}\\""\n' for word in sorted(set(harness.words))), encoding="utf-8")
    options = {
        "max_total_time": max(int(seconds), 1),
        "timeout": SECONDS_PER_INPUT,
        "report_slow_units": SECONDS_PER_INPUT,
        "rss_limit_mb": RSS_LIMIT_MB,
        "max_len": 4096,
        "print_final_stats": 1,
        "artifact_prefix": f"{artifacts}/{name}-",
        "dict": words,
    }
    inputs = Path(corpus) / "inputs"
    inputs.mkdir()
    for seed in Path(corpus).glob("seed-*"):
        seed.rename(inputs / seed.name)
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(inputs)], harness.one)
    atheris.Fuzz()


def words_of(source: Path) -> list[str]:
    """Keys and values that a reader knows: the short texts in its code."""
    texts = (node.value for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.Constant))
    return [text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Za-z_.][A-Za-z0-9_.-]{0,60}", text)]


class Harness:
    """Reads inputs as files of one format, and checks what comes out."""

    def __init__(self, name: str, report: Path) -> None:
        from drift.errors import DataError
        from drift.logs.draft import ConversationDraft, finish
        from drift.logs.files.rows import Reject, Unusable, read_rows
        from drift.logs.ingest import ingest
        from drift.logs.readers import READERS
        from drift.store import Store
        from drift.store.rows import conversation_batch

        self._modules = (
            ingest,
            Store,
            DataError,
            ConversationDraft,
            finish,
            Reject,
            Unusable,
            read_rows,
            conversation_batch,
        )
        from drift.config import IngestionSettings

        self._settings = IngestionSettings(map=COLUMNS if name == TABLE else {}, roles={})
        self._read = self._read_table if name == TABLE else READERS[name].read
        self._name = name
        module = sys.modules["drift.logs.readers.tables.table" if name == TABLE else self._read.__module__]
        own = [*words_of(Path(str(module.__file__))), *(COLUMNS.values() if name == TABLE else ())]
        self.words = own * 3 + [word for other in SHARED for word in words_of(SOURCE / "traces" / f"{other}.py")]
        self.words += ROLES * 3
        self._rows = [json.loads(row) for row in (SEEDS / f"{name}.jsonl").read_bytes().splitlines()]
        shared = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(prefix="drift-fuzz-", dir=shared if shared.is_dir() else None)
        self._file = Path(self._folder.name) / "log"
        self._report = report
        self._count = 0
        self.outcomes: Counter[str] = Counter()

    def one(self, data: bytes) -> None:
        self._file.write_bytes(data[1:] if data[:1] < b"\x30" else self._built(data[1:], data[:1] > b"\x60"))
        self._count += 1
        self._read_rows()
        if self._count % WHOLE_EVERY == 0:
            self._read_whole()
            self._report.write_text(json.dumps(self.outcomes), encoding="utf-8")

    def _read_rows(self) -> None:
        _, _, DataError, ConversationDraft, finish, Reject, Unusable, read_rows, _ = self._modules
        cut = accounted = 0

        def counted():
            nonlocal cut
            for row in read_rows(self._file, lambda done: None):
                cut += 1
                yield row

        try:
            for outcome in self._read(counted()):
                accounted += outcome.rows
                if isinstance(outcome, Reject):
                    self.outcomes[outcome.reason] += 1
                elif isinstance(outcome, ConversationDraft):
                    try:
                        self._check(finish(outcome, self._name, str))
                        self.outcomes["conversation"] += 1
                    except Unusable as error:
                        self.outcomes[error.reason] += 1
                else:
                    outcome.comment is None or outcome.comment.encode()
                    self.outcomes["judgement"] += 1
        except DataError:
            self.outcomes["file_refused"] += 1
            return
        if cut != accounted:
            raise AssertionError(f"{cut} rows were read, {accounted} accounted for")

    def _read_table(self, rows: Any) -> Any:
        from drift.logs.files.rows import Reject
        from drift.logs.readers.tables.joiner import TableJoiner
        from drift.logs.readers.tables.table import Table

        joiner = TableJoiner(Path(self._folder.name))
        try:
            for outcome in Table(self._settings).read(rows):
                if isinstance(outcome, Reject):
                    yield outcome
                else:
                    joiner.add(outcome, "log")
            yield from joiner.finish().outcomes
        finally:
            joiner.close()

    def _read_whole(self) -> None:
        """The command itself, which checks that everything it read is counted."""
        ingest, Store, DataError, *_ = self._modules
        for name in (self._name, None):
            with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
                store = Store(Path(folder) / "store")
                try:
                    mapped = name == TABLE
                    told = (
                        ingest([self._file], store, settings=self._settings)
                        if mapped
                        else ingest([self._file], store, format=name)
                    )
                except DataError:
                    self.outcomes["file_refused"] += 1
                    continue
                stored = [self._check(conversation) for conversation in store.conversations()]
                if len(stored) != told.accepted:
                    raise AssertionError(f"{told.accepted} conversations accepted, {len(stored)} stored")

    def _check(self, conversation: Any) -> None:
        self._modules[-1]([conversation])
        for message in conversation.messages:
            message.content.encode()
        for rating in conversation.ratings:
            if conversation.messages[rating.reply_index].role != "assistant" or rating.reply_index < 0:
                raise AssertionError(f"a judgement of message {rating.reply_index}, which is no reply")

    def _built(self, data: bytes, from_seed: bool) -> bytes:
        """Rows of the format with parts replaced, or out of its words: mutated bytes seldom get past the parser."""
        import atheris

        take = atheris.FuzzedDataProvider(data)
        rows = json.loads(json.dumps(self._rows)) if from_seed else []
        for _ in range(take.ConsumeIntInRange(1, 6)):
            if from_seed:
                place = take.ConsumeIntInRange(0, len(rows) - 1)
                rows[place] = self._replaced(take, rows[place], 0)
            else:
                rows.append(self._value(take, 0))
        return b"\n".join(json.dumps(row).encode() for row in rows)

    def _replaced(self, take: Any, value: Any, depth: int) -> Any:
        """A part of the value replaced, doubled, or gone."""
        if not isinstance(value, dict | list) or not value or take.ConsumeIntInRange(0, 7) == 0:
            return self._value(take, max(depth, 1))
        if isinstance(value, dict):
            key = take.PickValueInList(list(value))
            if take.ConsumeIntInRange(0, 7) == 0:
                return {take.PickValueInList(self.words): value[key], **{k: v for k, v in value.items() if k != key}}
            return {**value, key: self._replaced(take, value[key], depth + 1)}
        place = take.ConsumeIntInRange(0, len(value) - 1)
        if take.ConsumeIntInRange(0, 7) == 0:
            return [*value, value[place]]
        return [*value[:place], self._replaced(take, value[place], depth + 1), *value[place + 1 :]]

    def _value(self, take: Any, depth: int) -> Any:
        kind = take.ConsumeIntInRange(0, 11) if depth else 9
        if kind >= 9 and depth < 6:
            keys = [take.PickValueInList(self.words) for _ in range(take.ConsumeIntInRange(0, 6))]
            return {key: self._value(take, depth + 1) for key in keys}
        if kind >= 7 and depth < 6:
            return [self._value(take, depth + 1) for _ in range(take.ConsumeIntInRange(0, 4))]
        if kind <= 2:
            return take.PickValueInList(self.words)
        simple = (None, take.ConsumeBool(), take.ConsumeIntInRange(-2, 2), take.ConsumeFloat(), 2**70)
        if kind == 3:
            return take.ConsumeUnicode(12)
        if kind == 4:
            return json.dumps(self._value(take, depth + 1)) if depth < 5 else ""
        return simple[take.ConsumeIntInRange(0, len(simple) - 1)]


if __name__ == "__main__":
    main()
