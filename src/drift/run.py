"""`drift run`: logs into the store, labels on them, the loop, and the report. `drift pairs LOGS` is its first half.

Nothing here loads torch before the loop begins: `drift pairs` works without it.
"""

import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from drift.config import Config, dump_config, without_password
from drift.endpoint.cost import own_accounts
from drift.engine import open_engine
from drift.errors import ConfigError, DataError, DriftError, NothingToTrainOn
from drift.feedback.label import LabelSummary, check_writable, label_store
from drift.feedback.stage import label_by
from drift.generations import count_new_prompts, is_finished, open_parent, open_store, successor_of
from drift.logs.files.databases import is_url
from drift.logs.files.remote import is_remote, list_files
from drift.logs.ingest import IngestSummary, as_before, check_usable, ingest, require_consent
from drift.pairs.stages import PairsSummary, no_consent, write_pairs
from drift.progress import report_note, report_progress
from drift.records import Counts, ReadMark, Truth, stable_hash, write_jsonl
from drift.report import write_report
from drift.report.contents import Contents, read_contents
from drift.report.files import Funnel, FunnelStep, write_json
from drift.report.verdict import verdict_of
from drift.rundir import OnStage, RunDir, RunView, layout, load_run, pin_finished, real_folder
from drift.rundir.chain import note_child
from drift.rundir.fingerprints import Digests
from drift.store import Store

OF_REPLIES = ("finished", "median_tokens", "p90_tokens", "repetition", "same_language")
"""What an evaluation says of held-out replies. A list of runs has it of the base too: no loss measures it."""

OF_PREFERENCE = ("preference_accuracy", "length_accuracy")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """`counts`: the funnel's steps, by name. `measured`: what the evaluations of the `base` and of the `kept` policy
    found, by name: preference accuracy (unless it says nothing), how held-out replies end, their length, repetition and
    language, ..."""

    run: str
    policy: str
    report: str
    counts: Mapping[str, int]
    seconds: float
    measured: Mapping[str, Mapping[str, float]]


Did = Literal["trained", "nothing new", "finished before"]


@dataclass(frozen=True, slots=True)
class GenerationSummary(RunSummary):
    """Of a run that starts from an earlier one. `did`: `trained`, or why nothing was trained; then `run`, `policy` and
    `report` are those to go on with. `new_conversations`: of the store, those that came or changed since."""

    did: Did
    generation: int
    started_from: str
    new_conversations: int
    message: str


def run_config(
    cfg: Config, out: Path | None, on_stage: OnStage | None = None, truth: Truth | None = None
) -> RunSummary:
    """Run a config in `out`, else in cfg.output, else in runs/NAME-HASH. Finished stages are reused.

    With `from`, a run that has nothing new to learn from leaves no folder, and one that is finished is not redone.
    `truth`: of a simulated world, for evaluation alone.
    """
    cfg = by_real_name(cfg)
    folder = folder_of(cfg, out)
    with own_accounts(), open_engine(cfg.cluster, folder, *([Path(cfg.store)] if cfg.store else [])):
        if cfg.parent is not None:
            return _next_generation(cfg, folder, on_stage, truth)
        if latest := successor_of(folder, cfg):
            return _finished_before(folder, cfg.policy.model, latest)
        _check_scale(cfg)
        with open_run(cfg, folder, on_stage) as run:
            return learn(cfg, run, collect(cfg, run), truth)


def by_real_name(cfg: Config) -> Config:
    """The config whose `from` names the run itself: a link such as runs/latest leads to another run tomorrow."""
    if cfg.parent is None or not Path(cfg.parent).is_symlink():
        return cfg
    return cfg.model_copy(update={"parent": str(real_folder(Path(cfg.parent)))})


def folder_of(cfg: Config, out: Path | None) -> Path:
    """The run folder: `out`, else the config's, else runs/NAME-HASH."""
    return out or Path(cfg.output or f"runs/{cfg.name}-{stable_hash(dump_config(cfg))[:8]}")


def _check_scale(cfg: Config) -> None:
    from drift.policy.spread import check_replicas  # loads torch
    from drift.training.scale.prerequisites import check_scale

    check_scale(cfg.policy, cfg.warm_start, cfg.training, nodes=cfg.cluster.nodes)
    check_replicas(cfg.sampling)


def _next_generation(cfg: Config, folder: Path, on_stage: OnStage | None, truth: Truth | None) -> GenerationSummary:
    started, parent = time.monotonic(), open_parent(cfg)
    assert parent is not None, "called for a config with `from`"
    if folder.resolve() == parent.view.path.resolve():
        raise ConfigError(f"from: {folder}: a run cannot start from itself. Name another folder with --out DIR.")
    generation, store = parent.generation + 1, open_store(cfg, parent)
    cfg = cfg.model_copy(update={"store": str(store.path)})  # so that every later command finds the chain's store

    def summary(did: Did, conversations: int, message: str, run: RunSummary | None = None) -> GenerationSummary:
        at = parent.view.path
        paths = (str(at), str(at / layout.POLICY), str(at / layout.REPORT))
        done = run or RunSummary(*paths, {}, round(time.monotonic() - started, 1), {})
        return GenerationSummary(
            run=done.run, policy=done.policy, report=done.report, counts=done.counts, seconds=done.seconds,
            measured=done.measured, did=did, generation=generation, started_from=str(parent.view.path),
            new_conversations=conversations, message=message,
        )  # fmt: skip

    latest = successor_of(folder, cfg)
    if is_finished(folder, cfg):
        return _finished_before(folder, str(parent.view.path), latest or folder)
    if cfg.logs:
        check_usable(ingest(cfg.logs, store, settings=cfg.ingestion, on_progress=report_progress))
    require_consent(store, cfg.ingestion)
    read = sum(store.news(parent.read))
    since = f"since {parent.view.path} read {store.path}"
    if not read:
        return summary("nothing new", 0, f"no conversation came or changed {since}")
    _check_scale(cfg)
    mark = read_mark(store, read)
    label_by(store, cfg.labels)
    if not count_new_prompts(cfg, store, parent):
        return summary("nothing new", read, f"{read} conversations came or changed {since}, none to train on")
    with open_run(cfg, folder, on_stage) as run:
        note_child(parent.view, folder)
        done = learn(cfg, run, pin_store(run, store, mark, generation), truth)
    return summary("trained", read, f"generation {generation} in {folder}", done)


def _finished_before(folder: Path, started_from: str, latest: Path) -> GenerationSummary:
    run = load_run(folder)
    try:  # it was killed after it was marked as done, or its report failed then
        if run.state.verdict is None:
            contents = read_contents(folder)
            pin_finished(folder, headline=_headline(_measured(contents)), verdict=verdict_of(contents).title)
        if run.file(layout.REPORT) is None:
            write_report(folder)
    except (DriftError, OSError) as error:
        report_note(f"{folder}: its report cannot be written: {error}")
    return GenerationSummary(
        run=str(folder), policy=str(folder / layout.POLICY), report=str(folder / layout.REPORT), counts={}, seconds=0.0,
        measured={}, did="finished before", generation=run.state.generation, started_from=started_from,
        new_conversations=run.state.read[-1].conversations if run.state.read else 0,
        message=f"{folder} is finished. To learn from what came since: --from {latest}",
    )  # fmt: skip


@contextmanager
def open_run(cfg: Config, folder: Path, on_stage: OnStage | None = None) -> Iterator[RunDir]:
    """Open and lock the run folder, with the same number of CPU threads in every command."""
    with RunDir.open(folder, dump_config(cfg), cfg.seed, on_stage) as run, fixed_threads(run, cfg.threads):
        run.pin(where=socket.gethostname() + (f", cluster {cfg.cluster.address}" if cfg.cluster.address else ""))
        yield run


@contextmanager
def fixed_threads(run: RunDir, wanted: int | None) -> Iterator[None]:
    """Use `wanted` CPU threads, else as many as the run started with.

    Another number of threads sums float32 values in another order. The last bit differs, training amplifies it, and a
    resumed run would end with other weights.
    """
    from drift.policy.model import cpu_threads

    with cpu_threads(wanted or run.threads) as threads:
        run.pin(threads=threads)
        yield


def with_date(cfg: Config, run: RunDir) -> Config:
    """The config with the date that chat templates show: the one that it names, else the day on which the run began.

    A template that reads the clock would show another prompt tomorrow, and a resumed run would end with other weights.
    """
    date = cfg.policy.date or run.date or today()
    run.pin(date=date)
    return cfg.model_copy(update={"policy": cfg.policy.model_copy(update={"date": date})})


def today() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def collect(cfg: Config, run: RunDir) -> Store:
    """Ingest the config's logs into the store, label it, and return it."""
    store = store_for(cfg, run.path)
    if cfg.logs:
        check_usable(ingest(cfg.logs, store, settings=cfg.ingestion, on_progress=report_progress))
    require_consent(store, cfg.ingestion)
    if not store.size():
        raise DataError(f"{store.path}: has no conversations. Set chat logs: --set logs='[PATH]'.")
    mark = read_mark(store, store.size())
    label_by(store, cfg.labels)
    return pin_store(run, store, mark, 1)


def read_mark(store: Store, conversations: int) -> ReadMark:
    """How far a run reads the store. Taken before labelling: what comes later may be without a label, and is news."""
    return ReadMark(store.read_up_to(), conversations, store.borders())


def pin_store(run: RunDir, store: Store, mark: ReadMark, generation: int) -> Store:
    """Note in the run what it reads: its labels, and how far it has read the store."""
    run.pin_reading(generation, store.store_id(), (*store.marks, mark))
    run.pin(label_hash=store.label_hash())
    run.stage(layout.LABELS, copy_labels, store=store)
    return store


def store_for(cfg: Config, folder: Path) -> Store:
    """The store that the config names, else one in the run's folder.

    The run's own store is named by the content of the logs and by the settings of ingestion, so that
    different logs in the same folder do not mix.
    """
    if cfg.store:
        return Store(Path(cfg.store), cfg.evaluation.split)
    digests = Digests()
    contents = [_content(log, digests) for log in cfg.logs]
    unset = {name for name in ("map", "roles") if not getattr(cfg.ingestion, name)}  # stores of earlier versions
    name = stable_hash(*contents, cfg.ingestion.model_dump_json(exclude=unset))
    return Store(folder / layout.STORE / name, cfg.evaluation.split)


def _content(log: str, digests: Digests) -> str:
    """What identifies the content of logs. Files behind URLs are not read for it."""
    if is_remote(log):
        return stable_hash(*((file.url, file.size, file.version) for file in list_files(log)))
    return without_password(log) if is_url(log) else digests.content(Path(log))


def copy_labels(out: Path, store: Store) -> Counts:
    """Copy the labels that this run uses, since the store may change later. Returns rows, verdicts and conversations
    without consent."""
    verdicts: dict[str, int] = {}

    def counted():
        for label in store.labels():
            verdicts[label.label] = verdicts.get(label.label, 0) + 1
            yield label

    rows = write_jsonl(out, counted())
    return {"rows": rows, **verdicts, **no_consent(store)}


def learn(cfg: Config, run: RunDir, store: Store, truth: Truth | None = None) -> RunSummary:
    """Run everything from labelled conversations to the report, in an open run folder.

    Raises DataError with the funnel if no reply is left to train on.
    """
    from drift.loop import drift

    started = time.monotonic()
    cfg = with_date(cfg, run)
    try:
        policy = drift(cfg, run, store, truth)
    except NothingToTrainOn as error:
        liked = store.counts().labels.get("SAT", 0) if cfg.warm_start.on == "repairs" else 0
        remedy = f" Users liked {liked} replies; warm_start.on=liked learns from them." if liked else ""
        raise DataError(f"{error}{remedy} The funnel: {funnel_line(build_funnel(store, load_run(run.path)))}") from None
    funnel = build_funnel(store, load_run(run.path))
    write_json(run.path / layout.FUNNEL, funnel)
    try:
        contents = read_contents(run.path)
    except DataError:  # of a file beside the run, such as the store's live.json: the run itself is whole
        run.finish()
        raise
    measured = _measured(contents)
    run.headline(**_headline(measured))
    run.pin(verdict=verdict_of(contents).title)
    run.finish()
    report = write_report(run.path)
    counts = {step.name: step.count for step in funnel.steps}
    return RunSummary(str(run.path), str(policy), str(report), counts, round(time.monotonic() - started, 1), measured)


def _measured(contents: Contents) -> dict[str, dict[str, float]]:
    """The figures of the `base` (in a chain, of the policy that training started from) and of the `kept` policy.

    Those of preference accuracy are left out where they say nothing, as in the report; a note says why.
    """
    run, why = contents.run, contents.preference_says_nothing
    if why:
        report_note(f"preference accuracy is not shown, because it says nothing here: {why}")
    counts = {stage.name: stage.counts for stage in run.stages}
    folders = {"base": layout.BASE, "kept": layout.iteration(run.kept) if run.kept else layout.WARM_START}
    return {
        name: {
            key: value
            for key, value in counts.get(f"{folder}/{layout.EVALUATION}", {}).items()
            if value is not None and not (why and key in OF_PREFERENCE)
        }
        for name, folder in folders.items()
    }


def _headline(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    base = measured["base"]
    return {**measured["kept"], **{f"base_{name}": base[name] for name in OF_REPLIES if name in base}}


STEPS = {
    layout.PROMPTS: "disliked replies to train on",
    layout.HELDOUT: "disliked replies held out",
    layout.BELIEVED: "complaints believed",
    layout.FOLLOW_UPS: "replies that a message follows",
    f"{layout.LIKED_START}/{layout.PAIRS}": "liked replies",
    f"{layout.LIKED_START}/{layout.POLICY}": "liked replies trained on before the first iteration",
    f"{layout.WARM_START}/{layout.PAIRS}": "repairs",
    f"{layout.WARM_START}/{layout.POLICY}": "pairs trained on in the warm start",
}


def build_funnel(store: Store, run: RunView) -> Funnel:
    """Count the rows after each step, and the dropped rows by reason, from the store and the manifests."""
    counts = store.counts()
    judged = _listed({**counts.labels, "outdated reviews": counts.outdated_reviews})
    steps = [
        FunnelStep(name="conversations", count=counts.conversations, note=f"{counts.quarantined} rows quarantined"),
        FunnelStep(name="messages", count=counts.messages),
        FunnelStep(name="judged replies", count=sum(counts.labels.values()), note=judged),
    ]
    drops: Counter[str] = Counter()
    for stage in run.stages:
        if layout.is_guidance(stage.name):
            continue
        for key, count in stage.counts.items():
            if key.startswith("dropped.") and count:
                drops[key.removeprefix("dropped.")] += int(count)
        name = STEPS.get(stage.name)
        k = layout.iteration_of(stage.name)
        if k is not None and stage.name.endswith(f"/{layout.PAIRS}"):
            name = f"pairs of iteration {k}"
        if k is not None and stage.name.endswith(f"/{layout.COMPLETIONS}"):
            name = f"replies sampled in iteration {k}"
        if name:
            count = next((int(n) for key in ("rows", "pairs", "completions") if (n := stage.counts.get(key))), 0)
            steps.append(FunnelStep(name=name, count=count, note=_news_in(stage.counts)))
    return Funnel(steps=tuple(steps), drops=dict(drops))


def _news_in(counts: Mapping[str, int | float | None]) -> str | None:
    """Of a generation: how many of its prompts are new, and how many are replayed."""
    if "new" not in counts:
        return None
    return ", ".join(f"{int(counts[name] or 0)} {name.replace('_', ' ')}" for name in ("new", "came_back", "replayed"))


def funnel_line(funnel: Funnel) -> str:
    """The funnel in one line."""
    steps = "; ".join(f"{step.count} {step.name}" + (f" ({step.note})" if step.note else "") for step in funnel.steps)
    return f"{steps}; dropped: {_listed(funnel.drops) or 'none'}."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@dataclass(frozen=True, slots=True)
class PairsFromLogs:
    ingested: IngestSummary
    labelled: LabelSummary
    pairs: PairsSummary


def pairs_from_logs(logs: Sequence[Path | str], store: Store, out: Path, min_p_dsat: float) -> PairsFromLogs:
    """`drift pairs LOGS`: ingest and redact, note near-duplicates, label with the embedded labeller, write the pairs.

    The memory is bounded. Each step keeps what earlier commands did, so the same command again adds nothing.
    Raises DataError as `ingest` and `write_pairs` do, and, before anything is read, if `out` cannot be written.
    """
    check_writable("--out", out)
    settings = as_before(store, near_duplicates=True)
    ingested = ingest(logs, store, settings=settings, on_progress=report_progress)
    check_usable(ingested)
    return PairsFromLogs(ingested, label_store(store), write_pairs(store, out, min_p_dsat))
