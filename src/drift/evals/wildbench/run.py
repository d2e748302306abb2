"""`drift eval wildbench MODEL`: replies to the 1,024 tasks, each scored by a judge."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drift.config import EndpointSettings, SamplingSettings
from drift.endpoint import why_unreadable
from drift.endpoint.cost import CostEstimate, total_estimate
from drift.endpoint.options import UNPRICED, JudgePricing
from drift.errors import ConfigError, DataError
from drift.evals.files import Template, locate_dataset, read_rows
from drift.evals.replies import EvalRequest, Replies, ReplySettings, make_replies, ungraded_reasons
from drift.evals.served import one_evaluation
from drift.evals.wildbench.judge import (
    MAX_TOKENS,
    OFFICIAL_JUDGE,
    TEMPERATURE,
    ask_score,
    read_score,
)
from drift.evals.wildbench.reward import MARGIN, ModelCounts, count, reward
from drift.evals.wildbench.summarise import UNKNOWN_JUDGE, WildBenchSummary, summarise_scores
from drift.evals.wildbench.tasks import TagRow
from drift.evals.wildbench.versus import PROMPT, Versus, ask_better, judged_pair, read_choice
from drift.records import ChatMessage, Judgement, stable_hash, write_jsonl
from drift.scoring.ask import JUDGEMENTS, JudgeQuestion, ask_all, estimate, judge_name, require_within

REPOSITORY, FILE = "allenai/WildBench", "v2/test-00000-of-00001.parquet"


class WildBenchTask(TagRow):
    conversation_input: tuple[ChatMessage, ...]
    checklist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WildRun:
    """`data`: the tasks (None: from the hub). `against`: the reference models of WB-Reward; `margin`: its K.
    `pricing`: of models that a server answers for."""

    model: str
    judge: EndpointSettings
    template: Template
    sampling: SamplingSettings
    folder: Path
    data: Path | None = None
    dtype: str = "float32"
    against: tuple[str, ...] = ()
    margin: int = MARGIN
    pricing: JudgePricing = UNPRICED


@dataclass(frozen=True, slots=True)
class RewardQuestions:
    """The judge's questions about one reference model. `without_reply`: how many are not asked, because one of the two
    models has no reply."""

    versus: Versus
    questions: tuple[JudgeQuestion, ...]
    judge_id: str
    without_reply: int

    @classmethod
    def of(cls, versus: Versus, tasks: Sequence[WildBenchTask], judge: EndpointSettings) -> "RewardQuestions":
        questions = tuple(
            question
            for task in tasks
            if (texts := versus.texts(task.keys[0])) is not None
            for question in ask_better(task.keys[0], task.conversation_input, task.checklist, texts)
        )
        without_reply = 2 * len(tasks) - len(questions)  # both orders of each task
        return cls(versus, questions, judge_name(judge, PROMPT, (TEMPERATURE, MAX_TOKENS)), without_reply)


@dataclass(frozen=True, slots=True)
class Contest:
    """The verdicts against one reference model, and what has none, by reason."""

    reference: str
    counts: ModelCounts
    unscored_reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class WildRunSummary:
    """`result`: None in a dry run. `scores`: the file, in the public format. `unscored_reasons`: of the scores; those
    of WB-Reward begin with the name of the reference model."""

    estimate: CostEstimate
    scores: str
    result: WildBenchSummary | None
    unscored_reasons: Mapping[str, int] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON: the figures of the result at the top level; in a dry run only the estimate."""
        return {
            **(self.result.plain() if self.result else {}),
            "estimate": asdict(self.estimate),
            "scores": self.scores,
            "unscored_reasons": dict(self.unscored_reasons),
        }


def run_wildbench(run: WildRun, dry_run: bool, tell: Callable[[str], None]) -> WildRunSummary:
    """Resumes from `run.folder`. Raises PrerequisiteError, DataError, ConfigError, CostLimitReached."""
    with nullcontext() if dry_run else one_evaluation(run.folder, (run.model, *run.against)):
        data = locate_dataset(run.data, REPOSITORY, FILE)
        tasks = read_rows(data, WildBenchTask)
        requests = [EvalRequest(task.keys[0], task.conversation_input) for task in tasks]
        settings = ReplySettings(run.sampling, run.folder, run.dtype, pricing=run.pricing)
        replies = make_replies(run.model, requests, settings, dry_run)
        references = [make_replies(reference, requests, settings, dry_run) for reference in run.against]
        _require_distinct(run.against, references)
        judge_id = judge_name(run.judge, run.template.text, (TEMPERATURE, MAX_TOKENS))
        questions = [
            ask_score(task.keys[0], task.conversation_input, task.checklist, text, run.template)
            for task in tasks
            if (text := replies.text(task.keys[0])) is not None
        ]
        contests = [RewardQuestions.of(Versus(reference, replies), tasks, run.judge) for reference in references]
        for contest in contests:
            if not contest.questions:
                name = contest.versus.reference.name
                raise DataError(f"--against {name}: no task has a reply of both models. Name other replies.")
        sets = [(questions, judge_id), *((contest.questions, contest.judge_id) for contest in contests)]
        cost = total_estimate([estimate(asked, judge, run.judge, run.folder / JUDGEMENTS) for asked, judge in sets])
        tell(cost.line())
        scores = run.folder / "scores.jsonl"
        if dry_run:
            return WildRunSummary(cost, str(scores), None)
        require_within(cost, run.judge)
        judged = ask_all(questions, judge_id, run.judge, run.folder, read_score)
        _write_scores(scores, tasks, replies, judged)
        summary = _with_judge(run, summarise_scores([scores], data, []))
        reasons = ungraded_reasons(judged, len(tasks) - len(questions))
        if contests:
            decided = [_judge_contest(run, contest) for contest in contests]
            summary = _rewarded(summary, decided)
            reasons |= {
                f"against {contest.reference}: {reason}": count
                for contest in decided
                for reason, count in contest.unscored_reasons.items()
            }
        return WildRunSummary(cost, str(scores), summary, reasons)


def _require_distinct(sources: Sequence[str], references: Sequence[Replies]) -> None:
    """WB-Reward is counted by the name of the reference, so two of one name would be counted as one."""
    by_name: dict[str, str] = {}
    for source, replies in zip(sources, references, strict=True):
        if (other := by_name.get(replies.name)) is not None:
            raise ConfigError(
                f"--against {other}, --against {source}: both are replies of {replies.name!r}. Name each reference "
                "model once; in a file of replies, `generator` is the name."
            )
        by_name[replies.name] = source


def _judge_contest(run: WildRun, questions: RewardQuestions) -> Contest:
    """Writes the judgements with a verdict in the public format. Raises DataError if there is none, which is no tie."""
    versus, name = questions.versus, questions.versus.reference.name
    judged = ask_all(questions.questions, questions.judge_id, run.judge, run.folder, read_choice)
    rows = [row for judgement in judged if (row := judged_pair(judgement, versus)) is not None]
    reasons = ungraded_reasons(judged, questions.without_reply)
    if not rows:
        raise DataError(
            f"--against {name}: {run.judge.model} compared no reply with it: {why_unreadable(reasons)}. Run the "
            "command again when the server answers (what was judged is kept), or leave this --against out. The scores "
            f"of the replies are in {run.folder / 'scores.jsonl'}: drift eval wildbench --scores FILE."
        )
    write_jsonl(run.folder / f"pairwise-{stable_hash(name)}.jsonl", (row.model_dump() for row in rows))
    return Contest(name, count(rows, versus.model.name, run.margin), reasons)


def _rewarded(summary: WildBenchSummary, contests: Sequence[Contest]) -> WildBenchSummary:
    """Add WB-Reward: the mean over the references."""
    counts = {contest.reference: contest.counts for contest in contests}
    ((name, result),) = summary.results.items()
    wb_reward = reward(counts)
    difference = f"WB-Reward: against {', '.join(counts)}, asked in both orders in this project's own words"
    rewarded = replace(result, reward=wb_reward.reward, not_comparable=(*result.not_comparable, difference))
    return WildBenchSummary({name: rewarded}, {name: wb_reward})


def _write_scores(path: Path, tasks: Sequence[WildBenchTask], replies: Replies, judged: Sequence[Judgement]) -> None:
    """A task without a reply, or with an unreadable judgement, has no score."""
    by_item = {judgement.item_id: judgement for judgement in judged}
    write_jsonl(path, (
        {
            "session_id": task.keys[0],
            "model": replies.name,
            "score": by_item[task.keys[0]].score if task.keys[0] in by_item else None,
            "model_output": replies.text(task.keys[0]),
            "judge": by_item[task.keys[0]].judge_id if task.keys[0] in by_item else None,
        }
        for task in tasks
    ))  # fmt: skip


def _with_judge(run: WildRun, summary: WildBenchSummary) -> WildBenchSummary:
    """Name the judge and the prompt if they are not the benchmark's own; unlike for a file, both are known."""
    reasons = (
        (run.judge.model != OFFICIAL_JUDGE, f"the judge is {run.judge.model}, not {OFFICIAL_JUDGE}"),
        (not run.template.official, "the judge's prompt is this project's own"),
    )
    differences = tuple(reason for holds, reason in reasons if holds)
    results = {
        name: replace(result, not_comparable=(*differences, *(r for r in result.not_comparable if r != UNKNOWN_JUDGE)))
        for name, result in summary.results.items()
    }
    return WildBenchSummary(results, summary.rewards)
