"""p_imp is measured where somebody judged, and called assumed where nobody did."""

from collections.abc import Callable
from pathlib import Path

from drift.records import PreferencePair, read_jsonl, write_jsonl
from drift.report.measures import FEWEST, assumptions, kinds
from drift.rundir import load_run
from drift.store import ReviewedPreference, Store

MakeRun = Callable[..., Path]


def test_people_come_before_a_scorer_and_the_truth_before_both(make_run: MakeRun):
    run = make_run(config="name: test\nstore: STORE\n")
    (assumed,) = assumptions(load_run(run))
    assert (assumed.source, assumed.p_imp) == ("assumed", None)

    pairs = list(read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair))
    margins = [2.0, -1.0, 0.0]
    write_jsonl(
        run / "iteration-1/pairs.jsonl",
        [
            {**_plain(pair), "margin": m, "margin_source": "reward_model"}
            for pair, m in zip(pairs, margins, strict=True)
        ],
    )
    (scored,) = assumptions(load_run(run))
    assert (scored.source, scored.p_imp, scored.worse, scored.pairs) == ("scorer reward_model", 1 / 3, 1 / 3, 3)

    store = Store(run.parent / "store")
    store.add([])
    (run / "config.yaml").write_text(f"name: test\nstore: {store.path}\n")
    for pair, winner in zip(pairs, ("chosen", "chosen", None), strict=True):
        store.reviews.add(ReviewedPreference("ann", run.name, pair.pair_id, winner))
    (people,) = assumptions(load_run(run))
    assert (people.source, people.p_imp, people.pairs) == ("people, blind", 1.0, 2)

    (run / "iteration-1/improvement.json").write_text(
        '{"better": 0.8, "worse": 0.1, "equal": 0.1, "gap": 0.3, "pairs": 50}'
    )
    (true,) = assumptions(load_run(run))
    assert (true.source, true.p_imp, true.worse) == ("the world's truth", 0.8, 0.1)


def test_too_few_held_out_complaints_give_no_interval(make_run: MakeRun):
    right = {f"p{n}": True for n in range(FEWEST)}
    wrong = dict.fromkeys(right, False)
    (kind,) = kinds(load_run(make_run()), (("unnamed", 9),), wrong, right)
    assert (kind.held_out, kind.before, kind.after) == (FEWEST, 0.0, 1.0)
    assert kind.gain is not None
    (few,) = kinds(load_run(make_run(name="b")), (("unnamed", 9),), {"p0": False}, right)
    assert (few.held_out, few.gain) == (1, None)


def _plain(pair: PreferencePair) -> dict:
    return {name: getattr(pair, name) for name in pair.__dataclass_fields__}
