"""`drift label`: which labeller runs over the store, and which turns the judge sees.

embedded   the embedded labeller labels every turn
judge      a model behind a server labels every turn
cascade    the embedded labeller labels every turn; then the judge labels those that may be dissatisfied (the band) and
           a random sample of the others (the audit), which estimates what the band misses

The judge's answers are cached beside the labels: after an interruption the same command continues.
"""

from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from drift.config import LabelSettings
from drift.endpoint import ANSWERS, Cache
from drift.endpoint.cost import BYTES_PER_TOKEN, CostEstimate, cost_of
from drift.errors import DataError
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.estimate import CascadeEstimate, Slice, cascade_estimate
from drift.feedback.judge.judge import Turns
from drift.feedback.judge.prompt import chat_request, prompt_version
from drift.feedback.judge.run import JudgeRun, JudgeSummary, judge_endpoint, judge_rubric, open_judge
from drift.feedback.judge.window import windows
from drift.feedback.label import LabelSummary, check_writable, counted, label_store, summarise
from drift.records import stable_hash
from drift.store import Store

TOKENS_PER_VERDICT = 70
"""Output tokens of the judge per turn, for the estimate."""
AUDIT_BUCKETS = 1_000_000


@dataclass(frozen=True, slots=True)
class JudgedSummary(LabelSummary):
    """`cascade`: what the judge's labels of the band and of the audit say about all turns."""

    judge: JudgeSummary | None = None
    cascade: CascadeEstimate | None = None


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What the judge would be asked. `most_cost`: the upper bound. Answers in the cache cost nothing, but count here.

    `turns`: user turns to be judged; one question of the estimate asks for the turns of one window.
    """

    turns: int
    estimate: CostEstimate
    most_cost: float | None

    def plain(self) -> dict[str, Any]:
        """For the console and JSON."""
        return {
            "turns": self.turns,
            "calls": self.estimate.questions,
            "input_tokens": self.estimate.input_tokens,
            "output_tokens": self.estimate.output_tokens,
            "cost": self.estimate.cost,
            "most_cost": self.most_cost,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """The turns that the judge of a cascade sees. `rest`: how many turns are outside the band, the audit included."""

    band: Turns
    audit: Turns
    rest: int

    def turns(self) -> Turns:
        return {name: self.band.get(name, set()) | self.audit.get(name, set()) for name in {*self.band, *self.audit}}


def label_by(store: Store, settings: LabelSettings, out: Path | None = None) -> LabelSummary:
    """Label every turn in the store as the settings say. `out` gets one JSONL row per judged turn.

    Raises what `label_store` and the endpoint raise.
    """
    if settings.labeller == "embedded":
        return label_store(store, out, embedded_labeller(settings))
    if out is not None:
        check_writable("--out", out)
    store.require_conversations()
    total, job = store.size(), _job_name(store, settings)
    with closing(Cache(store.path / ANSWERS)) as cache:
        # A finished job needs no server: a run resumes when the judge's server is long gone.
        if cache.finished_job() == job:
            return summarise(store, total, 0, out)
        cache.finish_job(None)
        summary = _label_with_judge(store, settings, total, out)
        if summary.judge and summary.judge.is_complete:
            cache.finish_job(job)
        return summary


def labeller_of(store: Store) -> EmbeddedLabeller:
    """The embedded labeller as the store's labels have it: what is labelled with it in addition can be compared.

    The default one if the store has none of its labels. Raises DataError if they are of several versions, or of one
    that no setting gives today.
    """
    versions = {label.labeller_version for label in store.labels_by("embedded")}
    for phrases, multilingual in ((False, False), (False, True), (True, False), (True, True)):
        labeller = EmbeddedLabeller(phrases=phrases, multilingual=multilingual)
        if versions <= {labeller.version}:
            return labeller
    raise DataError(
        f"{store.path}: its labels are of another version of the embedded labeller than today's, or of several, so new "
        f"ones could not be compared with them. Label all alike: drift label --store {store.path} (with --languages "
        "and --approval as before)."
    )


def embedded_labeller(settings: LabelSettings) -> EmbeddedLabeller:
    return EmbeddedLabeller(phrases=settings.approval == "phrases", multilingual=settings.languages == "all")


def _label_with_judge(store: Store, settings: LabelSettings, total: int, out: Path | None) -> JudgedSummary:
    with open_judge(settings, store.path) as run:  # first of all: a missing server must fail before any work
        selection = None
        if settings.labeller == "cascade":
            label_store(store, labeller=embedded_labeller(settings))
            selection = select(store, settings)
        only = None if selection is None else selection.turns()
        added = store.add_labels(run.labels(counted(store.conversations(), total), only))
        summary = summarise(store, total, added, out)
        judge = run.summary()
    cascade = None if selection is None else _estimate(run, selection)
    by_name = {field.name: getattr(summary, field.name) for field in fields(LabelSummary)}
    return JudgedSummary(**by_name, judge=judge, cascade=cascade)


def _job_name(store: Store, settings: LabelSettings) -> str:
    """Names what is labelled, by which model and rubric and in which way; not the server's address and prices."""
    options = (settings.labeller, settings.judge_by, settings.judge_from, settings.experimental.audit_share)
    embedded = embedded_labeller(settings).version if settings.labeller == "cascade" else None
    prompt, endpoint = prompt_version(judge_rubric(settings)), judge_endpoint(settings)
    room = () if endpoint.max_tokens is None else (endpoint.max_tokens,)
    return stable_hash(store.content_hash(), prompt, endpoint.model, embedded, options, *room)


def select(store: Store, settings: LabelSettings) -> Selection:
    """The band: turns with p_dsat of at least `judge_from`, and those that the embedded labeller cannot read.

    The audit: a random sample of the other turns. It is drawn by hash, so the same command selects the same turns.
    """
    band: Turns = {}
    audit: Turns = {}
    rest = 0
    for label in store.labels_by("embedded"):
        if label.user_index is None or label.abstain_reason == "empty":
            continue
        if label.p_dsat is None or label.p_dsat >= settings.judge_from:
            band.setdefault(label.conversation_id, set()).add(label.user_index)
            continue
        rest += 1
        draw = int(stable_hash("audit", label.conversation_id, label.user_index), 16) % AUDIT_BUCKETS
        if draw < settings.experimental.audit_share * AUDIT_BUCKETS:
            audit.setdefault(label.conversation_id, set()).add(label.user_index)
    return Selection(band, audit, rest)


def _estimate(run: JudgeRun, selection: Selection) -> CascadeEstimate:
    band = Slice(sum(map(len, selection.band.values())), *run.judged(selection.band))
    rest = Slice(selection.rest, *run.judged(selection.audit))
    return cascade_estimate(band, rest)


def plan(store: Store, settings: LabelSettings) -> LabelPlan:
    """Count the judge's calls without making one. In a cascade the embedded labeller runs first: it is free."""
    store.require_conversations()
    endpoint, rubric = judge_endpoint(settings), judge_rubric(settings)
    only: Turns | None = None
    if settings.labeller == "cascade":
        label_store(store, labeller=embedded_labeller(settings))
        only = select(store, settings).turns()
    turns = calls = prompt_bytes = most_input_tokens = most_output_tokens = 0
    for conversation in store.conversations():
        for window in windows(conversation, None if only is None else only.get(conversation.conversation_id, set())):
            request = chat_request(window, rubric, able=None).with_room(endpoint.max_tokens)
            most_input, most_output = request.most_tokens()
            turns, calls = turns + len(window.turns), calls + 1
            most_input_tokens, most_output_tokens = most_input_tokens + most_input, most_output_tokens + most_output
            prompt_bytes += sum(len(message.content.encode()) for message in request.messages)
    input_tokens, output_tokens = round(prompt_bytes / BYTES_PER_TOKEN), TOKENS_PER_VERDICT * turns
    cost = cost_of(endpoint, input_tokens, output_tokens)
    most_cost = cost_of(endpoint, most_input_tokens, most_output_tokens)
    return LabelPlan(
        turns=turns,
        estimate=CostEstimate(calls, 0, input_tokens, output_tokens, None if cost is None else round(cost, 6)),
        most_cost=None if most_cost is None else round(most_cost, 6),
    )
