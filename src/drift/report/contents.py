"""The contents of the report, read only from a run folder. What the run does not have yet is None or empty."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drift.evals.exploration.results import ExplorationSummary, read_exploration
from drift.evaluation.results import (
    Evaluation,
    GuidanceTrial,
    ReplyStatistics,
    SycophancyResult,
    UtilityResult,
    read_evaluation,
    read_trial,
)
from drift.gate.results import GateResult, read_gate
from drift.live.results import Readout, read_result
from drift.progress import report_note
from drift.records import ChatMessage, FeedbackLabel, PreferencePair, PromptItem, read_jsonl
from drift.report.examples import Group, choose
from drift.report.files import Funnel, LabelQuality, TrainingStep, read_json
from drift.report.measures import FEWEST, Assumption, ComplaintKind, assumptions, gamed, kinds
from drift.rundir import RunView, layout, load_run
from drift.rundir.chain import Link, ancestors, link_of, parent_folder
from drift.store import Forgotten, store_of
from drift.turns import as_text

EXAMPLES = 10
SHOWN_STEPS = 8

Measurement = TypeVar("Measurement", GateResult, ExplorationSummary)

ReplyPlace = tuple[str, int]
"""A judged reply: conversation_id, reply_index."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many replies one labeller gave each label."""

    labeller: str
    sat: int
    dsat: int
    neutral: int
    abstain: int


@dataclass(frozen=True, slots=True)
class Labels:
    """`evidence`: the labels of the examples that the report shows."""

    counts: tuple[LabelCounts, ...]
    subtypes: tuple[tuple[str, int], ...]
    evidence: dict[ReplyPlace, FeedbackLabel]


@dataclass(frozen=True, slots=True)
class Disliked:
    item: PromptItem
    label: FeedbackLabel | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Median characters of chosen and rejected replies over `pairs` pairs."""

    pairs: int
    chosen: float
    rejected: float


@dataclass(frozen=True, slots=True)
class Phase:
    """One policy of the run: the base, the warm start, or that of an iteration.

    `lemma`: both sides of Lemma 1 before the first step and after the last; empty without training.diagnostics.
    """

    name: str
    evaluation: Evaluation
    steps: tuple[TrainingStep, ...]
    lengths: Lengths | None
    lemma: tuple[TrainingStep, ...] = ()

    @property
    def shown_steps(self) -> tuple[TrainingStep, ...]:
        """At most SHOWN_STEPS of the logged steps, evenly spaced, including the first and the last."""
        last = len(self.steps) - 1
        places = {round(place * last / (SHOWN_STEPS - 1)) for place in range(SHOWN_STEPS)} if self.steps else set()
        return tuple(self.steps[place] for place in sorted(places))

    def utility(self, temperature: float) -> UtilityResult | None:
        return next((result for result in self.evaluation.utility if result.temperature == temperature), None)


@dataclass(frozen=True, slots=True)
class Contents:
    """`guidance`: what each iteration of `guided_share: auto` measured before it sampled; `live`: the latest readout of
    `drift live` on the run's store."""

    run: RunView
    model: Path | None
    funnel: Funnel | None
    labels: Labels | None
    quality: LabelQuality | None
    disliked: tuple[Disliked, ...]
    phases: tuple[Phase, ...]
    assumptions: tuple[Assumption, ...]
    guidance: tuple[GuidanceTrial, ...] = ()
    exploration: ExplorationSummary | None = None
    live: Readout | None = None
    gate: GateResult | None = None
    generation_0: Phase | None = None
    """In a chain: the model that its first run started from, on the same held-out prompts as the phases."""
    liked_start: Phase | None = None
    """The training on liked replies (warm_start.on), which comes before the repairs and is not evaluated by itself."""
    forgotten_prompts: frozenset[tuple[ChatMessage, ...]] = frozenset()
    """Held-out requests of conversations that were forgotten since: they are not shown."""

    @property
    def trainings(self) -> tuple[Phase, ...]:
        """The phases in which something was trained, in their order."""
        liked = [self.liked_start] if self.liked_start else []
        return tuple(phase for phase in (*self.phases[:1], *liked, *self.phases[1:]) if phase.steps or phase.lengths)

    @property
    def kinds(self) -> tuple[ComplaintKind, ...]:
        """The kinds of complaint, with preference accuracy before and after on held-out complaints of each kind."""
        if self.labels is None:
            return ()
        ends = self.ends([phase for phase in self.phases if phase.evaluation.preference])
        before, after = (phase.evaluation for phase in ends) if ends else (Evaluation(), Evaluation())
        return kinds(self.run, self.labels.subtypes, before, after)

    @property
    def scored(self) -> bool:
        """Whether a scorer scored the fresh replies of an iteration."""
        return any(row.mean_score is not None for row in self.assumptions)

    @property
    def gamed(self) -> str:
        """A warning if the policy may have learned to please the scorer; empty if not."""
        return gamed(self.run, self.assumptions)

    @property
    def replies(self) -> tuple[tuple[str, ReplyStatistics], ...]:
        """How each policy replied to held-out prompts, by the name of its phase."""
        measured = ((phase.name, phase.evaluation.replies) for phase in self.phases)
        return tuple((name, replies) for name, replies in measured if replies is not None)

    @property
    def sycophancy(self) -> tuple[tuple[str, SycophancyResult], ...]:
        """How many right answers each policy gave up when contradicted, by the name of its phase."""
        measured = ((phase.name, phase.evaluation.sycophancy) for phase in self.phases)
        return tuple((name, result) for name, result in measured if result is not None)

    @property
    def preference_says_nothing(self) -> str | None:
        """Why preference accuracy is not shown, as the end of a sentence; None if it is shown or was not measured.

        Of the policy whose figure would be quoted: the kept one, not that of the last iteration.
        """
        quoted = self.kept_of([phase for phase in self.phases if phase.evaluation.preference])
        result = quoted.evaluation.preference if quoted else None
        if result is None:
            return None
        if result.pairs < FEWEST:
            return f"only {result.pairs} {'pair is' if result.pairs == 1 else 'pairs are'} held out"
        if result.length_explains and result.length_accuracy is not None:
            return (
                f"length alone tells the fresh reply from the disliked one in {100 * result.length_accuracy:.0f} % of "
                "the held-out pairs, and the policy hardly more often"
            )
        return None

    @property
    def kept(self) -> str | None:
        """Name of the phase whose policy the run kept."""
        if self.run.kept is None:
            return None
        return f"iteration {self.run.kept}" if self.run.kept else "warm start"

    @property
    def chain(self) -> tuple[tuple[str, Link], ...]:
        """The runs that this one builds on, the earliest first, and itself; empty if it starts from a model."""
        if parent_folder(self.run) is None:
            return ()
        runs = (*reversed(ancestors(self.run)), self.run)
        return tuple((str(run.path), link_of(run)) for run in runs)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """At which utility was measured, highest first."""
        measured = {result.temperature for phase in self.phases for result in phase.evaluation.utility}
        return tuple(sorted(measured, reverse=True))

    @property
    def compared(self) -> tuple[Phase, Phase] | None:
        """The phases whose samples are shown side by side."""
        return self.ends([phase for phase in self.phases if phase.evaluation.samples])

    @property
    def greedy(self) -> bool:
        """Whether the samples are greedy replies. Where utility is measured, they are of its lowest temperature."""
        return not self.temperatures or self.temperatures[-1] == 0.0

    @property
    def examples(self) -> tuple[Group, ...]:
        """Requests that both compared policies answered, selected by a fixed rule."""
        if self.compared is None:
            return ()
        before, after = (
            [sample for sample in phase.evaluation.samples if sample.prompt not in self.forgotten_prompts]
            for phase in self.compared
        )
        return choose(before, after)

    def kept_of(self, phases: list[Phase]) -> Phase | None:
        """The kept one of these, else the last."""
        return next((phase for phase in phases if phase.name == self.kept), phases[-1] if phases else None)

    def ends(self, phases: list[Phase]) -> tuple[Phase, Phase] | None:
        """The first of these and the kept one (else the last). None if they are the same phase."""
        kept = self.kept_of(phases)
        return (phases[0], kept) if kept is not None and kept != phases[0] else None


def read_contents(path: Path) -> Contents:
    """Raises DataError if `path` is not a run, or naming file:line of what cannot be read."""
    run = load_run(path)
    store = store_of(run)
    forgotten = store.forgotten() if store else Forgotten("")
    items = _examples(run, forgotten)
    labels = _labels(run, {(item.conversation_id, item.reply_index) for item in items})
    evidence = labels.evidence if labels else {}
    return Contents(
        run=run,
        model=_model(run),
        funnel=_optional(run, layout.FUNNEL, Funnel),
        labels=labels,
        quality=_optional(run, layout.LABEL_QUALITY, LabelQuality),
        disliked=tuple(Disliked(item, evidence.get((item.conversation_id, item.reply_index))) for item in items),
        phases=tuple(_phases(run)),
        assumptions=assumptions(run),
        guidance=tuple(
            read_trial(file) for k in run.iterations if (file := run.file(f"{layout.guidance(k)}/{layout.GUIDANCE}"))
        ),
        exploration=_of_policy(run, layout.EXPLORATION, read_exploration, "drift eval exploration"),
        live=read_result(store.path) if store else None,
        gate=_of_policy(run, layout.GATE, read_gate, "drift gate"),
        generation_0=_phase(run, layout.GENERATION_0, "base"),
        liked_start=_phase(run, layout.LIKED_START, "liked replies"),
        forgotten_prompts=_forgotten_prompts(run, forgotten),
    )


def _optional(run: RunView, name: str, model):
    path = run.file(name)
    return read_json(path, model) if path else None


def _of_policy(run: RunView, name: str, read: Callable[[Path], Measurement], command: str) -> Measurement | None:
    """What `command` measured of RUN/policy; None if the run has another policy by now, and a note says so."""
    path = run.file(name)
    measured = read(path) if path else None
    if measured is None or measured.policy_hash == run.policy_hash:
        return measured
    if measured.policy_hash is None:
        why = "an earlier version wrote it and did not note which policy it is about"
    else:
        why = "it is not about the policy that the run has now"
    report_note(f"{path}: left out, as {why}. Run `{command}` on it again")
    return None


def _model(run: RunView) -> Path | None:
    """The policy to use: the one that the run kept, else the latest."""
    folders = [
        layout.POLICY,
        *(f"{layout.iteration(k)}/{layout.POLICY}" for k in reversed(run.iterations)),
        f"{layout.WARM_START}/{layout.POLICY}",
    ]
    return next((path for path in map(run.file, folders) if path), None)


def _examples(run: RunView, forgotten: Forgotten) -> list[PromptItem]:
    """Disliked replies sorted by id, one per conversation. Ids are hashes, so the selection is random."""
    path = run.file(layout.PROMPTS)
    if path is None:
        return []
    present = (item for item in read_jsonl(path, PromptItem) if not forgotten.holds(item.conversation_id))
    disliked = (item for item in present if item.rejected and item.complaint)
    first = {item.conversation_id: item for item in sorted(disliked, key=lambda item: item.prompt_id, reverse=True)}
    return sorted(first.values(), key=lambda item: item.prompt_id)[:EXAMPLES]


def _forgotten_prompts(run: RunView, forgotten: Forgotten) -> frozenset[tuple[ChatMessage, ...]]:
    kinds = {layout.HELDOUT: PromptItem, layout.HELDOUT_LIKED: PreferencePair} if forgotten.conversations else {}
    files = [(file, kind) for name, kind in kinds.items() if (file := run.file(name))]
    rows = (row for file, kind in files for row in read_jsonl(file, kind))
    return frozenset(row.prompt for row in rows if forgotten.holds(row.conversation_id))


def _labels(run: RunView, examples: set[ReplyPlace]) -> Labels | None:
    path = run.file(layout.LABELS)
    if path is None:
        return None
    verdicts: Counter[tuple[str, str]] = Counter()
    subtypes: Counter[str] = Counter()
    evidence: dict[ReplyPlace, FeedbackLabel] = {}
    for label in read_jsonl(path, FeedbackLabel):
        verdicts[label.labeller, label.label] += 1
        if label.label == "DSAT":
            subtypes[label.subtype or "unnamed"] += 1
            if (label.conversation_id, label.reply_index) in examples:
                evidence[label.conversation_id, label.reply_index] = label
    counts = (
        LabelCounts(name, *(verdicts[name, verdict] for verdict in ("SAT", "DSAT", "NEUTRAL", "ABSTAIN")))
        for name in sorted({labeller for labeller, _ in verdicts})
    )
    return Labels(tuple(counts), tuple(subtypes.most_common()), evidence)


def _phases(run: RunView) -> Iterator[Phase]:
    before = "base" if parent_folder(run) is None else f"generation {run.state.generation - 1}"
    folders = {layout.BASE: before, layout.WARM_START: "warm start"} | {
        layout.iteration(k): f"iteration {k}" for k in run.iterations
    }
    for folder, name in folders.items():
        if phase := _phase(run, folder, name):
            yield phase


def _phase(run: RunView, folder: str, name: str) -> Phase | None:
    scores, metrics, pairs = (
        run.file(f"{folder}/{file}") for file in (layout.EVALUATION, layout.METRICS, layout.PAIRS)
    )
    if not (scores or metrics or pairs):
        return None
    rows = tuple(read_jsonl(metrics, TrainingStep)) if metrics else ()
    return Phase(
        name=name,
        evaluation=read_evaluation(scores) if scores else Evaluation(),
        steps=tuple(row for row in rows if row.lemma_bound is None),
        lemma=tuple(row for row in rows if row.lemma_bound is not None),
        lengths=_lengths(pairs) if pairs else None,
    )


def _lengths(pairs: Path) -> Lengths | None:
    rows = list(read_jsonl(pairs, PreferencePair))
    chosen = [_characters(row.chosen) for row in rows if row.chosen]
    rejected = [_characters(row.rejected) for row in rows if row.rejected]
    if not chosen or not rejected:
        return None
    return Lengths(len(rows), statistics.median(chosen), statistics.median(rejected))


def _characters(messages: tuple[ChatMessage, ...]) -> int:
    return sum(len(as_text(message)) for message in messages)
