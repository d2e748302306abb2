"""From measured changes to the verdict: blindness, the error rate over guards and looks, and the sentences."""

import pytest

from drift.evals.replies import EvalRequest
from drift.gate.items import GateItem
from drift.gate.measure import default_margin, measure_of_form, measure_rate
from drift.gate.paired import mean_change
from drift.gate.results import GateResult, PairCounts, read_gate
from drift.gate.verdict import ERROR_RATE, amount_result, explain, is_blind, levels_of, overall, rate_result
from drift.records import Completion


def counts(both: int, lost: int, gained: int, neither: int) -> PairCounts:
    return PairCounts(both=both, lost=lost, gained=gained, neither=neither)


def test_all_looks_together_spend_the_error_rate():
    spent = [levels_of(look, 10) for look in range(1, 40)]
    assert sum(level.passing for level in spent) == pytest.approx(ERROR_RATE)
    assert (spent[0].passing, spent[0].failing) == (pytest.approx(0.02), pytest.approx(0.002))
    assert spent[1].passing == pytest.approx(0.0025)


def test_equal_answers_pass():
    result = rate_result("arithmetic", counts(150, 0, 0, 50), 0.05, look=1, tests=10)
    assert (result.verdict, result.change, result.old, result.new) == ("pass", 0.0, 0.75, 0.75)


def test_a_large_loss_fails_and_says_by_how_much():
    result = rate_result("arithmetic", counts(40, 110, 2, 48), 0.05, look=1, tests=10)
    assert result.verdict == "fail"
    assert explain(result).startswith("arithmetic: change -54.0 [")
    assert explain(result).endswith("margin -5.0: fail")


def test_a_loss_near_the_margin_is_undecided_and_names_the_items_that_would_decide():
    result = rate_result("arithmetic", counts(120, 20, 12, 48), 0.05, look=1, tests=10)
    assert result.verdict == "undecided"
    assert result.further_items is not None
    assert explain(result).endswith(f"about {result.further_items:,} more items would decide")
    assert explain(result.filled(further_items=1)).endswith("about 1 more item would decide")


def test_an_old_model_that_is_almost_never_right_makes_a_guard_blind_and_not_passing():
    result = rate_result("arithmetic", counts(3, 0, 1, 196), 0.05, look=1, tests=10)
    assert result.verdict == "blind"
    assert explain(result) == "arithmetic: OLD gets 3 of 200 right: this guard cannot see a loss"
    assert overall([result]) == "undecided"


def test_blindness_ends_where_losing_everything_would_fail():
    failing = levels_of(1, 10).failing
    blind = [right for right in range(201) if is_blind(right, 200, 0.05, failing)]
    assert blind == list(range(len(blind)))
    most = len(blind) - 1
    for right, fails in ((most, False), (most + 1, True)):
        all_lost = rate_result("arithmetic", counts(0, right, 0, 200 - right), 0.05, 1, 10)
        assert (all_lost.verdict == "fail") is fails
    assert 0.05 * 200 < most < 0.10 * 200  # more than the margin, and less than twice the margin


@pytest.mark.parametrize(("right", "verdict"), [(range(24), "blind"), (range(0, 96, 4), "pass")])
def test_a_few_wishes_in_many_wordings_are_few_items(right: range, verdict: str):
    """200 items are four wordings of each of 50 wishes, and OLD has 24 right: all wordings of six wishes, whose loss
    could not be shown, or one wording of 24."""
    items = [
        GateItem(EvalRequest(str(n), ()), lambda answer: () if answer.text == "right" else ("wrong",), str(n // 4))
        for n in range(200)
    ]
    texts = {str(n): "right" if n in right else "wrong" for n in range(200)}
    said = {name: Completion(name, 0, 0, False, text, "stop", 0, "p", "t") for name, text in texts.items()}
    wrong = {name: Completion(name, 0, 0, False, "wrong", "stop", 0, "p", "t") for name in texts}
    same, lost = (measure_rate("refusal", items, (said, new), 0.05, 1, 10) for new in (said, wrong))
    assert same is not None
    assert lost is not None
    assert (same.verdict, lost.verdict == "fail") == (verdict, verdict == "pass")


def test_answers_of_one_length_need_many_items_and_all_answers():
    """20 answers without a change may hide a loss; of 200 a tenth must not be missing."""
    items = [GateItem(EvalRequest(str(number), ()), lambda answer: ()) for number in range(200)]
    said = {str(number): Completion(str(number), 0, 0, False, "a" * 400, "stop", 0, "p", "t") for number in range(200)}
    most = {name: answer for name, answer in said.items() if int(name) >= 20}
    for name in ("length", "lists"):
        margin = default_margin(name)
        few, all_, missing = (
            measure_of_form(name, asked, (said, new), margin, 1, 5)
            for asked, new in ((items[:20], said), (items, said), (items, most))
        )
        assert few is not None
        assert all_ is not None
        assert missing is not None
        assert (few.verdict, all_.verdict, missing.verdict) == ("undecided", "pass", "undecided")
        assert missing.skipped == {"no answer": 20}


def test_one_failing_guard_fails_all_must_pass_to_pass():
    passing = rate_result("a", counts(150, 0, 0, 50), 0.05, 1, 3)
    failing = rate_result("b", counts(40, 110, 2, 48), 0.05, 1, 3)
    open_ = rate_result("c", counts(120, 20, 12, 48), 0.05, 1, 3)
    assert overall([passing, passing]) == "pass"
    assert overall([passing, open_]) == "undecided"
    assert overall([passing, open_, failing]) == "fail"


def test_the_target_has_to_gain():
    levels = levels_of(1, 3)
    better = amount_result("judge", "target", mean_change([0.3, 0.5, 0.4] * 20, None, levels), 0.0, (0.1, 0.9), 1, 3)
    equal = amount_result("judge", "target", mean_change([0.5, -0.5] * 20, None, levels), 0.0, (0.5, 0.5), 1, 3)
    worse = amount_result("judge", "target", mean_change([-0.3, -0.5] * 20, None, levels), 0.0, (0.9, 0.1), 1, 3)
    assert [result.verdict for result in (better, equal, worse)] == ["pass", "undecided", "fail"]
    assert explain(worse).startswith("target: judge: change -40.0 [")


def test_more_guards_need_a_larger_loss_to_fail_and_no_larger_gain_to_pass():
    few, many = levels_of(1, 1), levels_of(1, 20)
    assert few.passing == many.passing
    assert many.failing == pytest.approx(few.failing / 20)


def test_a_damaged_file_is_one_error(tmp_path):
    from drift.errors import DataError

    (tmp_path / "gate.json").write_text('{"new": "a"}')
    with pytest.raises(DataError, match=r"gate\.json: against: Field required\. Delete it"):
        read_gate(tmp_path / "gate.json")


def test_a_gate_survives_its_file(tmp_path):
    result = GateResult(
        new="a", against="b", new_id="1", against_id="2", verdict="pass", why=(), target=None,
        guards=(rate_result("arithmetic", counts(150, 0, 0, 50), 0.05, 1, 10),), left_out=("kl",), look=1,
        confidence=0.96, error_rate=0.025, seed=0, items=200, seen_in_training=None,
    )  # fmt: skip
    (tmp_path / "gate.json").write_text(result.model_dump_json())
    assert read_gate(tmp_path / "gate.json") == result
    assert result.exit_code == 0
