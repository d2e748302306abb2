"""`drift eval wildbench MODEL`: replies to the 1,024 tasks, each scored by a judge."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drift.config import EndpointSettings, SamplingSettings
from drift.endpoint import Endpoint
from drift.evaluation.judging.ask import Estimate, ask_judge, estimate, judge_name, require_within
from drift.evaluation.judging.data_file import bring
from drift.evaluation.replies.sources import Replies, Request, assumed_replies, make_replies
from drift.evaluation.rows import read_rows
from drift.evaluation.wildbench.judge import (
    MAX_TOKENS,
    OFFICIAL_JUDGE,
    TEMPERATURE,
    Template,
    ask_score,
    read_score,
)
from drift.evaluation.wildbench.summarise import WildBenchSummary, summarise_scores
from drift.evaluation.wildbench.tasks import TagRow
from drift.records import ChatMessage, Judgement, write_jsonl

REPOSITORY, FILE = "allenai/WildBench", "v2/test-00000-of-00001.parquet"
CALLED_UNNAMED = "the file does not say which judge and prompt made the scores"


class Task(TagRow):
    conversation_input: tuple[ChatMessage, ...]
    checklist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WildRun:
    """`data`: the tasks; None takes them from the hub."""

    model: str
    judge: EndpointSettings
    template: Template
    sampling: SamplingSettings
    folder: Path
    data: Path | None = None
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class WildRunSummary:
    """`result`: None in a dry run. `scores`: the file in the public shape."""

    estimate: Estimate
    scores: str
    result: WildBenchSummary | None

    def plain(self) -> dict[str, Any]:
        """For JSON: the result's figures at the top; in a dry run the estimate alone."""
        return {
            **(self.result.plain() if self.result else {}),
            "estimate": asdict(self.estimate),
            "scores": self.scores,
        }


def run_wildbench(run: WildRun, dry_run: bool, tell: Callable[[str], None]) -> WildRunSummary:
    """Resumes from `run.folder`. Raises PrerequisiteError, DataError, ConfigError, CostLimitReached."""
    data = bring(run.data, REPOSITORY, FILE)
    tasks = read_rows(data, Task)
    requests = [Request(task.keys[0], task.conversation_input) for task in tasks]
    replies = (
        assumed_replies(run.model, requests, run.sampling, run.folder)
        if dry_run
        else make_replies(run.model, requests, run.sampling, run.folder, run.dtype, 0)
    )
    judge_id = judge_name(run.judge, run.template.text, (TEMPERATURE, MAX_TOKENS))
    questions = [
        ask_score(task.keys[0], task.conversation_input, task.checklist, text, run.template)
        for task in tasks
        if (text := replies.text(task.keys[0])) is not None
    ]
    judgements = run.folder / "judgements.jsonl"
    found = estimate(questions, judge_id, run.judge, judgements)
    tell(found.line())
    scores = run.folder / "scores.jsonl"
    if dry_run:
        return WildRunSummary(found, str(scores), None)
    require_within(found, run.judge)
    run.folder.mkdir(parents=True, exist_ok=True)
    with Endpoint(run.judge, cache=run.folder / "answers.sqlite") as endpoint:
        judged = ask_judge(questions, judge_id, endpoint, judgements, read_score)
    _write_scores(scores, tasks, replies, judged)
    return WildRunSummary(found, str(scores), _told(run, summarise_scores([scores], data, [])))


def _write_scores(path: Path, tasks: Sequence[Task], replies: Replies, judged: Sequence[Judgement]) -> None:
    """A task without a reply, or with an answer that could not be read, has no score."""
    known = {judgement.item_id: judgement for judgement in judged}
    write_jsonl(path, (
        {
            "session_id": task.keys[0],
            "model": replies.name,
            "score": known[task.keys[0]].score if task.keys[0] in known else None,
            "model_output": replies.text(task.keys[0]),
            "judge": known[task.keys[0]].judge_id if task.keys[0] in known else None,
        }
        for task in tasks
    ))  # fmt: skip


def _told(run: WildRun, summary: WildBenchSummary) -> WildBenchSummary:
    """Here judge and prompt are known, and named where they are not the benchmark's own."""
    reasons = (
        (run.judge.model != OFFICIAL_JUDGE, f"the judge is {run.judge.model}, not {OFFICIAL_JUDGE}"),
        (not run.template.official, "the judge's prompt is this project's own"),
    )
    own = tuple(reason for holds, reason in reasons if holds)
    results = {
        name: replace(result, not_comparable=(*own, *(r for r in result.not_comparable if r != CALLED_UNNAMED)))
        for name, result in summary.results.items()
    }
    return WildBenchSummary(results, summary.rewards)
