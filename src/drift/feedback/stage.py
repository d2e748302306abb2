"""`drift label` by the config's labeller: embedded, judge, or cascade (the embedded one everywhere, the judge where it
matters). One command, one budget; what was answered is cached beside the labels, so the same command goes on."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drift.config import EndpointSettings, LabelSettings
from drift.endpoint import ANSWERS, Cache, CostLimitReached, Endpoint, Spending, probe
from drift.errors import ConfigError
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.estimate import CascadeEstimate, Slice, cascade_estimate
from drift.feedback.judge.judge import JudgeLabeller, Turns
from drift.feedback.judge.prompt import chat_request, prompt_version
from drift.feedback.judge.rubric import load_rubric
from drift.feedback.judge.window import windows
from drift.feedback.label import (
    LabelSummary,
    check_writable,
    counted,
    label_store,
    mark_unsafe_complaint,
    rating_labels,
    summarise,
)
from drift.records import Conversation, FeedbackLabel, stable_hash
from drift.store import Store

BYTES_PER_TOKEN = 4.0
TOKENS_PER_VERDICT = 70
AUDIT_BUCKETS = 1_000_000


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """`unanswered`: turns without a label, by the server's problem; the same command asks for them again.

    `stopped`: why the judge did not come to the end, if it did not.
    """

    server: str
    spending: Spending
    turns: int
    repairs: int
    abstained: dict[str, int] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedSummary(LabelSummary):
    """`cascade`: what the judge's look at the band and at the audit slice says of all turns."""

    judge: JudgeSummary | None = None
    cascade: CascadeEstimate | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the judge would be asked. Tokens and cost are estimates from the texts' sizes, `most_cost` is a bound.

    Answers that are in the cache already cost nothing.
    """

    turns: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    most_cost: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Turns for the judge, by slice. `rest`: how many of the others there are, audited ones included."""

    band: Turns
    audit: Turns
    rest: int

    def turns(self) -> Turns:
        return {name: self.band.get(name, set()) | self.audit.get(name, set()) for name in {*self.band, *self.audit}}


def label_by(store: Store, settings: LabelSettings, out: Path | None = None) -> LabelSummary:
    """Label everything in the store in the way that the settings say. Raises as `label_store` and the endpoint do."""
    if settings.labeller == "embedded":
        return label_store(store, out)
    if out is not None:
        check_writable("--out", out)
    store.require_conversations()
    total, job = store.size(), _job(store, settings)
    with closing(Cache(store.path / ANSWERS)) as cache:
        if cache.finished_job() == job:  # so that a run resumes when the judge's server is long gone
            return summarise(store, total, 0, out)
        cache.finish_job(None)
        done = _label_with_judge(store, settings, total, out)
        if done.judge and not done.judge.stopped and not done.judge.unanswered:
            cache.finish_job(_job(store, settings))
        return done


def _label_with_judge(store: Store, settings: LabelSettings, total: int, out: Path | None) -> "JudgedSummary":
    with _judge(store, settings) as (judge, endpoint, server):  # a server that is missing is told before any work
        selection = None
        if settings.labeller == "cascade":
            label_store(store)
            selection = select(store, settings)
            judge = judge.only(selection.turns())
        run = _Run(judge)
        added = store.add_labels(run.labels(counted(store.conversations(), total)))
        told, tally = summarise(store, total, added, out), judge.tally
        summary = JudgeSummary(
            server, endpoint.spending, tally.turns, tally.repairs, dict(tally.abstained), dict(tally.unanswered),
            run.stopped,
        )  # fmt: skip
    estimate = run.estimate(selection) if selection else None
    return JudgedSummary(told.conversations, told.added, told.labels, told.rows, summary, estimate)


def _job(store: Store, settings: LabelSettings) -> str:
    """Names the work: what is labelled, by which model, rubric and way, whatever the server's address and prices."""
    rubric = load_rubric(Path(settings.rubric) if settings.rubric else None)
    way = (settings.labeller, settings.judge_by, settings.judge_from, settings.experimental.audit_share)
    embedded = EmbeddedLabeller().version if settings.labeller == "cascade" else None
    return stable_hash(store.content_hash(), prompt_version(rubric), _endpoint_of(settings).model, embedded, way)


def plan(store: Store, settings: LabelSettings) -> Plan:
    """Count the judge's calls without making one. In a cascade the embedded labeller runs first: it is free."""
    store.require_conversations()
    endpoint = _endpoint_of(settings)
    only: Turns | None = None
    if settings.labeller == "cascade":
        label_store(store)
        only = select(store, settings).turns()
    rubric = load_rubric(Path(settings.rubric) if settings.rubric else None)
    turns = calls = given = most_given = most_made = 0
    for conversation in store.conversations():
        for window in windows(conversation, None if only is None else only.get(conversation.conversation_id, set())):
            request = chat_request(window, rubric, able=None)
            bound_in, bound_out = request.most_tokens()
            turns, calls = turns + len(window.turns), calls + 1
            most_given, most_made = most_given + bound_in, most_made + bound_out
            given += sum(len(message.content.encode()) for message in request.messages)
    tokens_in, tokens_out = round(given / BYTES_PER_TOKEN), TOKENS_PER_VERDICT * turns
    return Plan(
        turns, calls, tokens_in, tokens_out,
        cost=_cost(endpoint, tokens_in, tokens_out), most_cost=_cost(endpoint, most_given, most_made),
    )  # fmt: skip


def select(store: Store, settings: LabelSettings) -> Selection:
    """The uncertain and the likely-DSAT band, what the embedded labeller cannot read, and a random slice of the rest.

    Whether a turn is audited depends on its place alone, so the same command selects the same turns.
    """
    band: Turns = {}
    audit: Turns = {}
    rest = 0
    for told in store.labels_by("embedded"):
        if told.user_index is None or told.abstain_reason == "empty":
            continue
        if told.p_dsat is None or told.p_dsat >= settings.judge_from:
            band.setdefault(told.conversation_id, set()).add(told.user_index)
            continue
        rest += 1
        draw = int(stable_hash("audit", told.conversation_id, told.user_index), 16) % AUDIT_BUCKETS
        if draw < settings.experimental.audit_share * AUDIT_BUCKETS:
            audit.setdefault(told.conversation_id, set()).add(told.user_index)
    return Selection(band, audit, rest)


class _Run:
    """The judge's labels as they come, until the money is spent."""

    def __init__(self, judge: JudgeLabeller) -> None:
        self.stopped: str | None = None
        self._judge = judge
        self._verdicts: dict[tuple[str, int], str] = {}
        self._rated: dict[str, Conversation] = {}
        self._of_rated: dict[tuple[str, int], FeedbackLabel] = {}

    def labels(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]:
        try:
            for conversation, told in self._judge.verdicts(self._noted(conversations)):
                if told.user_index is not None:
                    self._verdicts[told.conversation_id, told.user_index] = told.label
                if told.conversation_id in self._rated:
                    self._of_rated[told.conversation_id, told.reply_index] = told
                yield mark_unsafe_complaint(conversation, told)
        except CostLimitReached as limit:
            self.stopped = str(limit)
        for conversation in self._rated.values():
            yield from rating_labels(conversation, self._of_rated)

    def estimate(self, selection: Selection) -> CascadeEstimate:
        band, audit = (self._judged(turns) for turns in (selection.band, selection.audit))
        return cascade_estimate(
            Slice(sum(map(len, selection.band.values())), *band),
            Slice(selection.rest, *audit),
        )

    def _judged(self, turns: Turns) -> tuple[int, int]:
        told = [self._verdicts.get((name, turn)) for name, places in turns.items() for turn in places]
        judged = [label for label in told if label not in (None, "ABSTAIN")]
        return len(judged), judged.count("DSAT")

    def _noted(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """Rated conversations are kept at hand until the end."""
        for conversation in conversations:
            if conversation.ratings:
                self._rated[conversation.conversation_id] = conversation
            yield conversation


@contextmanager
def _judge(store: Store, settings: LabelSettings) -> Iterator[tuple[JudgeLabeller, Endpoint, str]]:
    rubric = load_rubric(Path(settings.rubric) if settings.rubric else None)
    with Endpoint(_endpoint_of(settings), store.path / ANSWERS) as endpoint:
        able = probe(endpoint)
        if settings.judge_by == "decisions" and not able.decisions:
            raise ConfigError(f"{endpoint.url}: has no decision endpoint (it {able.line()}). Leave out judge_by.")
        yield JudgeLabeller(endpoint, able, rubric, settings.judge_by), endpoint, able.line()


def _endpoint_of(settings: LabelSettings) -> EndpointSettings:
    if settings.endpoint is None:
        raise ConfigError("The judge needs a server: set labels.endpoint (drift label: --endpoint URL --model NAME).")
    return settings.endpoint


def _cost(settings: EndpointSettings, tokens_in: int, tokens_out: int) -> float | None:
    if settings.price_per_million_input is None or settings.price_per_million_output is None:
        return None
    cost = (tokens_in * settings.price_per_million_input + tokens_out * settings.price_per_million_output) / 1e6
    return round(cost, 6)
