"""`drift gate`: ask both models the same, measure every guard, and decide."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from drift.disk import atomic_write, take_lock
from drift.errors import ConfigError, PrerequisiteError
from drift.gate.guards import OF_FORM, OF_STORE
from drift.gate.measure import Answers, default_margin, measure_of_form, measure_of_store, measure_rate
from drift.gate.ordinary import measure_ordinary
from drift.gate.plan import GatePlan, GateSettings, plan_gate
from drift.gate.results import GateResult, GuardResult, read_gate
from drift.gate.sides import Side
from drift.gate.target import feedback_judge, judged_outcomes, target_result, true_outcomes
from drift.gate.verdict import ERROR_RATE, explain, levels_of, overall
from drift.records import Truth, stable_hash
from drift.rundir import layout

TARGET = "target"


def default_folder(new: str, against: str) -> Path:
    """Where a gate keeps its answers and results, if the user names no folder."""
    return Path("evals") / f"gate-{stable_hash(new, against)[:8]}"


def run_gate(
    settings: GateSettings, truth: Truth | None, dry_run: bool, tell: Callable[[str], None]
) -> GateResult | None:
    """The verdict; None for a dry run. gate.json in `settings.out` holds it; answers there are not asked again.

    `tell` gets the cost before anything is asked. Raises a DriftError of one line for what cannot be measured.
    """
    started = time.monotonic()
    plan = plan_gate(settings, truth)
    for line in plan.lines(settings):
        tell(line)
    if dry_run:
        return None
    settings.out.mkdir(parents=True, exist_ok=True)
    lock = take_lock(settings.out, "--out DIR")
    try:
        sides = tuple(
            Side(source, settings.out, settings.dtype, settings.seed, settings.temperature)
            for source in (settings.against, settings.new)
        )
        answers = tuple(_answers(side, plan, settings) for side in sides)
        result = _decide(settings, plan, (sides[0], sides[1]), (answers[0], answers[1]), truth)
        result = result.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
        atomic_write(settings.out / layout.GATE, result.model_dump_json(indent=2).encode() + b"\n")
        return result
    finally:
        os.close(lock)


def _answers(side: Side, plan: GatePlan, settings: GateSettings) -> Mapping[str, Answers]:
    """One model's answers by guard; then its weights give way to the other model's."""
    found = {
        name: side.answers([item.request for item in batch.items], batch.max_new_tokens)
        for name, batch in plan.batches.items()
    }
    if plan.complaints:
        found[TARGET] = side.answers([c.request for c in plan.complaints], settings.max_new_tokens)
    side.release()
    return found


def _decide(
    settings: GateSettings,
    plan: GatePlan,
    sides: tuple[Side, Side],
    answers: tuple[Mapping[str, Answers], Mapping[str, Answers]],
    truth: Truth | None,
) -> GateResult:
    tests = len(plan.guards) + bool(plan.complaints)
    if not tests:
        raise ConfigError("nothing to measure: every guard and the target are left out.")
    old, new = sides
    look = _look(settings, (old.identity, new.identity))
    guards = _guards(settings, plan, sides, answers, look, tests)
    target = _target(settings, plan, answers, truth, look, tests) if plan.complaints else None
    measured = (*([target] if target else []), *guards)
    verdict = overall(measured)
    return GateResult(
        new=settings.new,
        against=settings.against,
        new_id=new.identity,
        against_id=old.identity,
        verdict=verdict,
        why=tuple(explain(result) for result in measured if result.verdict != "pass"),
        target=target,
        guards=guards,
        left_out=(*settings.without, *([] if target else [TARGET])),
        look=look,
        confidence=1 - 2 * levels_of(look, tests).passing,
        error_rate=ERROR_RATE,
        seed=settings.seed,
        items=settings.items,
        seen_in_training=plan.seen,
    )


def _look(settings: GateSettings, ids: tuple[str, str]) -> int:
    """How often these two models have been compared with ever more items; an equal repetition is no new look."""
    path = settings.out / layout.GATE
    if not path.is_file():
        return 1
    before = read_gate(path)
    if (before.against_id, before.new_id, before.seed) != (*ids, settings.seed):
        return 1
    return before.look + (settings.items > before.items)


def _guards(
    settings: GateSettings,
    plan: GatePlan,
    sides: tuple[Side, Side],
    answers: tuple[Mapping[str, Answers], Mapping[str, Answers]],
    look: int,
    tests: int,
) -> tuple[GuardResult, ...]:
    ordinary = {}
    if plan.ordinary:
        models = sides[0].policy, sides[1].policy
        ordinary = measure_ordinary(*models, plan.ordinary, settings.max_length, settings.out)
    results = []
    for name in plan.guards:
        margin = settings.margins.get(name, default_margin(name))
        if name in OF_STORE:
            result = measure_of_store(name, plan.ordinary, ordinary, margin, look, tests)
        else:
            batch = plan.batches["form" if name in OF_FORM else name]
            both = answers[0][batch.name], answers[1][batch.name]
            measure = measure_of_form if name in OF_FORM else measure_rate
            result = measure(name, batch.items, both, margin, look, tests)
        if result is None:
            raise PrerequisiteError(_unmeasured(name))
        results.append(result)
    return tuple(results)


def _unmeasured(name: str) -> str:
    why = {
        "kl": "the models have different vocabularies, or no ordinary reply fits",
        "perplexity": "no ordinary reply fits both models",
    }.get(name, "no item was answered by both models")
    return f"guard {name}: {why}. Leave it out: --without {name}."


def _target(
    settings: GateSettings,
    plan: GatePlan,
    answers: tuple[Mapping[str, Answers], Mapping[str, Answers]],
    truth: Truth | None,
    look: int,
    tests: int,
) -> GuardResult:
    old, new = (of_side[TARGET] for of_side in answers)
    if settings.target_by == "oracle":
        assert truth is not None, "plan_gate refuses an oracle without a truth"
        outcomes, skipped = true_outcomes(plan.complaints, old, new, truth)
    else:
        judge = plan.judge
        if judge is None:
            assert plan.store is not None, "plan_gate refuses the feedback reward without a store"
            folder = settings.out / f"feedback-reward-{stable_hash(settings.against, plan.store.label_hash())[:8]}"
            judge = feedback_judge(settings.against, plan.store, folder, settings.dtype, settings.seed)
        outcomes, skipped = judged_outcomes(plan.complaints, old, new, judge)
    return target_result(settings.target_by, outcomes, skipped, (old, new), look, tests)
