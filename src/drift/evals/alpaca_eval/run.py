"""`drift eval alpaca-eval MODEL`: replies to the 805 instructions, judged against those of the baseline."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from drift.config import EndpointSettings, SamplingSettings
from drift.endpoint.cost import CostEstimate
from drift.endpoint.options import UNPRICED, JudgePricing
from drift.errors import DataError
from drift.evals.alpaca_eval.judge import (
    CANDIDATES,
    MAX_TOKENS,
    OFFICIAL_JUDGE,
    TEMPERATURE,
    ask_which,
    read_token,
)
from drift.evals.alpaca_eval.metrics import OFFICIAL_ANNOTATOR, AlpacaEvalResult, summarise_annotations
from drift.evals.files import PublicRow, Template, locate_dataset, read_rows
from drift.evals.replies import EvalRequest, Replies, ReplySettings, make_replies, ungraded_reasons
from drift.evals.served import one_evaluation
from drift.records import ChatMessage, Judgement, stable_hash
from drift.rundir import atomic_write
from drift.scoring.ask import JUDGEMENTS, ask_all, estimate, judge_name, require_within

REPOSITORY, FILE = "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"


class Instruction(PublicRow):
    """An instruction with the baseline's reply."""

    instruction: str
    output: str
    generator: str
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class AlpacaRun:
    """`data`: the baseline's replies (None: from the hub). `reference`: files of the length-controlled win rate.
    `pricing`: of the model, if a server answers for it."""

    model: str
    judge: EndpointSettings
    template: Template
    sampling: SamplingSettings
    folder: Path
    data: Path | None = None
    reference: Path | None = None
    dtype: str = "float32"
    pricing: JudgePricing = UNPRICED


@dataclass(frozen=True, slots=True)
class AlpacaRunSummary:
    """`result`: None in a dry run. `annotations`: the file, in the public format."""

    estimate: CostEstimate
    annotations: str
    result: AlpacaEvalResult | None
    unscored_reasons: Mapping[str, int] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON: the figures of the result at the top level; in a dry run only the estimate."""
        return {
            **(asdict(self.result) if self.result else {}),
            "estimate": asdict(self.estimate),
            "file": self.annotations,
            "unscored_reasons": dict(self.unscored_reasons),
        }


def run_alpaca_eval(run: AlpacaRun, dry_run: bool, tell: Callable[[str], None]) -> AlpacaRunSummary:
    """Resumes from `run.folder`. Raises PrerequisiteError, DataError, ConfigError, CostLimitReached."""
    with nullcontext() if dry_run else one_evaluation(run.folder, (run.model,)):
        rows = read_rows(locate_dataset(run.data, REPOSITORY, FILE), Instruction)
        requests = [EvalRequest(_id(row), (ChatMessage("user", row.instruction),), row.output) for row in rows]
        settings = ReplySettings(run.sampling, run.folder, run.dtype, pricing=run.pricing)
        replies = make_replies(run.model, requests, settings, dry_run)
        judge_id = judge_name(run.judge, run.template.text, (TEMPERATURE, CANDIDATES, MAX_TOKENS))
        questions = [
            ask_which(_id(row), row.instruction, row.output, text, run.template)
            for row in rows
            if (text := replies.text(_id(row))) is not None and text != row.output
        ]
        cost = estimate(questions, judge_id, run.judge, run.folder / JUDGEMENTS)
        tell(cost.line())
        annotations = run.folder / "annotations.json"
        if dry_run:
            return AlpacaRunSummary(cost, str(annotations), None)
        require_within(cost, run.judge)
        judged = ask_all(questions, judge_id, run.judge, run.folder, read_token)
        official = run.template.official and run.judge.model == OFFICIAL_JUDGE
        _write_annotations(annotations, rows, replies, judged, OFFICIAL_ANNOTATOR if official else judge_id)
        (result,) = summarise_annotations(annotations, run.reference).results
        own = () if run.template.official else ("the judge's prompt is this project's own",)
        marked = replace(result, not_comparable=(*own, *result.not_comparable))
        without_reply = sum(replies.text(request.item_id) is None for request in requests)
        return AlpacaRunSummary(cost, str(annotations), marked, ungraded_reasons(judged, without_reply))


def _write_annotations(
    path: Path, rows: Sequence[Instruction], replies: Replies, judged: Sequence[Judgement], annotator: str
) -> None:
    """One row per instruction: an unscored one has no preference (and without a reply no output), identical replies
    have 1.5."""
    baselines = {row.generator for row in rows}
    if len(baselines) != 1:
        raise DataError(
            f"the file of baseline replies holds {len(baselines)} generators ({', '.join(sorted(baselines))}), not one."
        )
    by_item = {judgement.item_id: judgement for judgement in judged}

    def preference(row: Instruction) -> float | None:
        if replies.text(_id(row)) == row.output:
            return 1.5
        judgement = by_item.get(_id(row))
        return None if judgement is None or judgement.preference is None else 1 + judgement.preference

    annotated = [
        {
            "index": index,
            "instruction": row.instruction,
            "dataset": row.dataset,
            "generator_1": row.generator,
            "output_1": row.output,
            "generator_2": replies.name,
            "output_2": replies.text(_id(row)),
            "preference": preference(row),
            "annotator": annotator,
        }
        for index, row in enumerate(rows)
    ]
    atomic_write(path, orjson.dumps(annotated, option=orjson.OPT_INDENT_2))


def _id(row: Instruction) -> str:
    return stable_hash(row.instruction)
