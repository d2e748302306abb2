"""A finished gate with every kind of guard and verdict, and the given text wherever a text from outside can stand."""

from drift.gate.paired import mean_change
from drift.gate.results import GateResult, LostItem, PairCounts
from drift.gate.verdict import amount_result, explain, levels_of, overall, rate_result


def some_gate(text: str = "What is 2 + 2?") -> GateResult:
    levels = levels_of(1, 5)
    lost = LostItem(request=text, old=text, new=text, why=text)
    changes = mean_change([0.01, -0.02, 0.0] * 60, None, levels)
    rows = [
        rate_result("arithmetic", PairCounts(both=40, lost=110, gained=2, neither=48), 0.05, 1, 5).filled(
            lost=(lost,), problems={text: (50, 158)}, skipped={text: 3}
        ),
        rate_result("refusal", PairCounts(both=3, lost=0, gained=1, neither=196), 0.05, 1, 5),
        rate_result("tools", PairCounts(both=120, lost=20, gained=12, neither=48), 0.05, 1, 5),
        amount_result("length", "both sides", changes, 0.4, (210.0, 208.0), 1, 5),
        amount_result("kl", "amount", mean_change([-0.01, -0.02] * 90, None, levels), 0.2, (0.0, 0.015), 1, 5),
    ]
    target = amount_result("judge", "target", mean_change([0.3, 0.2] * 60, None, levels), 0.0, (0.25, 0.75), 1, 5)
    return GateResult(
        new=text, against=text, new_id="1f", against_id="2f", verdict=overall(rows),
        why=tuple(explain(row) for row in rows if row.verdict != "pass"), target=target, guards=tuple(rows),
        left_out=("perplexity",), look=1, confidence=0.96, error_rate=0.025, seed=0, items=200, seen_in_training=4,
    )  # fmt: skip
