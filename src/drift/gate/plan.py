"""What a gate is going to ask, before it asks: the items of every guard, and what they cost."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drift.config import PolicySettings
from drift.endpoint.cost import BYTES_PER_TOKEN, CostEstimate, cost_of
from drift.endpoint.options import UNPRICED, JudgePricing, endpoint_settings
from drift.errors import ConfigError, DataError
from drift.evals.pairwise.heldout import HeldOut, from_run, from_store, stores_for
from drift.evals.replies import assumed_text
from drift.evals.served import is_served
from drift.gate.guards import GUARDS, OF_FORM, OF_STORE
from drift.gate.guards.inspect_suite import PREFIX, check_installed
from drift.gate.guards.likelihood import OrdinaryReply, ordinary_replies
from drift.gate.items import GateItem, draw_items, plain_request, was_trained
from drift.gate.suites import MAX_NEW_TOKENS, read_suite
from drift.gate.target import complaints_of_truth, judge_estimate
from drift.records import PreferencePair, PromptItem, TrainedReply, Truth, read_jsonl, stable_hash
from drift.rundir import RunView, layout, load_run, run_of
from drift.rundir.chain import ancestors
from drift.scoring.judges import PairJudge, make_judge
from drift.statistics import OfUser
from drift.store import Store, store_of

TARGET = "target"
TARGETS = ("feedback", "oracle", "none")
FEWEST_ITEMS = 20


@dataclass(frozen=True, slots=True)
class GateSettings:
    """`new`, `against`: the models. `store`: where held-out complaints and ordinary conversations come from; None: the
    store of NEW's run. `target`: who says which answer is better, one of TARGETS, unless `judge` or `reward_model` is
    named. `without`: guards to leave out; `margins`: of guards by name; `items`: of each guard with requests of its
    own; `suites`: files of further items. `max_new_tokens`: of answers to held-out complaints; `max_prompts`: of these
    complaints; `max_length`: tokens of an ordinary conversation with its reply. `loading`: how both
    models are loaded; None: as their runs do. `look`: the number of this look, if others of one run went before it.
    `model_key_env`: the variable that holds the key of a model that a server answers for. `earlier`: of a gate within a
    run, the run's list of what the generations before it were trained on (layout.EARLIER)."""

    new: str
    against: str
    out: Path
    store: Path | None = None
    target: str = "feedback"
    judge: str | None = None
    reward_model: str | None = None
    pricing: JudgePricing = UNPRICED
    model_key_env: str | None = None
    without: tuple[str, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    suites: tuple[str, ...] = ()
    items: int = 200
    seed: int = 0
    dtype: str = "float32"
    temperature: float = 0.0
    max_new_tokens: int = 512
    max_prompts: int = 500
    max_length: int = 2048
    loading: PolicySettings | None = None
    look: int = 1
    earlier: Path | None = None

    @property
    def served(self) -> tuple[str, ...]:
        """The models that a server answers for, each once."""
        sides = dict.fromkeys((self.new, self.against))
        return tuple(filter(is_served, sides))

    @property
    def side_pricing(self) -> JudgePricing:
        """Key, prices and limits of the models that a server answers for: those of a judge belong to the judge."""
        own = UNPRICED if self.judge else self.pricing
        return replace(own, api_key_env=self.model_key_env or own.api_key_env)

    @property
    def target_by(self) -> str:
        return "judge" if self.judge else "reward model" if self.reward_model else self.target


@dataclass(frozen=True, slots=True)
class Questions:
    """Requests of one guard, one suite or the target, with the token limit of an answer."""

    name: str
    items: tuple[GateItem, ...]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class GatePlan:
    """`guards`: all that are measured, by name, in order. `seen`: items left out because a model was trained on them;
    None: not known. `judge`: of the target, if a judge or a reward model is named; `estimate`: what the judge costs."""

    guards: tuple[str, ...]
    batches: Mapping[str, Questions]
    complaints: tuple[HeldOut, ...]
    ordinary: tuple[OrdinaryReply, ...]
    store: Store | None
    seen: int | None
    judge: PairJudge | None

    def lines(self, settings: GateSettings) -> list[str]:
        """The cost in words, before anything is asked."""
        answers = sum(len(batch.items) for batch in self.batches.values()) + len(self.complaints)
        tokens = sum(len(batch.items) * batch.max_new_tokens for batch in self.batches.values())
        tokens += len(self.complaints) * settings.max_new_tokens
        lines = [f"guards: {', '.join(self.guards) or 'none'}"]
        lines.append(
            f"target: {settings.target_by}"
            + (f" on {len(self.complaints)} requests{_whose(self.complaints)}" if self.complaints else "")
        )
        lines.append(
            f"each model: at most {answers:,} answers with {tokens:,} tokens; answers of an earlier call in "
            f"{settings.out} are not asked again" + (", a server's only before a verdict" if settings.served else "")
        )
        beside = "; not limited: prices and --max-cost are the judge's" if settings.judge else ""
        lines += [f"{source}: {self.estimate(source, settings).line()}{beside}" for source in settings.served]
        unlimited = ", not limited by --max-cost" if settings.served else ""
        lines += [
            f"{name}: at most {settings.items:,} samples for each model, by inspect-ai{unlimited}"
            for name in self.inspected
        ]
        if self.ordinary:
            lines.append(f"ordinary replies that both models read: {len(self.ordinary):,}{_whose(self.ordinary)}")
        if self.judge is not None and self.complaints:
            estimate = judge_estimate(self.complaints, self.judge, assumed_text("answer", settings.max_new_tokens))
            lines += [f"judge: {estimate.line()}"] if estimate else []
        return lines

    def estimate(self, source: str, settings: GateSettings) -> CostEstimate:
        """The most that the answers of a server cost, if none is kept from an earlier call."""
        requests = [(item.request, batch.max_new_tokens) for batch in self.batches.values() for item in batch.items]
        requests += [(complaint.request, settings.max_new_tokens) for complaint in self.complaints]
        characters = sum(message.size for request, _ in requests for message in request.messages)
        read, written = characters // BYTES_PER_TOKEN, sum(limit for _, limit in requests)
        server = endpoint_settings(source, settings.side_pricing)
        return CostEstimate(len(requests), 0, read, written, cost_of(server, read, written))

    def measured(self, settings: GateSettings) -> dict[str, str]:
        """By guard, suite and target: a hash of what is asked, how, and who judges."""
        sampling = settings.temperature, settings.seed, settings.dtype
        parts: dict[str, str] = {
            name: stable_hash(batch.max_new_tokens, *sampling, [item.request for item in batch.items])
            for name, batch in self.batches.items()
        }
        parts |= {name: stable_hash(settings.items) for name in self.inspected}
        if self.ordinary:
            read = stable_hash(settings.max_length, settings.dtype, [reply.item_id for reply in self.ordinary])
            parts |= {name: read for name in OF_STORE if name in self.guards}
        if self.complaints:
            labels = self.store.label_hash() if self.store and settings.target_by == "feedback" else ""
            judge = settings.target_by, self.judge.name if self.judge else labels
            requests = [complaint.request for complaint in self.complaints]
            parts[TARGET] = stable_hash(settings.max_new_tokens, *sampling, *judge, requests)
        return parts

    @property
    def inspected(self) -> tuple[str, ...]:
        """The suites that inspect-ai runs."""
        return tuple(name for name in self.guards if name.startswith(PREFIX))


def _whose(rows: Sequence[OfUser]) -> str:
    """Of how many users, or chats if the log names no user; nothing if each row is of another one."""
    users, named = len({row.user for row in rows}), any(row.user != row.chat for row in rows)
    if users == len(rows):
        return ""
    if named and users == 1:
        return ", all of one user: what they show holds for this user alone"
    return f" of {users:,} {'users' if named else 'chats'}, each of which counts once"


def plan_gate(settings: GateSettings, truth: Truth | None) -> GatePlan:
    """Draw all items. Raises ConfigError or DataError for what cannot be measured, with the option that leaves it out.

    A guard that cannot be measured is never dropped silently: the user names it.
    """
    suites = {Path(name).stem: Path(name) for name in settings.suites if not name.startswith(PREFIX)}
    inspected = tuple(name for name in settings.suites if name.startswith(PREFIX))
    for name in inspected:
        check_installed(name)
    _check(settings, suites)
    guards = tuple(name for name in (*GUARDS, *suites, *inspected) if name not in settings.without)
    trained = trained_requests((settings.new, settings.against), settings.earlier)
    batches, seen = _batches(settings, guards, suites, trained or ())
    stores = _stores(settings)
    store = next(iter(stores), None)
    ordinary: tuple[OrdinaryReply, ...] = ()
    if any(name in guards for name in OF_STORE):
        needed = _needed(store, settings.new, "perplexity and kl", OF_STORE)
        ordinary = tuple(ordinary_replies(needed, settings.items, stores[1:]))
    judge = None
    if settings.judge or settings.reward_model:
        judge = make_judge(settings.judge, settings.reward_model, settings.out, settings.dtype, settings.pricing)
    complaints = tuple(_complaints(settings, stores, truth))
    plan = GatePlan(guards, batches, complaints, ordinary, store, None if trained is None else seen, judge)
    limit = settings.side_pricing.max_cost
    costs = [plan.estimate(source, settings).cost or 0.0 for source in settings.served]
    if limit is not None and sum(costs) > limit:
        raise ConfigError(
            f"the answers could cost {sum(costs):.2f}, more than --max-cost {limit:g}. Raise it, lower --items, or "
            "leave guards out with --without NAME. Answers that are kept from an earlier call cost nothing but count."
        )
    return plan


def _check(settings: GateSettings, suites: Mapping[str, Path]) -> None:
    allowed = (*GUARDS, *suites, *(name for name in settings.suites if name.startswith(PREFIX)))
    for option, names in (("--without", settings.without), ("--margin", settings.margins)):
        for name in names:
            if name not in allowed:
                raise ConfigError(f"{option} {name}: no such guard. Allowed: {', '.join(allowed)}.")
    for name, margin in settings.margins.items():
        if not 0 < margin < math.inf:
            raise ConfigError(
                f"--margin {name}={margin:g}: a margin is above 0 and finite. If a guard may lose anything, leave it "
                f"out: --without {name}."
            )
    if both := [name for name in suites if name in GUARDS]:
        raise ConfigError(f"--suite {suites[both[0]]}: a guard has the name {both[0]}; rename the file.")
    if len(suites) < sum(not name.startswith(PREFIX) for name in settings.suites):
        raise ConfigError("--suite: two files have the same name; rename one.")
    if settings.target not in TARGETS:
        raise ConfigError(f"--target {settings.target}: allowed: {', '.join(TARGETS)}, or name a --judge.")
    if settings.target == "none" and (settings.judge or settings.reward_model):
        raise ConfigError("--target none asks nobody: remove it, or the judge or reward model.")
    if settings.target_by == "feedback" and is_served(settings.against):
        raise ConfigError(
            f"{settings.against}: a server does not give its weights, and --target feedback learns from them. Name "
            "--judge URL#MODEL or --reward-model DIR, or leave the target out: --target none."
        )
    if settings.items < FEWEST_ITEMS:
        raise ConfigError(f"--items {settings.items}: at least {FEWEST_ITEMS}.")
    if "form" in settings.without and (left := [name for name in OF_FORM if name not in settings.without]):
        raise ConfigError(f"{left[0]} is measured on the answers to form: add --without {left[0]}.")
    if served := settings.served:
        measured = [name for name in OF_STORE if name not in settings.without]
        if measured:
            raise ConfigError(
                f"{served[0]}: a server does not give its weights, which {' and '.join(measured)} need: add "
                f"{' '.join(f'--without {name}' for name in measured)}."
            )


def _batches(
    settings: GateSettings, guards: Sequence[str], suites: Mapping[str, Path], trained: Collection[str]
) -> tuple[dict[str, Questions], int]:
    batches, seen = {}, 0
    for name in guards:
        guard = GUARDS.get(name)
        if name in suites:
            rows = read_suite(suites[name])
            fresh = tuple(item for item in rows if not was_trained(item.request.messages, trained))
            if not fresh:
                raise DataError(f"{suites[name]}: a model was trained on every item: use others, or --without {name}.")
            batches[name] = Questions(name, fresh, MAX_NEW_TOKENS)
            seen += len(rows) - len(fresh)
        elif guard is not None and guard.draw is not None:
            drawn = draw_items(name, guard.draw, settings.items, settings.seed, trained)
            batches[name] = Questions(name, drawn.items, guard.max_new_tokens)
            seen += drawn.seen
    return batches, seen


def _stores(settings: GateSettings) -> list[Store]:
    """The store that the user names, else that of NEW's run; with the splits of the runs. Empty if it is not there."""
    run = run_of(settings.new)
    path = settings.store or (getattr(store_of(load_run(run)), "path", None) if run else None)
    return stores_for((settings.new, settings.against), path) if path else []


def _needed(store: Store | None, new: str, what: str, names: Sequence[str]) -> Store:
    if store is None:
        raise ConfigError(
            f"{what} need conversations: {_gone(new)}name a store with --store DIR, or leave them out: "
            f"{' '.join(f'--without {name}' for name in names)}."
        )
    return store


def _gone(new: str) -> str:
    """If the model belongs to a run, that the run's store is not where it was; a relative path counts from here."""
    run = run_of(new)
    view = load_run(run) if run else None
    if view is None or not view.store_folders:
        return ""
    where = Path(view.settings.get("store") or view.path / layout.STORE)
    return f"the store of {run} is not at {where.absolute()}. Put it back, "


def _complaints(settings: GateSettings, stores: Sequence[Store], truth: Truth | None) -> Sequence[HeldOut]:
    if settings.target_by == "none":
        return []
    if settings.target_by == "oracle":
        if truth is None:
            raise ConfigError("--target oracle: only the sandbox has a truth.")
        return complaints_of_truth(truth)
    run = run_of(settings.new)
    remedy = "Or leave the target out: --target none."
    if settings.target_by == "feedback" and not stores:
        raise ConfigError(f"--target feedback learns from a store's labels: name it with --store DIR. {remedy}")
    try:
        if run is not None and settings.store is None:
            return from_run(run, settings.max_prompts, stores[1:]).items
        if stores:
            return from_store(stores[0], "disliked", settings.max_prompts, others=stores[1:]).items
    except DataError as error:
        raise DataError(f"{error} {remedy}") from None
    raise ConfigError(f"the target needs held-out complaints: name a store with --store DIR. {remedy}")


def trained_requests(sources: Sequence[str], earlier: Path | None = None) -> set[str] | None:
    """The user messages in what the models' runs, and the runs before them, were trained on (`plain_request`).

    `earlier`: a list of TrainedReply, whose requests are added as hashes; with it, runs before them may
    be missing. None if no model belongs to a run. Raises DataError if a run of the chain is missing: what it was
    trained on is then not known.
    """
    runs = {run for source in sources if (run := run_of(source))}
    views = {view.path.absolute(): view for run in runs for view in _chain(load_run(run), earlier is not None)}
    if not views:
        return None
    hashes = {row.request for row in read_jsonl(earlier, TrainedReply)} if earlier else set()
    return hashes | {plain_request(text) for view in views.values() for text in _requests(view)}


def _chain(run: RunView, may_miss: bool) -> list[RunView]:
    """The run and those that it builds on."""
    earlier = ancestors(run)
    missing = run.state.generation - 1 - len(earlier)
    if missing > 0 and not may_miss:
        raise DataError(
            f"{run.path}: {missing} earlier run{'s' * (missing > 1)} of its chain cannot be found, so what they were "
            "trained on is not known. Put the folders back (`drift runs` names them), or compare the folders of the "
            "policies outside of the runs."
        )
    return [run, *earlier]


def _requests(view: RunView) -> Iterator[str]:
    for name in view.pair_files:
        for pair in read_jsonl(view.path / name, PreferencePair):
            yield from (message.content for message in pair.prompt if message.role == "user")
    if prompts := view.file(layout.PROMPTS):
        for item in read_jsonl(prompts, PromptItem):
            yield from (message.content for message in item.prompt if message.role == "user")
