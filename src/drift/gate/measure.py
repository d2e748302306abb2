"""From the answers of both models to the results of the guards."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from drift.errors import DataError
from drift.gate.guards import GUARDS
from drift.gate.guards.form import has_list, log_length
from drift.gate.guards.likelihood import OrdinaryMeasure, OrdinaryReply
from drift.gate.items import GateItem
from drift.gate.paired import design_effect, group_mean, mean_change
from drift.gate.results import GuardResult, LostItem, PairCounts
from drift.gate.verdict import ASKS_AGAIN, amount_result, levels_of, rate_result, with_skipped
from drift.records import ChatMessage, Completion, stable_hash
from drift.statistics import unit_name, units_in_words, units_of

SHOWN_LOST = 5
"""Requests that NEW lost which the page shows, drawn by hash."""

Answers = Mapping[str, Completion]
"""A model's answers by item id."""

NO_ANSWER = "no answer"

MOST_NATS = 700.0
"""Per token, of a perplexity that is shown: exp of more is no float."""


def measure_rate(
    name: str, items: Sequence[GateItem], answers: tuple[Answers, Answers], margin: float, look: int, tests: int
) -> GuardResult | None:
    """A guard whose answers are right or not. An item that one of the models did not answer is skipped and counted.

    None if no item is left.
    """
    old, new = answers
    both = [item for item in items if item.request.item_id in old and item.request.item_id in new]
    if not both:
        return None
    old, new = answers
    problems_of = [
        (item, item.problems(old[item.request.item_id]), item.problems(new[item.request.item_id])) for item in both
    ]
    right = Counter((not of_old, not of_new) for _, of_old, of_new in problems_of)
    counts = PairCounts(
        both=right[True, True], lost=right[True, False], gained=right[False, True], neither=right[False, False]
    )
    in_old = Counter(problem for _, of_old, _ in problems_of for problem in set(of_old))
    in_new = Counter(problem for _, _, of_new in problems_of for problem in set(of_new))
    problems = {problem: (in_old[problem], in_new[problem]) for problem in sorted(in_old | in_new)}
    lost = [(item, why) for item, of_old, why in problems_of if not of_old and why]
    changes = [float(not of_new) - float(not of_old) for _, of_old, of_new in problems_of]
    worst = [-float(not of_old) for _, of_old, _ in problems_of]
    groups = [item.group or item.request.item_id for item, *_ in problems_of]
    effects = design_effect(changes, groups), design_effect(worst, groups)
    result = rate_result(name, counts, margin, look, tests, *effects)
    result = result.filled(problems=problems, lost=_shown(lost, answers))
    return with_skipped(result, {NO_ANSWER: len(items) - len(both)}, ASKS_AGAIN)


def _as_text(messages: Sequence[ChatMessage]) -> str:
    """A single message as it is; in a chat, each with its role."""
    with_roles = len(messages) > 1
    return "\n".join(f"{m.role}: {m.content}" if with_roles else m.content for m in messages)


def _shown(lost: Sequence[tuple[GateItem, tuple[str, ...]]], answers: tuple[Answers, Answers]) -> tuple[LostItem, ...]:
    drawn = sorted(lost, key=lambda row: stable_hash("lost", row[0].request.item_id))[:SHOWN_LOST]
    return tuple(
        LostItem(
            request=_as_text(item.request.messages),
            old=answers[0][item.request.item_id].text,
            new=answers[1][item.request.item_id].text,
            why=", ".join(why),
        )
        for item, why in drawn
    )


def measure_of_form(
    name: str, items: Sequence[GateItem], answers: tuple[Answers, Answers], margin: float, look: int, tests: int
) -> GuardResult | None:
    """`length` or `lists`, of the answers to the guard `form`. None if fewer than two were answered by both."""
    value: Callable[[str], float] = log_length if name == "length" else has_list
    ids = [item.request.item_id for item in items if all(item.request.item_id in side for side in answers)]
    if len(ids) < 2:
        return None
    old, new = ([float(value(side[item_id].text)) for item_id in ids] for side in answers)
    longest = max(1.0, *old, *new)  # of a logarithm of a length; a list is there or not
    change = mean_change([b - a for a, b in zip(old, new, strict=True)], None, levels_of(look, tests), longest)
    means = [sum(values) / len(values) for values in (old, new)]
    if name == "length":  # the geometric mean of the characters
        means = [math.exp(mean) - 1 for mean in means]
    result = amount_result(name, "both sides", change, margin, (means[0], means[1]), look, tests)
    return with_skipped(result, {NO_ANSWER: len(items) - len(ids)}, ASKS_AGAIN)


def measure_of_store(
    name: str,
    replies: Sequence[OrdinaryReply],
    measures: Mapping[str, OrdinaryMeasure | None],
    margin: float,
    look: int,
    tests: int,
) -> GuardResult | None:
    """`perplexity` or `kl`. None if no reply could be measured. Raises DataError if only those of one unit were."""
    rows = [(reply, row) for reply in replies if (row := measures.get(reply.item_id)) is not None]
    unread = sum(row is None for row in measures.values())
    if name == "kl":
        rows = [(reply, row) for reply, row in rows if row.kl is not None]
    units = units_of([reply for reply, _ in rows])
    if not rows:
        return None
    if len(set(units)) < 2:
        raise DataError(
            f"guard {name}: the ordinary replies that could be compared ({len(rows)}) are of "
            f"{units_in_words([reply for reply, _ in rows])}, which counts once, and it takes more users or chats. "
            f"Ingest logs of more, or leave it out: --without {name}."
        )
    if name == "kl":
        changes = [-(row.kl or 0.0) for _, row in rows]
        means = 0.0, -group_mean(changes, units)
    else:
        changes = [(row.new_logp - row.old_logp) / row.tokens for _, row in rows]
        # Weighted as the change is: a mean over tokens could rise while the mean over users falls.
        of_old = group_mean([-row.old_logp / row.tokens for _, row in rows], units)
        of_new = group_mean([-row.new_logp / row.tokens for _, row in rows], units)
        means = math.exp(min(of_old, MOST_NATS)), math.exp(min(of_new, MOST_NATS))
    change = mean_change(changes, units, levels_of(look, tests))
    unit = unit_name([reply for reply, _ in rows])
    result = amount_result(name, "amount", change, margin, means, look, tests, unit)
    remedy = f"name a store with shorter replies (--store DIR), or leave it out: --without {name}"
    return with_skipped(result, {"too long, or not shown by the template, for NEW alone": unread}, remedy)


def default_margin(name: str) -> float:
    """The margin of a guard of ours; a suite of the user's may lose SUITE_MARGIN."""
    return GUARDS[name].margin if name in GUARDS else SUITE_MARGIN


SUITE_MARGIN = 0.05
