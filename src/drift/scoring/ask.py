"""Questions to a judge behind an endpoint: their cost before they are asked, and every judgement kept on disk.

A question becomes a request; the judge's answer becomes a Grade (by the `read` function of its prompt); a Grade becomes
a Judgement in `judgements.jsonl`. A question whose judgement is there is never asked again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drift.config import EndpointSettings
from drift.disk import DurableJsonl
from drift.endpoint import ANSWERS, ChatRequest, Endpoint, Reply, Unanswered, remedy, why_unreadable
from drift.endpoint.cost import BYTES_PER_TOKEN, CostEstimate, cost_of
from drift.errors import ConfigError, DataError
from drift.progress import report_note, report_progress
from drift.records import Judgement, stable_hash
from drift.rundir.layout import JUDGEMENTS

UNREADABLE = "unreadable"
"""How it begins when the answer holds no verdict; the reason follows (endpoint/message.py)."""
UNANSWERED = "no answer"
"""How the `unscored_reason` begins when the server, not the judge, is at fault."""


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """`order`: "ab" shows the replies as they are given, "ba" swaps them; "single" shows one reply."""

    item_id: str
    order: Literal["ab", "ba", "single"]
    request: ChatRequest


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer says: a preference or a score, or the reason why it has neither."""

    preference: float | None = None
    score: float | None = None
    unscored_reason: str | None = None


Reader = Callable[[JudgeQuestion, Reply], Grade]


def judge_name(settings: EndpointSettings, prompt: str, parameters: object) -> str:
    """The judge's name in every judgement: the model, and a hash of its prompt and of how it is sampled."""
    return f"{settings.model}/{stable_hash(prompt, parameters)[:8]}"


def estimate(questions: Sequence[JudgeQuestion], judge_id: str, settings: EndpointSettings, path: Path) -> CostEstimate:
    """What it takes to ask the questions that `path` holds no answer for. `output_tokens` is an upper bound."""
    answered = _answered(path) if path.exists() else {}
    open_questions = [question for question in questions if question_id(question, judge_id) not in answered]
    open_requests = [question.request.with_room(settings.max_tokens) for question in open_questions]
    input_tokens = sum(request.most_tokens()[0] // BYTES_PER_TOKEN for request in open_requests)
    output_tokens = sum(request.most_tokens()[1] for request in open_requests)
    return CostEstimate(
        questions=len(questions),
        answered=len(questions) - len(open_requests),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost=cost_of(settings, input_tokens, output_tokens),
    )


def require_within(estimate: CostEstimate, settings: EndpointSettings) -> None:
    """Raises ConfigError before the first call if the estimate is over the limit."""
    if settings.max_cost is not None and estimate.cost is not None and estimate.cost > settings.max_cost:
        raise ConfigError(
            f"--max-cost {settings.max_cost:g} is too low: {estimate.line()}. Raise it, or judge fewer prompts."
        )


def ask_judge(
    questions: Sequence[JudgeQuestion], judge_id: str, endpoint: Endpoint, path: Path, read: Reader
) -> list[Judgement]:
    """One judgement per question, in order. Judgements in `path` are reused; a question whose request failed is asked
    again.

    Raises CostLimitReached and PrerequisiteError; the answers before it stay in `path`.
    """
    judgements = _answered(path) if path.exists() else {}
    open_questions = [question for question in questions if question_id(question, judge_id) not in judgements]
    with DurableJsonl(path, Judgement) as file:
        outcomes = endpoint.ask_many(question.request for question in open_questions)
        for number, (question, outcome) in enumerate(zip(open_questions, outcomes, strict=True), 1):
            judgement = _judgement(question, judge_id, outcome, read)
            file.append(judgement)
            judgements[judgement.question_id] = judgement
            report_progress(number, len(open_questions))
    judged = [judgements[question_id(question, judge_id)] for question in questions]
    _check_readable(judged, questions, endpoint)
    return judged


def unscored_reasons(judgements: Iterable[Judgement]) -> dict[str, int]:
    """How many judgements have no verdict, by reason."""
    return dict(Counter(judgement.unscored_reason for judgement in judgements if judgement.unscored_reason))


def unreadable(reply: Reply) -> Grade:
    """The grade of an answer that holds no verdict, with the reason."""
    return Grade(unscored_reason=f"{UNREADABLE}: {reply.choices[0].unreadable}")


def _check_readable(judged: Sequence[Judgement], questions: Sequence[JudgeQuestion], endpoint: Endpoint) -> None:
    """Say how many answers were unreadable, and why. Raises DataError if all were: there is nothing to measure by."""
    prefix = f"{UNREADABLE}: "
    reasons = {
        reason.removeprefix(prefix): count
        for reason, count in unscored_reasons(judged).items()
        if not reason.startswith(UNANSWERED)
    }
    count = sum(reasons.values())
    if not count:
        return
    if count < len(judged):
        report_note(f"{endpoint.model}: {count} of {len(judged)} judgements are unreadable: {why_unreadable(reasons)}")
        return
    limit = questions[0].request.with_room(endpoint.settings.max_tokens).max_tokens
    setting = "endpoint.max_tokens (of recipe.scorer; on the command line --judge-max-tokens)"
    raise DataError(
        f"{endpoint.url}: all {count} judgements of {endpoint.model} are unreadable: {why_unreadable(reasons)}. "
        f"{remedy(reasons, setting, limit)}"
    )


def ask_all(
    questions: Sequence[JudgeQuestion], judge_id: str, settings: EndpointSettings, folder: Path, read: Reader
) -> list[Judgement]:
    """As `ask_judge`, with the judgements and the server's answers in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with Endpoint(settings, cache=folder / ANSWERS) as endpoint:
        return ask_judge(questions, judge_id, endpoint, folder / JUDGEMENTS, read)


def question_id(question: JudgeQuestion, judge_id: str) -> str:
    """Changes with the judge, its prompt, the replies and the order, but not with `top_logprobs`."""
    return stable_hash(judge_id, question.item_id, question.order, question.request.messages)


def _answered(path: Path) -> dict[str, Judgement]:
    """Judgements by question, without those whose request failed or whose answer was unreadable.

    An unreadable answer is in the cache: it costs nothing if nothing has changed, and is asked anew with other limits.
    """
    with DurableJsonl(path, Judgement) as file:
        rows = file.rows()
    return {row.question_id: row for row in rows if row.unscored_reason is None}


def _judgement(question: JudgeQuestion, judge_id: str, outcome: Reply | Unanswered, read: Reader) -> Judgement:
    is_answered = isinstance(outcome, Reply)
    grade = read(question, outcome) if is_answered else Grade(unscored_reason=f"{UNANSWERED}: {outcome.problem}")
    return Judgement(
        item_id=question.item_id,
        judge_id=judge_id,
        order=question.order,
        question_id=question_id(question, judge_id),
        preference=grade.preference,
        score=grade.score,
        unscored_reason=grade.unscored_reason,
        raw=outcome.text if is_answered else outcome.detail,
        input_tokens=outcome.usage.input_tokens if is_answered else 0,
        output_tokens=outcome.usage.output_tokens if is_answered else 0,
    )
