"""`drift gate`: ask both models the same, measure every guard, and decide."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from drift.config import PolicySettings
from drift.disk import atomic_write, take_lock
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.gate.guards import OF_FORM, OF_STORE
from drift.gate.guards.inspect_suite import measure_scores, sample_scores
from drift.gate.measure import Answers, default_margin, measure_of_form, measure_of_store, measure_rate
from drift.gate.ordinary import measure_ordinary, ordinary_replies
from drift.gate.plan import GatePlan, GateSettings, plan_gate
from drift.gate.results import GateResult, GuardResult, read_gate
from drift.gate.sides import AskedModel
from drift.gate.target import feedback_judge, judged_outcomes, target_result, true_outcomes
from drift.gate.verdict import ERROR_RATE, explain, levels_of, overall
from drift.progress import report_note
from drift.records import Counts, Truth, stable_hash
from drift.report import write_report
from drift.report.gate import write_gate_page
from drift.rundir import layout, partial_work
from drift.scoring.judges import PairJudge
from drift.store import Store

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
    old, new = AskedModel(settings.against, settings), AskedModel(settings.new, settings)  # reports a missing model
    plan = plan_gate(settings, truth)
    for line in plan.lines(settings):
        tell(line)
    if dry_run:
        return None
    settings.out.mkdir(parents=True, exist_ok=True)
    lock = take_lock(settings.out, "--out DIR")
    try:
        if plan.complaints and settings.target_by == "feedback":
            _feedback_judge(settings, plan)  # before the models are asked: it may be too poor to judge
        answers = _answers(old, plan, settings), _answers(new, plan, settings)
        result = _decide(settings, plan, (old, new), answers, truth)
        result = result.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
        _keep(result, settings)
        return result
    finally:
        os.close(lock)


def _keep(result: GateResult, settings: GateSettings) -> None:
    """gate.json and its page; beside a run that was tested as a whole, also in the run and in its report."""
    written = result.model_dump_json(indent=2).encode() + b"\n"
    write_gate_page(result, settings.out / layout.REPORT)
    atomic_write(settings.out / layout.GATE, written)
    if layout.is_run(Path(settings.new)):
        atomic_write(Path(settings.new) / layout.GATE, written)
        write_report(Path(settings.new))


def _answers(side: AskedModel, plan: GatePlan, settings: GateSettings) -> Mapping[str, Answers]:
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
    sides: tuple[AskedModel, AskedModel],
    answers: tuple[Mapping[str, Answers], Mapping[str, Answers]],
    truth: Truth | None,
) -> GateResult:
    tests = len(plan.guards) + bool(plan.complaints)
    if not tests:
        raise ConfigError("nothing to measure: every guard and the target are left out.")
    old, new = sides
    if old.identity == new.identity:
        report_note(f"{settings.new} and {settings.against} are the same model: nothing can be better or worse")
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
        return settings.look
    before = read_gate(path)
    if (before.against_id, before.new_id, before.seed) != (*ids, settings.seed):
        return settings.look
    return before.look + (settings.items > before.items)


def _guards(
    settings: GateSettings,
    plan: GatePlan,
    sides: tuple[AskedModel, AskedModel],
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
        if name in plan.inspected:
            result = _inspected(name, settings, margin, look, tests)
        elif name in OF_STORE:
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


def _inspected(name: str, settings: GateSettings, margin: float, look: int, tests: int) -> GuardResult | None:
    folder = settings.out / name.replace("/", "-")
    sides = ("old", settings.against), ("new", settings.new)
    scores = [sample_scores(name, source, folder / side, settings.items) for side, source in sides]
    return measure_scores(name, scores, margin, look, tests)


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
        judge = plan.judge or _feedback_judge(settings, plan)
        outcomes, skipped = judged_outcomes(plan.complaints, old, new, judge)
    return target_result(settings.target_by, outcomes, skipped, (old, new), look, tests)


def _feedback_judge(settings: GateSettings, plan: GatePlan) -> PairJudge:
    """Kept in the gate's folder. Raises DataError, with the gate's own ways out, if the store's labels cannot judge."""
    assert plan.store is not None, "plan_gate refuses the feedback reward without a store"
    folder = settings.out / f"feedback-reward-{stable_hash(settings.against, plan.store.label_hash())[:8]}"
    try:
        return feedback_judge(settings.against, plan.store, folder, settings.dtype, settings.seed)
    except DataError as error:
        problem = str(error).split(" Label more chats")[0]
        raise DataError(
            f"--target feedback: {problem} Name --judge URL#MODEL or --reward-model DIR, or gate without a target: "
            "--target none."
        ) from None


# stop.rule: gate

ITEMS = 200
"""Of each guard."""


def gate_iteration(
    out: Path,
    policy: Path,
    against: Path | str,
    store: Store,
    policy_settings: PolicySettings,
    max_length: int,
    iteration: int,
    seed: int,
) -> Counts:
    """Write gate.json of the iteration's policy `against` the warm start. The target is left out: no judge is needed.

    Each iteration is one more look, so the error rates hold for the whole run. Returns how many guards passed, failed,
    are undecided or blind, and how many were left out because the store has too few ordinary conversations.
    """
    work = partial_work(out)
    without: tuple[str, ...] = ()
    try:
        ordinary_replies(store, ITEMS)
    except DataError as error:
        report_note(f"gate: {', '.join(OF_STORE)} are left out: {error}")
        without = OF_STORE
    settings = GateSettings(
        new=str(policy), against=str(against), out=work, store=store.path, target="none", without=without, items=ITEMS,
        seed=seed, loading=policy_settings, dtype=policy_settings.dtype, max_length=max_length, look=iteration,
    )  # fmt: skip
    result = run_gate(settings, None, False, lambda line: None)
    assert result is not None, "no dry run"
    atomic_write(out, (work / layout.GATE).read_bytes())
    counts = {verdict: sum(guard.verdict == verdict for guard in result.guards) for verdict in ("pass", "fail")}
    others = {name: sum(guard.verdict == name for guard in result.guards) for name in ("undecided", "blind")}
    return {**counts, **others, "left_out": len(without)}


def gate_failed(gate: Path, iteration: int) -> bool:
    """Whether a guard failed; if so, a note says which, and by how much."""
    result = read_gate(gate)
    if result.verdict != "fail":
        return False
    failed = [line for line in result.why if line.endswith(": fail")]
    report_note(f"stopped after iteration {iteration} by the gate: {'; '.join(failed)}. It is not kept.")
    return True
