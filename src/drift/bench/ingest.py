"""`drift bench ingest`: speed and memory of ingestion and of the steps after it, by number of conversations."""

import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson

from drift.bench import machine
from drift.config import IngestionSettings
from drift.errors import DataError
from drift.feedback.label import label_store
from drift.logs.ingest import IngestSummary, ingest
from drift.logs.near_duplicates import find_near_duplicates
from drift.pairs.stages import write_pairs
from drift.store import Store

MEGABYTE = 1e6
REPEATED_SECONDS, MOST_RUNS = 30.0, 5
# Shares of the generated conversations, similar to real logs
COMPLAINTS, PERSONAL_DATA, EXACT_DUPLICATES, NEAR_DUPLICATES = 0.15, 0.02, 0.02, 0.03
_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "tre",
    "su",
    "na",
    "pol",
    "ver",
    "ti",
    "gra",
    "ben",
    "do",
    "sha",
    "ri",
    "en",
    "ul",
    "fos",
)
_COMPLAINTS = ("No, that is wrong.", "This does not work, I still get the error.", "That is not what I asked for.")
_PERSONAL = "Write to {0}{1}@example.com or call +1 415 555 {1:04d}."

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Step:
    """The fastest of `runs` (CPU seconds each). `peak_rss_mb`: the process's peak resident memory so far."""

    cpu_seconds: float
    wall_seconds: float
    peak_rss_mb: float
    runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class IngestBench:
    """Megabytes (10^6 bytes) of JSONL parsed and stored per second of process CPU time on one core.

    Ingestion is repeated, each time into a new store, and the fastest run counts: other load and one-time costs
    (imports) only ever add time. `steps`: the commands, in order; `counts`: their results.
    """

    conversations: int
    megabytes: float
    mb_per_second: float
    mb_per_second_redacted: float
    peak_rss_mb: float
    steps: dict[str, Step] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)


def bench_ingest(conversations: int, seed: int = 0) -> IngestBench:
    """Generate a log, then run ingestion (without and with redaction), near-duplicates, labels and pairs on it.

    Raises DataError for fewer than one conversation.
    """
    if conversations < 1:
        raise DataError(f"--conversations {conversations}: must be at least 1.")
    steps: dict[str, Step] = {}
    computer = machine("pyarrow", "duckdb", "orjson")
    with tempfile.TemporaryDirectory(prefix="drift-bench-") as folder:
        log = Path(folder) / "log.jsonl"
        _timed(steps, "generate", lambda: write_log(log, conversations, seed))
        size = log.stat().st_size / MEGABYTE

        stores = (Store(Path(folder) / f"store-{number}") for number in itertools.count())

        def ingested(redact: bool) -> tuple[Store, IngestSummary]:
            store = next(stores)
            return store, ingest([log], store, settings=IngestionSettings(redact=redact))

        _timed(steps, "ingest", lambda: ingested(redact=False), REPEATED_SECONDS)
        store, summary = _timed(steps, "ingest_redacted", lambda: ingested(redact=True), REPEATED_SECONDS)
        near = _timed(steps, "near_duplicates", lambda: find_near_duplicates(store))
        labels = _timed(steps, "labels", lambda: label_store(store))
        pairs = _timed(steps, "pairs", lambda: write_pairs(store, Path(folder) / "prompts.jsonl", 0.5))
        return IngestBench(
            conversations=conversations,
            megabytes=round(size, 1),
            mb_per_second=round(size / steps["ingest"].cpu_seconds, 1),
            mb_per_second_redacted=round(size / steps["ingest_redacted"].cpu_seconds, 1),
            peak_rss_mb=max(step.peak_rss_mb for step in steps.values()),
            steps=steps,
            counts={
                **_counts(summary),
                "near_duplicates": near.near_duplicates,
                "labels": sum(labels.labels.values()),
                "prompts": int(pairs.prompt_counts["rows"]),
            },
            machine=computer,
        )


def write_log(path: Path, conversations: int, seed: int) -> None:
    """Write chats in the native format. Median lengths: reply 1,100 characters, request 180; up to five turns."""
    with path.open("wb") as out:
        for row in _rows(conversations, seed):
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _rows(conversations: int, seed: int) -> Iterator[dict[str, object]]:
    rng = np.random.default_rng(seed)
    sentences = _sentences(rng)
    row: dict[str, object] = {}
    for number in range(conversations):
        kind = rng.random()
        if number and kind < EXACT_DUPLICATES:
            yield row
            continue
        if number and kind < EXACT_DUPLICATES + NEAR_DUPLICATES:
            messages = [dict(message) for message in row["messages"]]  # pyright: ignore[reportGeneralTypeIssues]
            messages[-1]["content"] += " Thanks."
        else:
            messages = list(_messages(rng, sentences, number))
        row = {"id": f"chat-{number}", "user": f"user-{number % max(conversations // 7, 1)}", "messages": messages}
        yield row


def _messages(rng: np.random.Generator, sentences: list[str], number: int) -> Iterator[dict[str, str]]:
    turns = int(rng.choice((1, 2, 3, 5), p=(0.35, 0.4, 0.2, 0.05)))
    lengths = np.maximum(rng.lognormal((1.0, 2.95), 0.6, (turns, 2)), 1).astype(int)
    for turn, (request_sentences, reply_sentences) in enumerate(lengths):
        request = " ".join(sentences[place] for place in rng.integers(0, len(sentences), request_sentences))
        if turn and rng.random() < COMPLAINTS * 2:
            request = f"{_COMPLAINTS[number % len(_COMPLAINTS)]} {request}"
        if rng.random() < PERSONAL_DATA:
            request += " " + _PERSONAL.format("user", number % 10_000)
        yield {"role": "user", "content": request}
        reply = " ".join(sentences[place] for place in rng.integers(0, len(sentences), reply_sentences))
        yield {"role": "assistant", "content": reply}


def _sentences(rng: np.random.Generator) -> list[str]:
    """Random sentences from a vocabulary with Zipf's word frequencies."""
    words = ["".join(rng.choice(_SYLLABLES, size)) for size in rng.integers(1, 5, 5000)]
    ranks = 1 / np.arange(1, len(words) + 1)
    drawn = rng.choice(len(words), (20_000, 14), p=ranks / ranks.sum())
    lengths = rng.integers(6, 15, len(drawn))
    return [
        " ".join(words[place] for place in row[:length]).capitalize() + "."
        for row, length in zip(drawn, lengths, strict=True)
    ]


def _timed(steps: dict[str, Step], name: str, work: Callable[[], Result], repeated_seconds: float = 0.0) -> Result:
    """Run `work`, and repeat it until all runs together took `repeated_seconds` of CPU time or MOST_RUNS is reached."""
    runs: list[tuple[float, float]] = []
    while True:
        cpu, wall = time.process_time(), time.monotonic()
        result = work()
        runs.append((round(time.process_time() - cpu, 4), round(time.monotonic() - wall, 4)))
        cpu_seconds = tuple(run[0] for run in runs)
        if sum(cpu_seconds) >= repeated_seconds or len(runs) == MOST_RUNS:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    steps[name] = Step(*min(runs), round(peak, 1), cpu_seconds)
    return result


def _counts(summary: IngestSummary) -> dict[str, int]:
    return {name: value for name, value in asdict(summary).items() if isinstance(value, int)}
