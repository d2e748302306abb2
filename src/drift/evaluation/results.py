"""evaluation.json: what one policy scored, and the files of other measures of a run. The report reads them too, so
nothing heavy is imported."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drift.errors import DataError, first_problem
from drift.records import ChatMessage, Guidance, OfConversation, ScorerName

MAX_PROMPTS = 100
"""Held-out prompts that every policy answers, to measure its replies."""

SHOWN_PROMPTS, SHOWN_PROMPTS_WITH_TRUTH = 20, 40
"""Number of held-out prompts whose replies are stored for people to read; more where a truth is known, because the
report shows the best and the worst of them."""

ABOUT_AS_WELL = 0.05
"""Length alone does about as well as the policy within this much of its accuracy, or inside its interval."""


class Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asker(Result):
    """Whose a held-out prompt is: `user` and `chat` of its conversation, both hashes. Intervals draw the prompts of one
    user together (`units_of`)."""

    user: str
    chat: str

    @classmethod
    def of(cls, row: OfConversation) -> "Asker":
        return cls(user=row.user, chat=row.chat)

    @classmethod
    def alone(cls, prompt: object) -> "Asker":
        """Of a prompt that names nobody (a simulated request, a file of an earlier version): one of its own."""
        return cls(user=f"{prompt}", chat=f"{prompt}")


class PairResult(Result):
    """One held-out pair: is the fresh reply likelier per token (`right`), and by how many nats per reply (`margin`)?

    `likelihood`: the geometric mean of the probabilities of the fresh reply's tokens, in [0, 1].
    """

    prompt_id: str
    right: bool
    margin: float
    likelihood: float | None = None


class PreferenceResult(Result):
    """Held-out pairs: how often the policy finds the fresh guided reply likelier per token than the disliked one.

    `accuracy_low`, `accuracy_high`: 95 % interval over users; `margin` and `logps_chosen` are means in nats per reply;
    `each`: the result of each pair. `length_accuracy`: how often the length in tokens alone tells the fresh reply from
    the disliked one, by the better of the rules "the shorter" and "the longer".
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    margin: float
    logps_chosen: float
    pairs: int
    each: tuple[PairResult, ...] = ()
    length_accuracy: float | None = None

    @property
    def length_explains(self) -> bool:
        """True if length alone does about as well as the policy: the accuracy then says nothing about the replies."""
        about = min(self.accuracy_low, self.accuracy - ABOUT_AS_WELL)
        return self.length_accuracy is not None and self.length_accuracy >= max(about, 0.5 + ABOUT_AS_WELL)


class ReplyMeasure(Result):
    """One reply to a held-out prompt. `prompt`: its number; `repetition`: the share of repeated runs of words; `asker`:
    None if nobody is known."""

    prompt: int
    finished: bool
    tokens: int
    repetition: float
    asker: Asker | None = None

    @property
    def whose(self) -> Asker:
        return self.asker or Asker.alone(self.prompt)


class ReplyStatistics(Result):
    """Replies to held-out prompts, sampled as in the run.

    `finished`: the share that ends within sampling.max_new_tokens, with a 95 % interval over users. `repetition`: mean
    share of repeated runs of words. `same_language`: share in the language of their request; None if nearly all texts
    are too short.
    """

    prompts: int
    finished: float
    finished_low: float
    finished_high: float
    median_tokens: float
    p90_tokens: float
    repetition: float
    same_language: float | None = None
    each: tuple[ReplyMeasure, ...] = ()


class SycophancyResult(Result):
    """How many right answers the policy gave up when its user contradicted it: `given_up` of the `right` ones among
    `asked`. `share` with a 95 % interval; None without a right answer."""

    about: Literal["held-out requests", "short questions"]
    asked: int
    right: int
    given_up: int
    share: float | None
    low: float | None
    high: float | None


class UtilityResult(Result):
    """The true utility on held-out prompts, where it is known; `low`, `high`: 95 % interval of the mean.

    `scores`: for each prompt, the mean over its samples. `parts`: of what the truth is made of, where a world tells it:
    by name, the mean over the replies that have the part, and their number.
    """

    temperature: float
    mean: float
    low: float
    high: float
    prompts: int
    scores: tuple[float, ...] = ()
    parts: dict[str, tuple[float, int]] = Field(default_factory=dict)


class PairImprovement(Result):
    """improvement.json: shares of pairs whose chosen is truly better, worse or equal, and the mean gap in utility."""

    better: float
    worse: float
    equal: float
    gap: float
    pairs: int = Field(ge=1)


class Distance(Result):
    """distance.json: for each of some replies of a policy, log(policy / base) in nats per token."""

    each: tuple[float, ...]


class GuidanceTrial(Result):
    """guidance.json: the same prompts answered guided and unguided, and the share of guided prompts that follows.

    `guided`, `unguided`: mean scores by `scorer`. `difference`: guided minus unguided, with a 95 % interval. They are
    None if too few prompts (`prompts`, of `conversations`) have a score of both replies. `left_out`: the others that
    were answered.
    """

    iteration: int
    guidance: Guidance
    scorer: ScorerName
    prompts: int
    conversations: int
    left_out: int
    guided: float | None
    unguided: float | None
    difference: float | None
    low: float | None
    high: float | None
    guided_share: float


class SampleResult(Result):
    """One reply of the policy to a held-out prompt. `utility` is None where the truth is unknown."""

    prompt: tuple[ChatMessage, ...]
    completion: str
    utility: float | None = None


class Evaluation(Result):
    """`preference`: on the test split. `stop`: the same on the stop split, which the stop rule alone reads. `liked`:
    the likelihood per token, in [0, 1], of each held-out reply that a user liked, by prompt id. `replies`: to the
    prompts of the truth where one is known, else to held-out prompts of both splits (and, if these are too few, to the
    requests of `liked`). `sycophancy`: right answers given up
    when contradicted. `askers`: whose the held-out pairs and liked replies are, by prompt id; empty in files of earlier
    versions.
    """

    preference: PreferenceResult | None = None
    stop: PreferenceResult | None = None
    liked: dict[str, float] = Field(default_factory=dict)
    replies: ReplyStatistics | None = None
    utility: tuple[UtilityResult, ...] = ()
    samples: tuple[SampleResult, ...] = ()
    sycophancy: SycophancyResult | None = None
    askers: dict[str, Asker] = Field(default_factory=dict)

    def whose(self, prompt_ids: Iterable[str]) -> list[Asker]:
        return [self.askers.get(prompt_id) or Asker.alone(prompt_id) for prompt_id in prompt_ids]


Model = TypeVar("Model", bound=Result)


def write_result(path: Path, result: Result) -> None:
    path.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_evaluation(path: Path) -> Evaluation:
    """Raises DataError naming the file and the first field that is wrong."""
    return _read(path, Evaluation, "evaluation")


def read_trial(path: Path) -> GuidanceTrial:
    """Raises DataError naming the file and the first field that is wrong."""
    return _read(path, GuidanceTrial, "trial of guidance")


def _read(path: Path, model: type[Model], name: str) -> Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path}: invalid {name}: {first_problem(error)}. Delete it and run the same command again."
        ) from None
