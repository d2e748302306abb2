"""The plan of a run: its stages, which of them are kept, their costs, and what was assumed. Nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from drift.config import Config
from drift.errors import DataError, DriftError
from drift.generations import open_parent, open_store
from drift.plan.costs import CONSTANTS, GB, Constant, Cost, ModelCosts
from drift.plan.rows import Rows
from drift.plan.stages import Planned, Stages
from drift.plan.weights import count_weights
from drift.policy.source import is_adapter
from drift.progress import listening
from drift.run import by_real_name, copy_labels, folder_of, store_for, with_date
from drift.rundir import StageRecord, layout
from drift.rundir.replay import Replay, StageMissing
from drift.store import Store


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """`stages`: how many like this one (of several iterations), whose costs are together here. `rows`, `pieces`: of
    each. `tokens_at_most`: what the settings allow. Hours: `core_hours` of CPU cores for data; for the model
    `gpu_hours`, or `cpu_hours` of cores if there is no GPU; None where the number of weights is not known. Gigabytes of
    storage. `price`: of a server, in its currency."""

    name: str
    stages: int
    kept: bool
    rows: int
    rows_of: str
    tokens: int
    tokens_at_most: int
    pieces: int | None
    piece: str
    core_hours: float
    gpu_hours: float | None
    cpu_hours: float | None
    read_gb: float
    written_gb: float
    price: float | None
    note: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """`weights`: of the model, and `weights_from` where the number comes from. `total`: of what is not kept."""

    run: str
    model: str
    weights: float | None
    weights_from: str
    stages: tuple[PlannedStage, ...]
    total: PlannedStage
    assumptions: tuple[str, ...]
    constants: Mapping[str, Constant]


def make_plan(cfg: Config, out: Path | None = None) -> RunPlan:
    """What `run_config(cfg, out)` would do. Reads the run folder and the store, and the sizes of the logs; only if the
    run has a store of its own and has begun, the logs are also read once, to see whether they are the same.

    Raises a DriftError as the run would, for logs, a parent run or a model that are missing.
    """
    cfg = by_real_name(cfg)
    folder = folder_of(cfg, out)
    store = _store(cfg, folder)
    if not cfg.logs and not (store and store.size()):
        raise DataError(f"{folder}: has no conversations. Set chat logs: --set logs='[PATH]'.")
    kept = _kept_stages(cfg, folder, store)
    weights, how = count_weights(cfg.policy.model)
    bytes_per_weight = 2 if cfg.policy.dtype == "bfloat16" else 4
    as_adapter = cfg.policy.lora is not None or is_adapter(cfg.policy.model)
    model = ModelCosts(weights, bytes_per_weight, as_adapter, cfg.training.gradient_checkpointing)
    rows = Rows.of(cfg, store, kept)
    planned = list(Stages(cfg, rows, model).planned())
    to_do = [one for one in planned if one.name not in kept]
    done = [_shown(_as_done(one, kept[one.name]), 1, kept=True) for one in planned if one.name in kept]
    total = reduce(Cost.plus, (one.cost for one in to_do), Cost())
    prices = [one.price for one in to_do if one.price is not None]
    whole = Planned("together", 0, "", total, sum(t.tokens for t in to_do), sum(t.at_most for t in to_do))
    whole = replace(whole, price=sum(prices) if prices else None)
    assumptions = list(rows.assumptions)
    if kept:
        assumptions.append("the kept stages: the logs bring nothing new, and labels stay as they are")
    return RunPlan(
        run=str(folder),
        model=cfg.policy.model,
        weights=weights,
        weights_from=how,
        stages=(*done, *_grouped(to_do)),
        total=_shown(whole, len(to_do)),
        assumptions=tuple(assumptions),
        constants=CONSTANTS,
    )


def _store(cfg: Config, folder: Path) -> Store | None:
    """The store that the run would read, if there is one."""
    if (parent := open_parent(cfg)) is not None:
        return open_store(cfg, parent)
    if not cfg.store and not layout.is_run(folder):
        return None
    return store_for(cfg, folder)


def _kept_stages(cfg: Config, folder: Path, store: Store | None) -> Mapping[str, StageRecord]:
    """The stages of the run folder that the command would reuse, up to the first that it would make."""
    if store is None or not layout.is_run(folder) or not store.size():
        return {}
    from drift.loop import drift  # loads torch

    run = Replay(folder, cfg.seed)
    cfg = cfg.model_copy(update={"store": str(store.path)}) if cfg.parent else cfg
    try:
        with listening(lambda *_: None):
            run.stage(layout.LABELS, copy_labels, store=store)
            drift(with_date(cfg, run), run, store)
    except (StageMissing, DriftError):
        pass
    return run.kept


def _as_done(stage: Planned, record: StageRecord) -> Planned:
    rows = next((count for name in ("rows", "pairs", "completions") if (count := record.counts.get(name))), stage.rows)
    return Planned(stage.name, rows, stage.of)


def _grouped(planned: list[Planned]) -> list[PlannedStage]:
    """Equal stages of several iterations as one, where the first of them stands."""
    groups: dict[tuple[object, ...], list[Planned]] = {}
    for stage in planned:
        k = layout.number_of(stage.name)
        what = stage.name if k is None else stage.name.replace(f"-{k}/", "-K/")
        groups.setdefault((what, stage.rows, stage.cost), []).append(stage)
    return [_shown(_together(stages), len(stages)) for stages in groups.values()]


def _together(stages: list[Planned]) -> Planned:
    first, count = stages[0], len(stages)
    if count == 1:
        return first
    numbers = [layout.number_of(stage.name) for stage in stages]
    name = first.name.replace(f"-{numbers[0]}/", f"-{numbers[0]}..{numbers[-1]}/")
    price = None if first.price is None else first.price * count
    tokens, at_most = first.tokens * count, first.at_most * count
    return replace(first, name=name, cost=first.cost.times(count), tokens=tokens, at_most=at_most, price=price)


def _shown(stage: Planned, stages: int, kept: bool = False) -> PlannedStage:
    cost = stage.cost
    return PlannedStage(
        name=stage.name,
        stages=stages,
        kept=kept,
        rows=round(stage.rows),
        rows_of=stage.of,
        tokens=round(stage.tokens),
        tokens_at_most=round(stage.at_most),
        pieces=stage.pieces,
        piece=stage.piece,
        core_hours=cost.core_hours,
        gpu_hours=cost.gpu_hours,
        cpu_hours=cost.cpu_hours,
        read_gb=cost.read / GB,
        written_gb=cost.written / GB,
        price=stage.price,
        note=stage.note,
    )
