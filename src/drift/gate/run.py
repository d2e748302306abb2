"""`drift gate`: ask both models the same, measure every guard, and decide."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from drift.config import PolicySettings
from drift.disk import atomic_write, make_folder, take_lock
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.evals.served import one_evaluation
from drift.gate.guards import OF_FORM, OF_STORE
from drift.gate.guards.inspect_suite import measure_scores, sample_scores
from drift.gate.guards.likelihood import measure_ordinary, ordinary_replies
from drift.gate.measure import Answers, default_margin, measure_of_form, measure_of_store, measure_rate
from drift.gate.plan import TARGET, GatePlan, GateSettings, plan_gate
from drift.gate.results import GateResult, GuardResult, read_gate
from drift.gate.sides import AskedModel
from drift.gate.target import feedback_judge, judged_outcomes, target_result, true_outcomes
from drift.gate.verdict import ERROR_RATE, explain, levels_of, overall
from drift.progress import report_note
from drift.records import Counts, Truth, stable_hash
from drift.report import write_report
from drift.report.gate import write_gate_page
from drift.rundir import layout, load_run, partial_work, run_of
from drift.scoring.judges import PairJudge
from drift.store import Store


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
    plan, policy_hash = plan_gate(settings, truth), _policy_hash(settings)
    for line in plan.lines(settings):
        tell(line)
    if dry_run:
        return None
    make_folder(settings.out, "a gate")
    lock = take_lock(settings.out, "--out DIR")
    try:
        with one_evaluation(settings.out, settings.served, goes_on=_goes_on(settings)) as evaluation:
            if plan.complaints and settings.target_by == "feedback":
                _feedback_judge(settings, plan, old)  # before the models are asked: it may be too poor to judge
            answers = _answers(old, plan, settings), _answers(new, plan, settings)
            result = _decide(settings, plan, (old, new), answers, truth)
            seconds = round(time.monotonic() - started, 1)
            result = result.model_copy(update={"seconds": seconds, "policy_hash": policy_hash})
            evaluation.decided = result.verdict != "undecided"  # a verdict ends it, also with a few requests unanswered
            _keep(result, settings)
            return result
    finally:
        os.close(lock)


def _policy_hash(settings: GateSettings) -> str | None:
    """Before anything is asked: the run may train another policy while its present one is measured."""
    return load_run(Path(settings.new)).policy_hash if layout.is_run(Path(settings.new)) else None


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
    answers = {
        name: side.answers([item.request for item in batch.items], batch.max_new_tokens)
        for name, batch in plan.batches.items()
    }
    if plan.complaints:
        answers[TARGET] = side.answers([c.request for c in plan.complaints], settings.max_new_tokens)
    side.release()
    return answers


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
    look, looks = _look(settings, plan, (old.identity, new.identity))
    guards = _guards(settings, plan, sides, answers, look, tests)
    target = _target(settings, plan, old, answers, truth, (look, tests)) if plan.complaints else None
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
        measured=looks,
    )


Looks = tuple[dict[str, str], ...]
"""What each look measured (`GatePlan.measured`); empty where it is not known."""


def _look(settings: GateSettings, plan: GatePlan, ids: tuple[str, str]) -> tuple[int, Looks]:
    """The number of this look at these two models, and what each look measured.

    Whatever is measured for the first time is another chance of a wrong verdict: more or other items, another judge.
    What an earlier look measured, or a part of it, is that look once more.
    """
    parts, before = plan.measured(settings), _before(settings)
    if before is None or (before.against_id, before.new_id) != ids:
        return settings.look, (*[{}] * (settings.look - 1), parts)
    looks = *[{}] * (before.look - len(before.measured)), *before.measured
    number = _number_of(parts, looks)
    return (number, looks) if number else (len(looks) + 1, (*looks, parts))


def _before(settings: GateSettings) -> GateResult | None:
    path = settings.out / layout.GATE
    return read_gate(path) if path.is_file() else None


def _number_of(parts: dict[str, str], looks: Looks) -> int | None:
    """The first look that measured all of it."""
    return next((number for number, look in enumerate(looks, 1) if parts.items() <= look.items()), None)


def _goes_on(settings: GateSettings) -> bool:
    """Whether this goes on with an undecided gate of the same models, and is not a new gate of what the same servers
    serve now. Also with the same items: to ask for their answers anew would be another chance of a wrong verdict."""
    before = _before(settings)
    if before is None or before.verdict != "undecided":
        return False
    return (before.against, before.new) == (settings.against, settings.new)


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
            result = _inspected(name, settings, sides, margin, look, tests)
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


def _inspected(
    name: str, settings: GateSettings, sides: tuple[AskedModel, AskedModel], margin: float, look: int, tests: int
) -> GuardResult | None:
    folder, key_env = name.replace("/", "-"), settings.side_pricing.api_key_env
    scores = [sample_scores(name, side.source, side.folder / folder, settings.items, key_env) for side in sides]
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
    side: AskedModel,
    answers: tuple[Mapping[str, Answers], Mapping[str, Answers]],
    truth: Truth | None,
    look_and_tests: tuple[int, int],
) -> GuardResult:
    """`side`: OLD, from which the feedback reward starts."""
    old, new = (of_side[TARGET] for of_side in answers)
    if settings.target_by == "oracle":
        assert truth is not None, "plan_gate refuses an oracle without a truth"
        outcomes, skipped = true_outcomes(plan.complaints, old, new, truth)
    else:
        judge = plan.judge or _feedback_judge(settings, plan, side)
        outcomes, skipped = judged_outcomes(plan.complaints, old, new, judge)
    return target_result(settings.target_by, outcomes, skipped, (old, new), *look_and_tests)


def _feedback_judge(settings: GateSettings, plan: GatePlan, old: AskedModel) -> PairJudge:
    """Kept in the gate's folder. Raises DataError, with the gate's own ways out, if the store's labels cannot judge."""
    assert plan.store is not None, "plan_gate refuses the feedback reward without a store"
    folder = settings.out / f"feedback-reward-{stable_hash(old.identity, plan.store.label_hash())[:8]}"
    old.release()  # the reward loads the weights for itself
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
        earlier=_earlier(policy),
    )  # fmt: skip
    result = run_gate(settings, None, False, lambda line: None)
    assert result is not None, "no dry run"
    atomic_write(out, (work / layout.GATE).read_bytes())
    counts = {verdict: sum(guard.verdict == verdict for guard in result.guards) for verdict in ("pass", "fail")}
    others = {name: sum(guard.verdict == name for guard in result.guards) for name in ("undecided", "blind")}
    return {**counts, **others, "left_out": len(without)}


def _earlier(policy: Path) -> Path | None:
    """What the generations before the policy's run were trained on: their folders may be gone by now."""
    run = run_of(str(policy))
    return run / layout.EARLIER if run and (run / layout.EARLIER).is_file() else None


def gate_failed(gate: Path, iteration: int) -> bool:
    """Whether a guard failed; if so, a note says which, and by how much."""
    result = read_gate(gate)
    if result.verdict != "fail":
        return False
    failed = [line for line in result.why if line.endswith(": fail")]
    report_note(f"stopped after iteration {iteration} by the gate: {'; '.join(failed)}. It is not kept.")
    return True
