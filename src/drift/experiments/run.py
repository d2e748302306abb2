"""`drift run`: logs into the store, labels on them, the loop, and the report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, IngestionSettings, dump_config
from drift.errors import DataError, NothingToTrainOn
from drift.evaluation.utility import Truth
from drift.experiments.funnel import build_funnel, told
from drift.experiments.threads import fixed_threads
from drift.feedback.judging import label_by
from drift.logs.ingest import ingest
from drift.loop import drift
from drift.progress import report_progress
from drift.records import Counts, stable_hash, write_jsonl
from drift.report import write_report
from drift.report.files import write_json
from drift.rundir import OnStage, RunDir, RunView, load_run
from drift.rundir.fingerprints import Digests
from drift.store import Store
from drift.training.scale.prerequisites import check_scale


@dataclass(frozen=True, slots=True)
class RunSummary:
    run: str
    policy: str
    report: str
    counts: Mapping[str, int]
    seconds: float


def run_config(cfg: Config, out: Path | None, on_stage: OnStage | None = None) -> RunSummary:
    """Run a config in `out`, else in cfg.output, else in runs/NAME-HASH. Finished stages are reused."""
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
