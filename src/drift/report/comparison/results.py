"""results.json of `drift compare`: what each arm gained, with intervals."""

from pathlib import Path

from pydantic import Field, ValidationError

from drift.errors import DataError, first_problem
from drift.evaluation.results import Result

RESULTS = "results.json"

Three = tuple[float, float, float]
"""Mean, low, high of a 95 % interval."""


class ArmResult(Result):
    """`utility`: at the hottest temperature that is measured, per iteration; `at`: at every temperature, the warm start
    first.

    `final_by_run`: `utility` after the last iteration, by run: its spread is that of the seeds.
    `p_imp`, `worse`: shares of pairs whose chosen is truly better or worse, per iteration, mean over runs; empty for an
    arm without pairs.
    `pairs`, `updates`: per iteration, of the first run. `stops_at`: the iteration that the stop rule would have kept,
    per run: `heldout_liked` in the instructions world, else `heldout_logps`. `regret`: how much better the best
    iteration is than the kept one, mean and largest over runs.
    `warm_start_over_base`, `over_base`: utility of the warm start, and after the last iteration, minus the base
    policy's, at every temperature. `coverage`: per iteration, the share of prompts with a fresh reply that is truly
    better than the disliked one: the ceiling of any ranking. The cost of a run, means over runs:
    `sampled_tokens` of fresh replies; `forwards`, replies read by the policy or a model that scores, without and with a
    gradient.
    The base's, then after the last iteration: `parts`, what the truth is made of, by name, at the coolest temperature;
    `finished`, `median_tokens`, `repetition`, of held-out replies. `distance`: how much likelier the last policy finds
    its own held-out replies than the base does, nats per token, with an interval over replies. Of kinds of requests
    that no user in the logs makes: `other_kinds_over_base` and `other_kinds`, as `over_base` and `parts`.
    """

    learning_rate: float
    utility: tuple[Three, ...]
    warm_start: Three
    gain: Three
    at: dict[str, tuple[Three, ...]]
    gains: dict[str, Three]
    final_by_run: tuple[float, ...]
    p_imp: tuple[float, ...]
    worse: tuple[float, ...]
    pairs: tuple[int, ...]
    updates: tuple[int, ...]
    regret: tuple[float, float] | None
    stops_at: tuple[int, ...]
    warm_start_over_base: dict[str, Three] = Field(default_factory=dict)
    over_base: dict[str, Three] = Field(default_factory=dict)
    parts: dict[str, tuple[float, float]] = Field(default_factory=dict)
    coverage: tuple[float, ...] = ()
    sampled_tokens: float = 0.0
    forwards: tuple[float, float] | None = None
    finished: tuple[float, float] | None = None
    median_tokens: tuple[float, float] | None = None
    repetition: tuple[float, float] | None = None
    distance: Three | None = None
    other_kinds_over_base: dict[str, Three] = Field(default_factory=dict)
    other_kinds: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Difference(Result):
    """The first arm minus the second after the last iteration, at each temperature."""

    first: str
    second: str
    at: dict[str, Three]


class ComparisonResults(Result):
    """`runs`: base and seed of the cells of each arm. `noise`: standard error over the prompts of one run's
    utility at its warm start."""

    name: str
    world: tuple[str, ...]
    runs: tuple[str, ...]
    prompts: int
    noise: float
    arms: dict[str, ArmResult]
    differences: tuple[Difference, ...]
    seconds: float


def read_comparison(folder: Path) -> ComparisonResults:
    """Raises DataError if there is no results.json, or naming its first invalid field."""
    path = folder / RESULTS
    try:
        return ComparisonResults.model_validate_json(path.read_bytes())
    except OSError:
        raise DataError(
            f"{folder}: not a finished comparison, {RESULTS} is missing. Run `drift compare` again."
        ) from None
    except ValidationError as error:
        raise DataError(f"{path}: invalid comparison: {first_problem(error)}. Run `drift compare` again.") from None
