"""Questions to a judge behind an endpoint: what they would cost, and the answers, each on disk once it is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drift.config import EndpointSettings
from drift.disk import DurableJsonl
from drift.endpoint import ANSWERS, ChatRequest, Endpoint, Reply, Unanswered
from drift.errors import ConfigError
from drift.progress import report_progress
from drift.records import Judgement, stable_hash

UNANSWERED = "no answer"
JUDGEMENTS = "judgements.jsonl"
BYTES_PER_TOKEN = 4
"""A rule of thumb for English text; the client's own limit counts the worst case."""


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    item_id: str
    order: Literal["ab", "ba", "single"]
    request: ChatRequest


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer says; neither number: `unscored_reason`."""

    preference: float | None = None
    score: float | None = None
    unscored_reason: str | None = None


Reader = Callable[[JudgeQuestion, Reply], Grade]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`input_tokens`: about; `output_tokens`: at most. `cost`: None without prices."""

    questions: int
    answered: int
    input_tokens: int
    output_tokens: int
    cost: float | None

    def line(self) -> str:
        money = "no prices given" if self.cost is None else f"about {self.cost:.2f}"
        return (
            f"{self.questions - self.answered} questions to ask, {self.answered} answered before; about "
            f"{self.input_tokens} tokens in, at most {self.output_tokens} out; {money}"
        )


def judge_name(settings: EndpointSettings, prompt: str, parameters: object) -> str:
    """Names the judge in every judgement: the model, its prompt and how it is sampled."""
    return f"{settings.model}/{stable_hash(prompt, parameters)[:8]}"


def estimate(questions: Sequence[JudgeQuestion], judge_id: str, settings: EndpointSettings, path: Path) -> Estimate:
    """What asking the questions that are still open would take."""
    known = _known(path) if path.exists() else {}
    open_ones = [q.request for q in questions if question_id(q, judge_id) not in known]
    given = sum(request.most_tokens()[0] // BYTES_PER_TOKEN for request in open_ones)
    written = sum(request.most_tokens()[1] for request in open_ones)
    prices = (settings.price_per_million_input, settings.price_per_million_output)
    cost = None if None in prices else (given * (prices[0] or 0.0) + written * (prices[1] or 0.0)) / 1e6
    return Estimate(len(questions), len(questions) - len(open_ones), given, written, cost)


def total_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """What several sets of questions would take."""
    costs = [found.cost for found in estimates]
    return Estimate(
        questions=sum(found.questions for found in estimates),
        answered=sum(found.answered for found in estimates),
        input_tokens=sum(found.input_tokens for found in estimates),
        output_tokens=sum(found.output_tokens for found in estimates),
        cost=None if None in costs else sum(cost or 0.0 for cost in costs),
    )


def require_within(found: Estimate, settings: EndpointSettings) -> None:
    """Raises ConfigError before the first call if the estimate is over the limit."""
    if settings.max_cost is not None and found.cost is not None and found.cost > settings.max_cost:
        raise ConfigError(f"--max-cost {settings.max_cost:g}: {found.line()}. Raise it, or judge fewer prompts.")


def ask_judge(
    questions: Sequence[JudgeQuestion], judge_id: str, endpoint: Endpoint, path: Path, read: Reader
) -> list[Judgement]:
    """One judgement per question, in order. Those in `path` are taken from there; a question that was never answered
    (the server's fault, not the judge's) is asked again.

    Raises CostLimitReached and PrerequisiteError; what was answered before is kept in `path`.
    """
    known = _known(path) if path.exists() else {}
    open_ones = [question for question in questions if question_id(question, judge_id) not in known]
    with DurableJsonl(path, Judgement) as kept:
        outcomes = endpoint.ask_many(question.request for question in open_ones)
        for number, (question, outcome) in enumerate(zip(open_ones, outcomes, strict=True), 1):
            judgement = _judgement(question, judge_id, outcome, read)
            kept.append(judgement)
            known[judgement.question_id] = judgement
            report_progress(number, len(open_ones))
    return [known[question_id(question, judge_id)] for question in questions]


def ask_all(
    questions: Sequence[JudgeQuestion], judge_id: str, settings: EndpointSettings, folder: Path, read: Reader
) -> list[Judgement]:
    """As `ask_judge`, with the judgements and the server's answers in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with Endpoint(settings, cache=folder / ANSWERS) as endpoint:
        return ask_judge(questions, judge_id, endpoint, folder / JUDGEMENTS, read)


def question_id(question: JudgeQuestion, judge_id: str) -> str:
    """Changes with the judge, its prompt, the replies and the order; not with what a server tells beside its answer."""
    return stable_hash(judge_id, question.item_id, question.order, question.request.messages)


def _known(path: Path) -> dict[str, Judgement]:
    """Answered questions; where the server failed, the question is still open."""
    with DurableJsonl(path, Judgement) as kept:
        rows = kept.rows()
    return {row.question_id: row for row in rows if not (row.unscored_reason or "").startswith(UNANSWERED)}


def _judgement(question: JudgeQuestion, judge_id: str, outcome: Reply | Unanswered, read: Reader) -> Judgement:
    answered = isinstance(outcome, Reply)
    grade = read(question, outcome) if answered else Grade(unscored_reason=f"{UNANSWERED}: {outcome.problem}")
    return Judgement(
        item_id=question.item_id,
        judge_id=judge_id,
        order=question.order,
        question_id=question_id(question, judge_id),
        preference=grade.preference,
        score=grade.score,
        unscored_reason=grade.unscored_reason,
        raw=outcome.text if answered else outcome.detail,
        input_tokens=outcome.usage.input_tokens if answered else 0,
        output_tokens=outcome.usage.output_tokens if answered else 0,
    )


def one_of(existing: str, files: object, model: str | None, judge: str | None) -> bool:
    """Are existing files to be measured, and not a model? Raises ConfigError unless it is exactly one of the two."""
    if bool(files) == (model is not None) or (model is not None and judge is None):
        raise ConfigError(f"give either {existing}, or a MODEL and --judge URL#NAME to have it judged.")
    return bool(files)
