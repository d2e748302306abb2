"""What came through, step by step, and what was dropped on the way and why."""

from collections import Counter

from drift.report.files import Funnel, FunnelStep
from drift.rundir import RunView
from drift.store import Store

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
