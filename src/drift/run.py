"""`drift run`: logs into the store, labels on them, the loop, and the report."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, IngestionSettings, dump_config
from drift.errors import DataError, NothingToTrainOn
from drift.feedback.label import LabelSummary, check_writable, label_store
from drift.feedback.stage import label_by
from drift.logs.ingest import IngestSummary, ingest
from drift.pairs.stages import PairsSummary, write_pairs
from drift.progress import report_progress
from drift.records import Counts, Truth, stable_hash, write_jsonl
from drift.report import write_report
from drift.report.files import Funnel, FunnelStep, write_json
from drift.rundir import OnStage, RunDir, RunView, load_run
from drift.rundir.fingerprints import Digests
from drift.store import Store


@dataclass(frozen=True, slots=True)
class RunSummary:
    run: str
    policy: str
    report: str
    counts: Mapping[str, int]
    seconds: float


def run_config(cfg: Config, out: Path | None, on_stage: OnStage | None = None) -> RunSummary:
    """Run a config in `out`, else in cfg.output, else in runs/NAME-HASH. Finished stages are reused."""
    from drift.training.scale.prerequisites import check_scale

    check_scale(cfg.policy, cfg.warm_start, cfg.training)
    folder = out or Path(cfg.output or f"runs/{cfg.name}-{stable_hash(dump_config(cfg))[:8]}")
    with open_run(cfg, folder, on_stage) as run:
        return learn(cfg, run, collect(cfg, run))


@contextmanager
def open_run(cfg: Config, folder: Path, on_stage: OnStage | None = None) -> Iterator[RunDir]:
    """The run folder, and what else a run keeps from its first command to its last."""
    with RunDir.open(folder, dump_config(cfg), cfg.seed, on_stage) as run, fixed_threads(run, cfg.threads):
        yield run


def learn(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> RunSummary:
    """Everything from labelled conversations to the report, in an open run folder.

    Raises DataError with the funnel if no reply is left to train on.
    """
    from drift.loop import drift  # loads torch, which `drift pairs` must not wait for

    begun = time.monotonic()
    try:
        policy = drift(cfg, run, store, truth)
    except NothingToTrainOn as error:
        raise DataError(f"{error} What came through: {told(build_funnel(store, load_run(run.path)))}") from None
    funnel = build_funnel(store, load_run(run.path))
    write_json(run.path / "data" / "funnel.json", funnel)
    run.headline(**_kept_evaluation(load_run(run.path)))
    run.finish()
    report = write_report(run.path)
    counts = {step.name: step.count for step in funnel.steps}
    return RunSummary(str(run.path), str(policy), str(report), counts, round(time.monotonic() - begun, 1))


def collect(cfg: Config, run: RunDir) -> Store:
    """The store with the config's logs in it, all of it labelled."""
    store = store_for(cfg, run.path)
    if cfg.logs:
        ingest([Path(log) for log in cfg.logs], store, settings=cfg.ingestion, on_progress=report_progress)
    elif not store.size():
        raise DataError(f"{store.path}: holds no conversation. Name chat logs: --set logs='[PATH]'.")
    label_by(store, cfg.labels)
    run.pin(label_hash=store.label_hash())
    run.stage("data/labels.jsonl", copy_labels, store)
    return store


def store_for(cfg: Config, folder: Path) -> Store:
    """Where the config's logs go: the store that it names, or one of their own in the run's folder."""
    logs = [Path(log) for log in cfg.logs]
    place = Path(cfg.store) if cfg.store else folder / "store" / _name_of(logs, cfg.ingestion)
    return Store(place, cfg.evaluation.split)


def _kept_evaluation(run: RunView) -> dict[str, float]:
    """The figures of the policy that was kept."""
    counts = {stage.name: stage.counts for stage in run.stages}
    kept = int(counts["policy"]["iteration"] or 0)
    figures = counts[f"iteration-{kept}/evaluation.json" if kept else "warm-start/evaluation.json"]
    return {name: value for name, value in figures.items() if value is not None}


def _name_of(logs: Sequence[Path], settings: IngestionSettings) -> str:
    """Of content and settings: other logs in the same run folder must not mix with those that were there before."""
    return stable_hash(*map(Digests().content, logs), settings.model_dump_json())


def copy_labels(out: Path, store: Store) -> Counts:
    """The labels that this run was made from, for the report and for whoever asks later."""
    verdicts: dict[str, int] = {}

    def counted():
        for label in store.labels():
            verdicts[label.label] = verdicts.get(label.label, 0) + 1
            yield label

    rows = write_jsonl(out, counted())
    return {"rows": rows, **verdicts}


@contextmanager
def fixed_threads(run: RunDir, wanted: int | None) -> Iterator[None]:
    """Keep one number of CPU threads for the run's whole life: `wanted`, else as many as the run began with.

    With another number of threads float32 sums add up in another order. The last bit then differs, training carries
    it into the weights, and a resumed run would end with other weights.
    """
    from drift.policy.model import cpu_threads

    with cpu_threads(wanted or run.threads) as threads:
        run.pin(threads=threads)
        yield


STEPS = {
    "data/prompts.jsonl": "disliked replies to train on",
    "data/heldout.jsonl": "disliked replies held out",
    "warm-start/pairs.jsonl": "repairs",
    "warm-start/policy": "pairs trained on in the warm start",
}


def build_funnel(store: Store, run: RunView) -> Funnel:
    """From the store's counts and the manifests of the run's stages."""
    counts = store.counts()
    judged = sum(counts.labels.values())
    steps = [
        FunnelStep(name="conversations", count=counts.conversations, note=f"{counts.quarantined} rows quarantined"),
        FunnelStep(name="messages", count=counts.messages),
        FunnelStep(name="judged replies", count=judged, note=_listed(counts.labels)),
    ]
    drops: Counter[str] = Counter()
    for stage in run.stages:
        drops.update(
            {
                key.removeprefix("dropped."): int(n)
                for key, n in stage.counts.items()
                if key.startswith("dropped.") and n
            }
        )
        name = STEPS.get(stage.name) or _iteration_step(stage.name)
        if name:
            steps.append(FunnelStep(name=name, count=int(stage.counts.get("rows") or stage.counts.get("pairs") or 0)))
    return Funnel(steps=tuple(steps), drops=dict(drops))


def told(funnel: Funnel) -> str:
    """The funnel in one line."""
    steps = "; ".join(f"{step.count} {step.name}" + (f" ({step.note})" if step.note else "") for step in funnel.steps)
    return f"{steps}; dropped: {_listed(funnel.drops) or 'none'}."


def _iteration_step(stage: str) -> str | None:
    folder, _, output = stage.partition("/")
    return (
        f"pairs of iteration {folder.removeprefix('iteration-')}"
        if output == "pairs.jsonl" and "iteration-" in folder
        else None
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@dataclass(frozen=True, slots=True)
class PairsFromLogs:
    ingested: IngestSummary
    labelled: LabelSummary
    pairs: PairsSummary


def pairs_from_logs(logs: Sequence[Path], store: Store, out: Path, min_p_dsat: float) -> PairsFromLogs:
    """Ingest (redacted, exact duplicates out), note near-duplicates, label (embedded), and write the pairs.

    Each step keeps what earlier commands did, so that the same command again adds nothing.
    Raises DataError as `ingest` and `write_pairs` do, and, before anything is read, if `out` cannot be written.
    """
    check_writable("--out", out)
    ingested = ingest(logs, store, settings=IngestionSettings(near_duplicates=True), on_progress=report_progress)
    return PairsFromLogs(ingested, label_store(store), write_pairs(store, out, min_p_dsat))
