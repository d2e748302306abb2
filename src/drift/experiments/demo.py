"""`drift demo`: a simulated deployment writes ordinary chat logs, and everybody's own path does the rest.

The world's truth is used twice, by the evaluator alone: for the utility of held-out prompts, and to see how good the
labels are.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, DeploymentSettings, load_config
from drift.evaluation.results import UtilityResult, read_evaluation
from drift.experiments.simulation import sandbox_truth, simulate
from drift.policy.model import source_of
from drift.records import Counts, read_jsonl
from drift.report.files import LabelQuality, read_json, write_json
from drift.run import collect, learn, open_run
from drift.rundir import OnStage, RunDir, layout
from drift.sandbox.deployment import Reaction
from drift.sandbox.world import world_hash
from drift.store import Store


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """`utility`: at temperature 1, of the base, the warm start and every iteration."""

    utility: dict[str, float | list[float]]
    labels: dict[str, float]
    run: str
    report: str
    seed: int
    world: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    summary: DemoSummary
    table: tuple[tuple[str, tuple[UtilityResult, ...]], ...]
    """Name of a policy and its utility at each temperature."""


def run_demo(seed: int, base: int, out: Path | None, on_stage: OnStage | None = None) -> DemoResult:
    """Deploy, learn from the logs, measure. Resumes like any run."""
    begun = time.monotonic()
    cfg = demo_config(seed, base, out)
    with open_run(cfg, Path(str(cfg.output)), on_stage) as run:
        write_deployment(cfg, run)
        store = collect(cfg, run)
        quality = run.stage(layout.LABEL_QUALITY, measure_labels, store=store, truth=run.path / layout.DEPLOYMENT_TRUTH)
        done = learn(cfg, run, store, sandbox_truth("test", cfg.evaluation.max_prompts))
    table = tuple((name, read_evaluation(path).utility) for name, path in _evaluations(run.path, cfg))
    base_u, warm_u, *iterations = [round(utilities[0].mean, 4) for _, utilities in table]
    labels = read_json(quality, LabelQuality)
    summary = DemoSummary(
        utility={"base": base_u, "warm_start": warm_u, "iterations": iterations},
        labels={"precision": labels.precision, "recall": labels.recall, "judged": labels.n},
        run=done.run,
        report=done.report,
        seed=seed,
        world=world_hash(),
        seconds=round(time.monotonic() - begun, 1),
    )
    return DemoResult(summary, table)


def demo_config(seed: int, base: int, out: Path | None) -> Config:
    """configs/demo.yaml for this seed and base; the logs are those that the deployment will have written."""
    folder = out or Path(f"runs/demo-seed-{seed}" if base == 1 else f"runs/demo-base-{base}-seed-{seed}")
    model = "embedded" if base == 1 else f"embedded-{base}"
    cfg = load_config(Path(__file__).with_name("demo.yaml"), (f"seed={seed}", f"policy.model={model}"))
    return cfg.model_copy(update={"output": str(folder), "logs": (str(folder / layout.DEPLOYMENT_LOGS),)})


def write_deployment(cfg: Config, run: RunDir) -> Path:
    """The stage before all others: RUN/deployment, with the logs and, apart from them, the truth."""
    return run.stage(
        layout.DEPLOYMENT, simulate,
        answering=source_of(cfg.policy.model), policy=cfg.policy, sampling=cfg.sampling,
        deployment=DeploymentSettings(), seed=cfg.seed, world=world_hash(),
    )  # fmt: skip


def _evaluations(run: Path, cfg: Config) -> list[tuple[str, Path]]:
    iterations = [(f"iteration {k}", run / layout.iteration(k)) for k in range(1, cfg.iterations + 1)]
    folders = [("base", run / layout.BASE), ("warm start", run / layout.WARM_START), *iterations]
    return [(name, folder / layout.EVALUATION) for name, folder in folders if folder.exists()]


def measure_labels(out: Path, store: Store, truth: Path) -> Counts:
    """DSAT labels against the world's truth, over all user turns that follow a reply."""
    known = {(r.source_id, r.message_index): r.label == "DSAT" for r in read_jsonl(truth, Reaction)}
    found = {
        (conversation.source_id, conversation.messages[label.user_index].source_index): label.label == "DSAT"
        for conversation, labels in store.labelled()
        for label in labels
        if label.user_index is not None
    }
    both = sum(found.get(turn, False) for turn, is_dsat in known.items() if is_dsat)
    quality = LabelQuality(
        precision=both / max(sum(found.values()), 1), recall=both / max(sum(known.values()), 1), n=len(known)
    )
    write_json(out, quality)
    return {"precision": round(quality.precision, 4), "recall": round(quality.recall, 4), "judged": quality.n}
