"""What the model card says of a run: counts, settings and measures. No text of a conversation is among them.

Names that stand in logs (sources, tags, kinds of complaints) are shown only if they look like names: `shown_name`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drift.errors import DataError
from drift.evaluation.results import read_evaluation
from drift.gate.results import GateResult
from drift.lineage import forgotten_in
from drift.logs.convert import is_consent
from drift.policy.source import ADAPTER, adapter_settings, is_adapter
from drift.records import PreferencePair, read_jsonl
from drift.report.contents import Contents, read_contents
from drift.report.verdict import Measured, ReportVerdict, generations_compared, verdict_of
from drift.rundir import RunView, layout
from drift.rundir.chain import ancestors
from drift.store import Store, store_of

TOY = "embedded"
"""Names of policies that ship with drift begin with this word."""
_OTHER, _MANY = "(other text)", "(different values)"
_MOST_VALUES = 8
"""Of one tag, the most frequent first. Rarer ones are times or ids of single conversations, not kinds of consent."""
_PRIVATE = frozenset(
    (
        *("logs", "store", "output", "from", "deployed", "model", "endpoint", "vllm", "launch", "report_to"),
        *("rubric", "persons", "map", "roles", "require_consent", "template_arguments", "threads"),
    )
)
"""Settings that name files, servers, columns or models of the user. The base model is shown apart."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Conversations of one source with the same consent and licence. `trained_on`: those that the policy learned from.

    `consent`: the tags of consent and licence as the log has them; empty if it has none.
    """

    source: str
    consent: tuple[tuple[str, str], ...]
    conversations: int
    trained_on: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """`users`, `conversations`: what the store has forgotten on request. `pairs`: of this run, those that came from
    such conversations; `in_policy`: the exported policy learned from them, before they were forgotten."""

    users: int
    conversations: int
    pairs: int
    in_policy: bool


@dataclass(frozen=True, slots=True)
class Measurement:
    """One policy of the run: preference accuracy on held-out complaints, where it says something, and the true utility,
    where it is known."""

    name: str
    preference: tuple[float, float, float, int] | None
    utility: tuple[float, float, float, int, float] | None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """`base`: the model as it is shown; `hub_base`: its id on the Hub, if it has one. `settings`: those that can be
    public. `drops`: rows by reason. `pairs`: that the policy learned from, by stage.

    `is_toy`: the base ships with drift. `simulated`: programs played the users, whatever the base is;
    `simulated_before`: those of an earlier generation.
    `preference_says_nothing`: why preference accuracy is not shown; None if it is, or was not measured.
    `origins`, `withdrawn`: None if the store is gone.
    """

    name: str
    base: str
    hub_base: str | None
    licence: str | None
    is_toy: bool
    simulated: bool
    simulated_before: bool
    generation: int
    kept: int
    recipe: str
    loss: str
    lora_rank: int | None
    in_4_bits: bool
    dtype: str
    redacted: bool
    settings: Mapping[str, Any]
    verdict: ReportVerdict
    compared: tuple[Measured, ...]
    gate: GateResult | None
    measurements: tuple[Measurement, ...]
    preference_says_nothing: str | None
    steps: tuple[tuple[str, int], ...]
    drops: tuple[tuple[str, int], ...]
    pairs: tuple[tuple[str, int], ...]
    labels: tuple[tuple[str, Mapping[str, int]], ...]
    kinds: tuple[tuple[str, int], ...]
    origins: tuple[Origins, ...] | None
    languages: tuple[tuple[str, int], ...]
    withdrawn: Withdrawn | None
    code_version: str
    packages: Mapping[str, str]


def read_facts_of(run: RunView) -> CardFacts:
    """Raises DataError naming file:line of what cannot be read."""
    contents, store = read_contents(run.path), store_of(run)
    policy = _section(run.settings, "policy")
    lora, model = _section(policy, "lora"), str(policy.get("model", ""))
    record = next(stage for stage in run.stages if stage.name == layout.POLICY)
    trained_on = _trained_on(run)
    languages = (
        Counter(shown_name(row[2]) for row in store.provenance() if row[2] and row[0] in trained_on) if store else {}
    )
    return CardFacts(
        name=shown_name(str(run.settings.get("name", "drift"))),
        base=_shown(model),
        hub_base=hub_id(model),
        licence=_licence_of(model),
        is_toy=model.startswith(TOY),
        simulated=_has_simulated_users(run),
        simulated_before=any(map(_has_simulated_users, ancestors(run))),
        generation=run.state.generation,
        kept=run.kept or 0,
        recipe=shown_name(str(_section(run.settings, "recipe").get("name", "unknown"))),
        loss=shown_name(str(_section(run.settings, "training").get("loss", "unknown"))),
        lora_rank=_lora_rank(run.path / layout.POLICY),
        in_4_bits=bool(lora.get("quantize")),
        dtype=str(policy.get("dtype", "float32")),
        redacted=bool(_section(run.settings, "ingestion").get("redact")),
        settings={name: value for name, value in _public(run.settings).items() if name != "name"},
        verdict=verdict_of(contents),
        compared=generations_compared(contents),
        gate=contents.gate,
        measurements=tuple(_measurements(contents)),
        preference_says_nothing=contents.preference_says_nothing,
        steps=tuple((shown_name(step.name), step.count) for step in contents.funnel.steps) if contents.funnel else (),
        drops=tuple((shown_name(why), n) for why, n in contents.funnel.drops.items()) if contents.funnel else (),
        pairs=tuple(_pair_counts(run)),
        labels=_labels(contents),
        kinds=tuple(Counter(_named(contents.labels.subtypes)).most_common()) if contents.labels else (),
        origins=None if store is None else tuple(_origins(store, trained_on)),
        languages=tuple(Counter(languages).most_common()),
        withdrawn=None if store is None else _withdrawn(run, store),
        code_version=record.code_version,
        packages=record.packages,
    )


def hub_id(model: str) -> str | None:
    """The model's id on the Hub; None for a folder, a GGUF file and a policy that ships with drift."""
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.lower().endswith(".gguf")
    return model if is_id and not model.startswith(".") and not Path(model).exists() else None


def _shown(model: str) -> str:
    """A local path would tell about the machine: only its last part is shown."""
    return model if hub_id(model) or model.startswith(TOY) else shown_name(Path(model).name or "unknown")


def _licence_of(model: str) -> str | None:
    """The licence that the base's own card names, if the card is on this machine."""
    if model.startswith(TOY):
        return "apache-2.0"
    card: Any = Path(model) / "README.md"
    if hub_id(model):
        from huggingface_hub import try_to_load_from_cache

        card = try_to_load_from_cache(model, "README.md")
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    header = re.match(r"---\r?\n(.*?)\r?\n---", Path(card).read_text("utf-8", errors="replace"), re.DOTALL)
    try:
        licence = (yaml.safe_load(header[1]) or {}).get("license") if header else None
    except (yaml.YAMLError, ValueError, AttributeError):  # a date that is none, a header that is no mapping
        return None
    return licence if isinstance(licence, str) and re.fullmatch(r"[\w.-]{1,40}", licence) else None


def shown_name(text: str) -> str:
    """A text that looks like a name: one line, short, without markup. Others are not shown."""
    return text if re.fullmatch(r"[\w.,:+/@()' -]{1,60}", text) else _OTHER


def _named(counts: tuple[tuple[str, int], ...]) -> dict[str, int]:
    named: Counter[str] = Counter()
    for text, count in counts:
        named[shown_name(text)] += count
    return dict(named)


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, Mapping) else {}


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without paths, servers and names of the user."""
    public: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _PRIVATE or value is None:
            continue
        if isinstance(value, Mapping):
            if inner := _public(value):
                public[name] = inner
        elif isinstance(value, list | tuple):
            public[name] = [shown_name(item) if isinstance(item, str) else item for item in value]
        else:
            public[name] = shown_name(value) if isinstance(value, str) else value
    return public


def _has_simulated_users(run: RunView) -> bool:
    """A simulated deployment wrote the chats, here or in the run whose logs these are; or the true utility is known."""
    evaluation = run.file(f"{layout.BASE}/{layout.EVALUATION}")
    if run.file(layout.DEPLOYMENT_TRUTH) or (evaluation and read_evaluation(evaluation).utility):
        return True
    logs = [Path(str(log)) for log in run.settings.get("logs") or ()]
    folders = {above for log in logs for above in log.parents if above != Path()}
    try:
        return any(layout.is_run(folder) and (folder / layout.DEPLOYMENT_TRUTH).is_file() for folder in folders)
    except OSError:  # a folder that may not be entered, perhaps of another machine
        return False


def _measurements(contents: Contents) -> Iterator[Measurement]:
    for phase in contents.phases:
        preference, utility = phase.evaluation.preference, next(iter(phase.evaluation.utility), None)
        if contents.preference_says_nothing:
            preference = None
        yield Measurement(
            phase.name,
            preference and (preference.accuracy, preference.accuracy_low, preference.accuracy_high, preference.pairs),
            utility and (utility.mean, utility.low, utility.high, utility.prompts, utility.temperature),
        )


def _pair_counts(run: RunView) -> Iterator[tuple[str, int]]:
    counts = {stage.name: stage.counts.get("rows") or 0 for stage in run.stages}
    for name in run.learned_from:
        yield name.partition("/")[0].replace("-", " "), int(counts[name])


def _labels(contents: Contents) -> tuple[tuple[str, Mapping[str, int]], ...]:
    if contents.labels is None:
        return ()
    return tuple(
        (row.labeller, {"DSAT": row.dsat, "SAT": row.sat, "NEUTRAL": row.neutral, "ABSTAIN": row.abstain})
        for row in contents.labels.counts
    )


def _lora_rank(policy: Path) -> int | None:
    """Of the adapter that was trained; None for whole weights. A run that starts from an adapter goes on training it,
    whatever its own config says of LoRA."""
    if not is_adapter(policy):
        return None
    rank = adapter_settings(policy).get("r")
    if not isinstance(rank, int):
        remedy = "Run the run's own command again."
        raise DataError(f"{policy / ADAPTER}: not the settings of a LoRA adapter: r is {rank!r}. {remedy}")
    return rank


def _trained_on(run: RunView) -> set[str]:
    """Ids of the conversations that the policy learned from, in this run and in those that it builds on."""
    files = [each.path / name for each in (run, *ancestors(run)) for name in each.learned_from]
    return {pair.conversation_id for file in files for pair in read_jsonl(file, PreferencePair)}


def _origins(store: Store, trained_on: set[str]) -> Iterator[Origins]:
    """By source and consent, the largest first."""
    rows = [
        (ident, source, {name: value for name, value in tags.items() if is_consent(name)})
        for ident, source, _, tags in store.provenance()
    ]
    values: dict[str, Counter[str]] = {}
    for _, _, tags in rows:
        for name, value in tags.items():
            values.setdefault(name, Counter())[value] += 1
    frequent = {
        (name, value)
        for name, counts in values.items()
        for value, count in counts.most_common(_MOST_VALUES)
        if count > 1 or len(counts) <= _MOST_VALUES
    }
    total: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    learned: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    for ident, source, tags in rows:
        shown = {
            shown_name(name): shown_name(value) if (name, value) in frequent else _MANY for name, value in tags.items()
        }
        key = (shown_name(source), tuple(sorted(shown.items())))
        total[key] += 1
        learned[key] += ident in trained_on
    for (source, consent), count in total.most_common():
        yield Origins(source, consent, count, learned[source, consent])


def _withdrawn(run: RunView, store: Store) -> Withdrawn:
    forgotten, traces = store.forgotten(), forgotten_in([run]).get(run.path)
    return Withdrawn(
        users=len(forgotten.users),
        conversations=len(forgotten.conversations),
        pairs=traces.pairs if traces else 0,
        in_policy=traces is not None and layout.POLICY in traces.policies,
    )
