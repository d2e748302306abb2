"""`drift demo`: a simulated deployment writes chat logs, and the pipeline of `drift run` learns from them.

Nothing that trains sees the sandbox's truth. It only measures: the utility of replies to held-out prompts, and the
precision and recall of the labels.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from drift.config import Config, load_config
from drift.evaluation.results import UtilityResult, read_evaluation
from drift.experiments.deployment import DeploymentSettings
from drift.experiments.simulation import sandbox_truth, simulate
from drift.policy.model import source_of
from drift.records import Counts, read_jsonl
from drift.report.files import LabelQuality, read_json, write_json
from drift.run import collect, learn, open_run
from drift.rundir import OnStage, RunDir, layout, load_run
from drift.sandbox.deployment import Reaction
from drift.sandbox.world import world_hash
from drift.store import Store


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """`utility`: mean true utility at temperature 1 of the base, the warm start and every iteration. `labels`:
    precision and recall of the DSAT labels, and the number of judged turns. `world`: hash of the simulated world.
    """

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
    """Each policy's name and its utility at each temperature."""


def run_demo(seed: int, base: int, out: Path | None, on_stage: OnStage | None = None) -> DemoResult:
    """Simulate the deployment, learn from its logs, and measure. Resumes like any run."""
    started = time.monotonic()
    cfg = demo_config(seed, base, out)
    with open_run(cfg, Path(str(cfg.output)), on_stage) as run:
        write_deployment(cfg, run)
        store = collect(cfg, run)
        quality = run.stage(layout.LABEL_QUALITY, measure_labels, store=store, truth=run.path / layout.DEPLOYMENT_TRUTH)
        result = learn(cfg, run, store, sandbox_truth("test", cfg.evaluation.max_prompts))
    view = load_run(run.path)
    policies = [("base", layout.BASE), ("warm start", layout.WARM_START)]
    policies += [(f"iteration {k}", layout.iteration(k)) for k in range(1, cfg.iterations + 1)]
    table = tuple(
        (name, read_evaluation(run.path / folder / layout.EVALUATION).utility)
        for name, folder in policies
        if view.file(f"{folder}/{layout.EVALUATION}")  # the run may have stopped before its last iteration
    )
    base_utility, warm_start_utility, *iteration_utilities = [round(utilities[0].mean, 4) for _, utilities in table]
    labels = read_json(quality, LabelQuality)
    summary = DemoSummary(
        utility={"base": base_utility, "warm_start": warm_start_utility, "iterations": iteration_utilities},
        labels={"precision": labels.precision, "recall": labels.recall, "judged": labels.n},
        run=result.run,
        report=result.report,
        seed=seed,
        world=world_hash(),
        seconds=round(time.monotonic() - started, 1),
    )
    return DemoResult(summary, table)


def demo_config(seed: int, base: int, out: Path | None) -> Config:
    """configs/demo.yaml for this seed and base policy. Its logs are those that the simulated deployment writes."""
    folder = out or Path(f"runs/demo-seed-{seed}" if base == 1 else f"runs/demo-base-{base}-seed-{seed}")
    model = "embedded" if base == 1 else f"embedded-{base}"
    cfg = load_config(Path(__file__).with_name("demo.yaml"), (f"seed={seed}", f"policy.model={model}"))
    return cfg.model_copy(update={"output": str(folder), "logs": (str(folder / layout.DEPLOYMENT_LOGS),)})


def write_deployment(cfg: Config, run: RunDir) -> Path:
    """Run the first stage: RUN/deployment gets the chat logs and, in a file of its own, the truth."""
    return run.stage(
        layout.DEPLOYMENT, simulate,
        answering=source_of(cfg.policy.model), policy=cfg.policy, sampling=cfg.sampling,
        deployment=DeploymentSettings(), seed=cfg.seed, world=world_hash(),
    )  # fmt: skip


def measure_labels(out: Path, store: Store, truth: Path) -> Counts:
    """Precision and recall of the DSAT labels against the simulated users' true reactions, over all user turns that
    follow a reply.
    """
    truly_dsat = {
        (reaction.source_id, reaction.message_index): reaction.label == "DSAT"
        for reaction in read_jsonl(truth, Reaction)
    }
    labelled_dsat = {
        (conversation.source_id, conversation.messages[label.user_index].source_index): label.label == "DSAT"
        for conversation, labels in store.labelled()
        for label in labels
        if label.user_index is not None
    }
    correct = sum(labelled_dsat.get(turn, False) for turn, is_dsat in truly_dsat.items() if is_dsat)
    quality = LabelQuality(
        precision=correct / max(sum(labelled_dsat.values()), 1),
        recall=correct / max(sum(truly_dsat.values()), 1),
        n=len(truly_dsat),
    )
    write_json(out, quality)
    return {"precision": round(quality.precision, 4), "recall": round(quality.recall, 4), "judged": quality.n}
