"""Two parts that DRIFT made itself, beside libraries that could take their place: HashingVectorizer and DuckDB.

`labels`: scikit-learn's HashingVectorizer hashes the embedded labeller's words. Relations, linear scores, trees and the
language check stay, and all are fitted anew. `alone`: words hashed and scored; `label`: the whole labeller; CPU
microseconds per turn, every variant once in each round. `today_words_1_2`: our own hashing of words and pairs alone.
`merge`: DuckDB sorts conversations into one Parquet file, from our Arrow runs or from Parquet files of the same runs.
It keeps all versions of a conversation; `today` merges them, `today_all_versions` does not. Each merge has a process
of its own (alternative_merge.py). Lists hold median, least and most; those of an AUROC the figure and its interval.

Usage: OMP_NUM_THREADS=1 python benchmarks/alternatives.py --iard FILE --logs FILE --gold FILE (twenty minutes)
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from alternative_merge import MERGES, cpu, runs_in
from sklearn.feature_extraction.text import HashingVectorizer

from drift.bench import machine
from drift.bench.ingest import write_log
from drift.bench.label import gold_figures, measure_iard, read_logs
from drift.config import IngestionSettings
from drift.feedback.embedded import features, model
from drift.feedback.embedded.fit import learn, pool
from drift.feedback.embedded.fit.sources import gold_turns, read_iard
from drift.feedback.embedded.labeller import BATCH, EmbeddedLabeller, reactions
from drift.feedback.embedded.spell import KNOWN, Words, cut, spell
from drift.logs.ingest import ingest
from drift.store import Store, writer
from drift.store.rows import joined, write_conversations
from drift.store.runs import Runs

TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|[0-9]+|[.,:;]+|[?!]+|\n+|[^\x00-\x7f]+")
ROLES = dict(zip(KNOWN.words, map(str, KNOWN.roles[1:].tolist()), strict=True))


def families(text: str) -> list[str]:
    """The twelve kinds of hashed words that features.py makes, as strings."""
    own = TOKEN.findall(text.lower())
    roles = [ROLES.get(word, "0") if word[0].isalpha() else word for word in own]
    figures = [
        *own,
        *("s" + word[:5] for word in own),
        *("f" + word for word in own[:6]),
        *("r" + role for role in roles),
    ]
    chains = ((own, own), (own,) * 3, (roles,) * 2, (roles,) * 3, (roles,) * 4, (own, roles), (roles, own))
    for name, chain in enumerate(chains):
        figures += (f"{name} {run}" for run in zip(*(part[i:] for i, part in enumerate(chain)), strict=False))
    return [*figures, *(f"_ {run}" for run in zip(own, own[2:], strict=False))]


VECTORIZERS: dict[str, dict[str, Any]] = {
    "split": {"analyzer": lambda text: text.lower().split()},
    "words_1": {},
    "words_1_2": {"ngram_range": (1, 2)},
    "tokens_1_3": {"ngram_range": (1, 3), "token_pattern": TOKEN.pattern},
    "all_families": {"analyzer": families},
    "characters_2_5": {"analyzer": "char_wb", "ngram_range": (2, 5)},  # too slow to be worth fitting
}


def in_place(name: str) -> ExitStack:
    """While it is open, the labeller hashes words by this variant: sparse counts stand in a batch's `buckets`."""
    stack, ours = ExitStack(), features._buckets
    if name == "today_words_1_2":
        stack.enter_context(patch.object(features, "_buckets", lambda words: ours(words)[[0, 4]]))
    if name not in VECTORIZERS:
        return stack
    shape: dict[str, Any] = {"n_features": features.BUCKETS, "alternate_sign": False, "norm": None, "dtype": np.float32}
    hashing = HashingVectorizer(**shape, **VECTORIZERS[name])

    def counts(words: Words) -> Any:
        raw, ends = words.raw.tobytes(), np.cumsum(words.size + 1).tolist()
        return hashing.transform([raw[a : b - 1].decode() for a, b in zip([0, *ends], ends, strict=False)])

    def word_scores(batch: features.Batch, table: np.ndarray) -> np.ndarray:
        sums = batch.buckets @ table
        return sums[:, :-1] / np.sqrt(np.maximum(sums[:, -1:], 1e-9))

    def only(batch: features.Batch, rows: Any) -> features.Batch:
        return features.Batch(batch.spoken.pick(np.asarray(rows))[0], batch.buckets[rows], batch.relation[rows], rows)

    stack.enter_context(patch.object(features, "_buckets", counts))
    stack.enter_context(patch.object(model, "_word_scores", word_scores))
    stack.enter_context(patch.object(features.Batch, "only", only))
    stack.enter_context(patch.object(pool, "_counts", lambda batch: batch.buckets))
    return stack


def compare_labels(iard: Path, logs: Path, gold: Path, rounds: int) -> dict[str, Any]:
    conversations = read_logs(logs)
    labelled, dialogues = gold_turns(gold, conversations), read_iard(iard)
    turns = [reaction.turn for conversation in conversations for reaction in reactions(conversation)]
    batches = [turns[i : i + BATCH] for i in range(0, len(turns), BATCH)]
    texts = [[*map(cut, [turn.text for turn in each]), *map(cut, features._requests(each)[1])] for each in batches]
    labellers = {name: EmbeddedLabeller() for name in ("today", "today_words_1_2", *VECTORIZERS)}
    figures: dict[str, Any] = {name: {} for name in labellers}
    for name in [*labellers][:-1]:
        with in_place(name):
            linears = learn.Linears(pool.project_pool(dialogues, labelled, conversations))
            labellers[name].scorer = model.TurnScorer(learn.fit(linears))
            gold_bench, iard_bench = (
                gold_figures(labelled, learn.held_out(linears)),
                measure_iard(labellers[name], iard, 0),
            )
        figures[name]["gold_auroc"] = [gold_bench.auroc, *gold_bench.auroc_interval]
        figures[name]["iard_auroc"] = [iard_bench.auroc, *iard_bench.auroc_interval]

    def alone(labeller: EmbeddedLabeller) -> None:
        for words in map(spell, texts):
            batch = features.Batch(words, features._buckets(words), np.zeros(0), np.zeros(0))
            model._word_scores(batch, labeller.scorer._linear)

    for kind, work in {"alone": alone, "label": lambda labeller: list(labeller.label(conversations))}.items():
        times: dict[str, list[float]] = {name: [] for name in labellers}
        for _ in range(rounds + 1):  # the first one loads what is loaded once
            for name, labeller in labellers.items():
                with in_place(name):
                    times[name].append(cpu(lambda work=work, labeller=labeller: work(labeller)) / len(turns) * 1e6)
        for name, values in times.items():
            ratios = [ours / each for ours, each in zip(times["today"], values, strict=True)]
            figures[name] |= {f"{kind}_us": spread(values[1:]), f"{kind}_speed_against_today": spread(ratios[1:])}
    return figures


def compare_merges(size: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="alternatives-") as name:
        folder = Path(name)

        class Kept(Runs):
            """Leaves what is merged in the folder."""

            def finish(self) -> list[Any]:
                figures = super().finish()
                (folder / "places").write_text(json.dumps(self._runs))
                shutil.copyfile(f"/proc/self/fd/{self._file.fileno()}", folder / "runs")
                return figures

        write_log(folder / "log.jsonl", size, 0)
        with patch.object(writer, "Runs", Kept):
            ingest([folder / "log.jsonl"], Store(folder / "store"), settings=IngestionSettings(redact=False))
        for number, run in enumerate(runs_in(folder).finish()):
            write_conversations(folder / f"{number:06d}.part", [joined(list(run))])
        done: dict[str, list[dict[str, Any]]] = {name: [] for name in MERGES}
        for _ in range(min(rounds, max(500_000 // size, 1))):
            for name in MERGES:
                command = [sys.executable, str(Path(__file__).with_name("alternative_merge.py")), name, str(folder)]
                done[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        parts = sum(part.stat().st_size for part in folder.glob("*.part"))
        figures: dict[str, Any] = {
            "arrow_runs_mb": (folder / "runs").stat().st_size / 1e6,
            "parquet_runs_mb": parts / 1e6,
        }
        for name, batches in done.items():
            measured = [key for key in ("cpu_seconds", "peak_rss_mb") if all(key in each for each in batches)]
            figures[name] = {**batches[0], **{key: spread([each[key] for each in batches]) for key in measured}}
        return figures


def spread(values: list[float]) -> list[float]:
    """Median, least, most."""
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--iard", "--logs", "--gold"):
        parser.add_argument(name, type=Path)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10_000, 100_000, 300_000], help="conversations that are merged"
    )
    parser.add_argument(
        "--rounds", type=int, nargs=2, default=[11, 5], help="of labels, of merges (fewer of large ones)"
    )
    args = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine("scikit-learn", "duckdb", "pyarrow", "numpy")}
    figures["merge"] = {str(size): compare_merges(size, args.rounds[1]) for size in args.sizes}
    if args.gold:
        figures["labels"] = compare_labels(args.iard, args.logs, args.gold, args.rounds[0])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
