"""Do the intervals of `drift live` hold under continuous peeking, and at what size is a difference found?

    python benchmarks/live_coverage.py --json

Each scenario simulates A/B runs of 20,000 judged replies over 20 days. Every conversation goes to one of two models:
by a coin ("power"), else the share of the new one grows from 20 % to 80 %. Users come back; one in five complains six
times as easily as the others, and the new model suits some users more than others. Days are better and worse. A
labeller with known error rates labels every reply, and an audit of randomly drawn turns measures how it errs. The
functions of `drift live` look at the run every 20 replies up to 1,000 and every 100 after that. A run is covered if the
true difference is in every interval, and a difference is found at the first look whose interval excludes zero.

`coverage`: of the difference, in the worst scenario; `rate_coverage`: of the rate of both models together. `power`: the
share of runs of the scenario "power" in which a difference of 20 % (relative) is found within 20,000 replies.
`scenarios` has the rest: the mean of the last estimate minus the truth with its standard error, in points, and the
replies within which 50, 80 and 95 % of the runs found the difference.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift.feedback.estimate import Diagnosis
from drift.live.correction import LabellerErrors, errors_by_truth, true_difference, true_rate
from drift.live.sequence import Observed, difference, rate

DAYS, LOOKS_UP_TO, DENSE, SPARSE = 20, 1_000, 20, 100


@dataclass(frozen=True)
class Scenario:
    """`rate`: of dissatisfied users with the old model; `change`: of the new one, relative. `audited`: turns of the
    audit; 0: a labeller without errors that nobody audits. `grows`: the share of the new model does."""

    rate: float
    change: float
    sensitivity: float = 1.0
    specificity: float = 1.0
    audited: int = 0
    users: int = 2_000
    grows: bool = True


EMBEDDED = {"sensitivity": 0.65, "specificity": 0.97, "audited": 400}
"""About as the embedded labeller does in the sandbox."""
SCENARIOS = {
    "power": Scenario(0.15, -0.2, grows=False),
    "power with a labeller": Scenario(0.15, -0.2, **EMBEDDED, grows=False),
    "a quarter of the labels wrong": Scenario(0.15, -0.2, 0.75, 0.75, 400),
    "no difference": Scenario(0.15, 0.0, **EMBEDDED),
    "few complaints": Scenario(0.05, 0.2, **EMBEDDED),
    "few users": Scenario(0.15, 0.2, users=100),
}


@dataclass(frozen=True)
class Run:
    """`truth`: was the user dissatisfied with the reply; `later`: is it of the new model."""

    truth: NDArray[np.bool_]
    labels: NDArray[np.float64]
    later: NDArray[np.bool_]
    day: NDArray[np.int64]
    user: NDArray[np.int64]
    conversation: NDArray[np.int64]
    expected: NDArray[np.float64]
    """The chance of a complaint of any user, on that day, about that model."""


def simulate(scenario: Scenario, replies: int, rng: np.random.Generator) -> Run:
    """All effects are added to the rate within [0, 1], so the true difference is change * rate on every day."""
    conversation = np.cumsum(rng.random(replies) < 0.5, dtype=np.int64)  # two replies on average
    chats = int(conversation[-1]) + 1
    day = (np.arange(chats) * DAYS // chats)[conversation]
    user = rng.integers(0, scenario.users, chats)[conversation]
    share = 0.2 + 0.6 * np.arange(chats) / chats if scenario.grows else 0.5
    later = (rng.random(chats) < share)[conversation]
    temper = np.where(rng.random(scenario.users) < 0.2, 3.0, 0.5)[user]
    weather = rng.uniform(0.8, 1.2, DAYS)[day]
    suits = rng.uniform(-0.2, 0.2, scenario.users)[user]
    chance = scenario.rate * (temper * weather + later * (scenario.change + suits))
    truth = rng.random(replies) < chance
    called = np.where(truth, scenario.sensitivity, 1 - scenario.specificity)
    expected = scenario.rate * (weather + later * scenario.change)
    return Run(truth, (rng.random(replies) < called).astype(float), later, day, user, conversation, expected)


def audit(run: Run, scenario: Scenario, rng: np.random.Generator) -> LabellerErrors | None:
    if not scenario.audited:
        return None
    drawn = rng.choice(len(run.truth), scenario.audited, replace=False)
    truth, called = run.truth[drawn], run.labels[drawn] > 0
    return errors_by_truth(
        Diagnosis(int(truth.sum()), int((truth & called).sum()), int((~truth).sum()), int((~truth & ~called).sum()))
    )


@dataclass
class Watched:
    """Was the truth in every interval; at which reply the difference was found; the last estimate minus the truth."""

    covered: bool = True
    rate_covered: bool = True
    found: int | None = None
    shift: float = 0.0


def watch(scenario: Scenario, replies: int, rng: np.random.Generator) -> Watched:
    run = simulate(scenario, replies, rng)
    errors, gap = audit(run, scenario, rng), scenario.rate * scenario.change
    expected = np.cumsum(run.expected) / np.arange(1, replies + 1)
    watched = Watched()
    for end in (*range(DENSE, min(LOOKS_UP_TO, replies), DENSE), *range(LOOKS_UP_TO, replies + 1, SPARSE)):
        observed = Observed(run.labels[:end], run.user[:end], run.conversation[:end])
        true = true_rate(rate(observed), errors)
        watched.rate_covered &= bool(true.low <= expected[end - 1] <= true.high)
        seen = difference(observed, run.later[:end], run.day[:end])
        if seen is None:
            continue
        true = true_difference(seen, errors)
        watched.covered &= true.low <= gap <= true.high
        if watched.found is None and not true.low <= 0 <= true.high:
            watched.found = end
        watched.shift = true.value - gap
    return watched


def measure(scenario: Scenario, runs: int, replies: int, seed: int) -> dict[str, Any]:
    results = [watch(scenario, replies, np.random.default_rng([seed, run])) for run in range(runs)]
    found = sorted(result.found for result in results if result.found is not None)
    shifts = [100 * result.shift for result in results]
    return {
        "coverage": sum(result.covered for result in results) / runs,
        "rate_coverage": sum(result.rate_covered for result in results) / runs,
        "found": len(found) / runs,
        "replies_to_find": {f"{share}%": _at(found, share, runs) for share in (50, 80, 95)},
        "shift_points": round(float(np.mean(shifts)), 3),
        "shift_error": round(float(np.std(shifts) / runs**0.5), 3),
    }


def _at(found: list[int], share: int, runs: int) -> int | None:
    """The replies within which this share of all runs found the difference."""
    place = -(-share * runs // 100) - 1
    return found[place] if place < len(found) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--replies", type=int, default=20_000)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--rate", type=float, help="of dissatisfied users, instead of the scenario's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    started, results = time.monotonic(), {}
    for name in arguments.scenario or SCENARIOS:
        scenario = SCENARIOS[name] if arguments.rate is None else replace(SCENARIOS[name], rate=arguments.rate)
        results[name] = measure(scenario, arguments.runs, arguments.replies, arguments.seed)
        print(f"{time.monotonic() - started:7.1f} s  {name}: {results[name]}", file=sys.stderr, flush=True)
    total = {
        "coverage": min(result["coverage"] for result in results.values()),
        "rate_coverage": min(result["rate_coverage"] for result in results.values()),
        "power": results["power"]["found"] if "power" in results else None,
        "runs": arguments.runs,
        "replies": arguments.replies,
        "seed": arguments.seed,
        "scenarios": results,
    }
    print(json.dumps(total) if arguments.json else json.dumps(total, indent=1))


if __name__ == "__main__":
    main()
