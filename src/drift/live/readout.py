"""`drift live`: from a store to the rates of its models and their comparisons."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from drift.errors import ConfigError
from drift.live.audits import Audits
from drift.live.compare import compare, ran_together
from drift.live.correction import LabellerErrors, true_rate
from drift.live.replies import Coverage, Judged, JudgedReply, observed, read_judged
from drift.live.results import ModelReadout, PartRate, Readout
from drift.live.sequence import ALPHA, rate, rate_now
from drift.statistics import Share
from drift.store import Store

FEW = 30
"""Below that a readout says that it is one of few replies."""


def read_live(
    store: Store,
    *,
    by: str = "model",
    against: str | None = None,
    gold: Path | None = None,
    labeller: str | None = None,
) -> Readout:
    """How often users are dissatisfied with each model of a store, and whether models differ.

    Each model is compared with those that it ran beside, or if there are none with the one that began before it; or
    all with `against`. `gold`: rows that audit the labels; else the reviews do. Raises what `read_judged` and
    `gold_truth` raise, ConfigError if `against` is not there.
    """
    judged = read_judged(store, by, labeller)
    groups = _in_order(judged)
    if against is not None and against not in groups:
        raise ConfigError(f"--against {against}: no such {by} in {store.path}; there are: {', '.join(groups)}.")
    audits = Audits(store, judged.replies, gold)
    errors, by_group = audits.errors(), audits.errors_by_group()
    models = tuple(_model(name, groups[name], judged.coverage[name], errors) for name in groups)
    named = [name for name in groups if name != judged.unnamed and groups[name]]
    pairs = _pairs({name: groups[name] for name in named}, against)
    began = [_began(groups[later]) for _, later in pairs]
    alphas = [ALPHA / began.count(day) for day in began]  # Bonferroni, for the arms of one test
    reacted = {model.name: _reacted(model) for model in models}
    return Readout(
        store=str(store.path),
        by=by,
        models=models,
        comparisons=tuple(
            compare(groups[a], groups[b], errors, by_group, reacted, alpha)
            for (a, b), alpha in zip(pairs, alphas, strict=True)
        ),
        errors=errors and _rounded(errors),
        labellers=dict(Counter(reply.labeller for reply in judged.replies).most_common()),
        left_out={name: count for name, count in (judged.left_out | audits.left_out).items() if count},
        notes=(
            *_notes(judged, models, errors, labeller),
            *_not_compared(judged, models, against),
            *_together(began),
            *_each_with_each(pairs),
        ),
        reference=against,
    )


def _in_order(judged: Judged) -> dict[str, list[JudgedReply]]:
    """The judged replies of each model, the model that began first first, and what has no name last."""
    groups: dict[str, list[JudgedReply]] = {name: [] for name in judged.coverage}
    for reply in judged.replies:
        groups[reply.group].append(reply)

    def place(name: str) -> tuple[bool, float, float, str]:
        seconds = [reply.second for reply in groups[name] if reply.second is not None]
        begins, ends = (min(seconds) // DAY, max(seconds) // DAY) if seconds else (float("inf"), 0.0)
        return name == judged.unnamed, begins, ends, name

    return {name: groups[name] for name in sorted(groups, key=place)}


DAY = 86_400


def _pairs(groups: Mapping[str, list[JudgedReply]], against: str | None) -> list[tuple[str, str]]:
    """Which models are compared, the one that began first first. Of several that ran side by side, nothing says which
    one the others are measured by: then all of them are compared with each other."""
    named = list(groups)
    if against is not None:
        return [(against, name) for name in named if name != against and against in named]
    pairs: list[tuple[str, str]] = []
    for place, name in enumerate(named):
        beside = [other for other in named[:place] if ran_together(groups[other], groups[name])]
        pairs += [(other, name) for other in beside or named[place - 1 : place]]
    return pairs


def _began(replies: Sequence[JudgedReply]) -> str:
    """The first day of a model; empty if none of its replies has a time."""
    return min((reply.day for reply in replies if reply.day), default="")


def _together(began: Sequence[str]) -> Iterator[str]:
    """What several comparisons of models that began on one day cost; `began`: that day, of each comparison's later
    model."""
    for day, comparisons in sorted(Counter(began).items()):
        if comparisons > 1:
            models = f"models that began on {day}" if day else "models without a time"
            confidence = 100 * (1 - ALPHA / comparisons)
            yield (
                f"{comparisons} comparisons of {models}: the interval of each is one of {confidence:.2f} %, so that "
                "all of them hold together with 95 % (Bonferroni)."
            )


def _each_with_each(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """How to make fewer comparisons."""
    firsts, laters = ({pair[side] for pair in pairs} for side in (0, 1))
    if len(pairs) > len(laters) and len(firsts) > 1:
        yield (
            "several models ran side by side, and each is compared with each: to compare all with one of them alone, "
            "in narrower intervals, name it: --against MODEL."
        )


def _model(name: str, replies: list[JudgedReply], coverage: Coverage, errors: LabellerErrors | None) -> ModelReadout:
    days = sorted(reply.day for reply in replies if reply.day is not None)
    seen = rate(observed(replies)) if replies else None
    dsat = sum(reply.is_dsat for reply in replies)
    kinds = Counter(reply.kind for reply in replies if reply.is_dsat)
    return ModelReadout(
        name=name,
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        conversations=coverage.conversations,
        users=len({reply.user for reply in replies}),
        replies=coverage.replies,
        judged=len(replies),
        dsat=dsat,
        abstained=coverage.abstained,
        unlabelled=coverage.unlabelled,
        without_time=coverage.without_time,
        rated_only=dict(coverage.rated_only),
        labelled=true_rate(seen, None).rounded() if seen else None,
        rate=true_rate(seen, errors).rounded() if seen and errors else None,
        kinds={kind: round(count / len(replies), 4) for kind, count in kinds.most_common()},
        days=_slices(replies, lambda reply: reply.day, errors),
        languages=_slices(replies, lambda reply: reply.language, errors),
        turns=_slices(replies, lambda reply: "first reply" if reply.is_first else "later replies", errors),
    )


def _slices(
    replies: list[JudgedReply], part: Callable[[JudgedReply], str | None], errors: LabellerErrors | None
) -> tuple[PartRate, ...]:
    groups: dict[str, list[JudgedReply]] = {}
    for reply in replies:
        if (name := part(reply)) is not None:
            groups.setdefault(name, []).append(reply)
    return tuple(
        PartRate(name=name, judged=len(group), dsat=sum(reply.is_dsat for reply in group), rate=_now(group, errors))
        for name, group in sorted(groups.items())
    )


def _now(replies: list[JudgedReply], errors: LabellerErrors | None) -> Share:
    """Its value is the share itself; the interval's middle lies between it and one half."""
    seen = rate_now(observed(replies))
    share = sum(reply.is_dsat for reply in replies) / len(replies)
    interval = true_rate(seen, errors)
    value = share if errors is None else (share + errors.specificity.value - 1) / errors.power
    return Share(min(max(value, 0.0), 1.0), interval.low, interval.high).rounded()


def _reacted(model: ModelReadout) -> float:
    return (model.judged + model.abstained + model.unlabelled) / model.replies if model.replies else 0.0


def _rounded(errors: LabellerErrors) -> LabellerErrors:
    return LabellerErrors(
        errors.source, errors.audited, errors.sensitivity.rounded(), errors.specificity.rounded(), errors.variance
    )


def _not_compared(judged: Judged, models: Sequence[ModelReadout], against: str | None) -> Iterator[str]:
    """The models that no comparison names, and why."""
    if against == judged.unnamed:
        yield f"--against {against}: replies without a name are not one model, so nothing is compared with them."
    for model in models:
        if model.judged or model.name == judged.unnamed:
            continue
        missing = f"{model.name} has no judged reply (of {model.replies})"
        if model.name == against:
            yield f"--against {against}: {missing}, so nothing is compared with it."
        else:
            yield f"{missing}, so it is not compared."


def _notes(
    judged: Judged, models: Sequence[ModelReadout], errors: LabellerErrors | None, labeller: str | None
) -> list[str]:
    sums: Mapping[str, int] = {
        name: sum(getattr(model, name) for model in models)
        for name in ("judged", "abstained", "unlabelled", "without_time")
    }
    notes: list[str] = []
    if errors is None:
        notes.append(
            "not corrected for the labeller's errors: nobody has audited the labels, or too few of them. Run "
            "`drift review`, or give --gold FILE. A labeller that errs alike on all models makes differences smaller "
            "and does not turn them round."
        )
    if [model.name for model in models] == [judged.unnamed]:
        notes.append(
            "the logs name no model, so all replies count as one: in rows of messages it is the key model, in a table "
            "what its --map calls model. Or use --by TAG."
        )
    elif nameless := next((model for model in models if model.name == judged.unnamed), None):
        notes.append(f"{nameless.judged} judged replies have {judged.unnamed.strip('()')} and are compared with none.")
    if sums["without_time"]:
        notes.append(f"{sums['without_time']} of {sums['judged']} judged replies have no time, so they are in no day.")
    if sums["without_time"] == sums["judged"]:
        notes.append(
            "no time was read from the logs: in rows of messages it is the key timestamp, in a table what its --map "
            "calls time. `drift ingest` names the keys that it leaves unread."
        )
    if sums["unlabelled"] and labeller is None:
        notes.append(f"{sums['unlabelled']} replies that a user reacted to have no label yet: `drift label`.")
    if sums["judged"] < FEW:
        notes.append(f"{sums['judged']} judged replies in all: too few to say much; the intervals show it.")
    return notes
