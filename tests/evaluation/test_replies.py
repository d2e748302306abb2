"""What the replies to held-out prompts show, and when a change of them ends a run."""

from pathlib import Path

import pytest

from drift.config import RECIPE_RULES, PolicySettings, RecipeSettings, SamplingSettings, StopSettings, parse_config
from drift.errors import ConfigError
from drift.evaluation.replies import (
    OF_WARM_START,
    few_finish,
    measure_replies,
    remedies_of,
    repetition,
    reply_statistics,
    what_worsened,
)
from drift.evaluation.results import Evaluation, ReplyMeasure, ReplyStatistics, write_result
from drift.evaluation.stopping import keep_best, should_stop, unseen_replies
from drift.policy.decode import Generated
from drift.policy.model import load_policy
from drift.records import ChatMessage, PromptItem


def replies(finished: int, tokens: int, count: int = 100, factors: tuple[float, ...] = (1.0, 1.2)) -> ReplyStatistics:
    """`finished` of `count` replies end; lengths around `tokens`."""
    each = tuple(
        ReplyMeasure(prompt=i, finished=i < finished, tokens=round(tokens * factors[i % len(factors)]), repetition=0.0)
        for i in range(count)
    )
    share = finished / count
    return ReplyStatistics(
        prompts=count, finished=share, finished_low=share, finished_high=share, median_tokens=tokens,
        p90_tokens=tokens, repetition=0.0, each=each,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("a b c d e f", 0.0),
        ("a b c d a b c d", 0.2),  # five runs of four words, one of them twice
        ("go go go go go go go", 0.75),  # four equal runs
        ("\u6211\u4e0d\u77e5\u9053\u6211\u4e0d\u77e5\u9053", 0.2),  # words without spaces: as abcdabcd
    ],
)
def test_repetition_by_hand(text, share):
    assert repetition(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("now", "cause"),
    [
        (replies(90, 50), ""),
        (replies(85, 50), ""),  # ten points less are the limit
        (replies(79, 50), "only 79% of 100 held-out replies end within the token limit, against 95%"),
        (replies(95, 74), ""),  # a factor of 1.48
        (replies(95, 80), "longer by a factor of 1.59"),
        (replies(95, 30), "shorter by a factor of 1.6"),
    ],
)
def test_a_change_beyond_its_limit_is_named(now, cause):
    found = what_worsened(replies(95, 50), now)
    assert cause in found
    assert bool(found) == bool(cause)


def test_a_change_within_its_noise_is_none():
    """Five replies of which one does not end any more: a fall of .2, but its standard error is .2 too."""
    before, after = replies(5, 50, count=5), replies(4, 50, count=5)
    assert what_worsened(before, after) == ""
    assert what_worsened(replies(4, 50, count=4), replies(0, 50, count=4)) == ""  # too few to say anything


def written(folder: Path, steps: list[ReplyStatistics]) -> tuple[Path, ...]:
    paths = tuple(folder / f"{i}.json" for i in range(len(steps)))
    for path, step in zip(paths, steps, strict=True):
        write_result(path, Evaluation(replies=step))
    return paths


def test_a_warm_start_is_compared_with_the_base_and_its_own_settings_are_named():
    cause = what_worsened(replies(95, 50), replies(40, 79), "base", OF_WARM_START)
    assert "only 40% of 100 held-out replies end within the token limit, against 95% at the base" in cause
    assert cause.endswith("Lower warm_start.learning_rate or warm_start.epochs, or raise sampling.max_new_tokens.")
    longer = what_worsened(replies(95, 50), replies(95, 100), "base", OF_WARM_START)
    assert "50 at the base): what the warm start learned from may teach length" in longer


@pytest.mark.parametrize("name", RECIPE_RULES)
def test_the_advice_is_what_the_config_accepts_and_all_of_it(name, tmp_path):
    rules = RECIPE_RULES[name]
    scored = {"scorer": {"name": "self"}} if rules.ranks else {}
    recipe = {"name": name, "samples": 2 if rules.ranks else 1, **scored}
    tree = {"recipe": recipe, "training": {"loss": rules.loss or "sigmoid"}}

    def accepts(changes: dict) -> bool:
        try:
            parse_config({key: {**tree[key], **changes.get(key, {})} for key in tree}, "test")
        except ConfigError:
            return False
        return True

    cfg = parse_config(tree, "test")
    advice = remedies_of(cfg.recipe, cfg.training.loss)
    assert ("anchored_hinge" in advice.unfinished) == accepts({"training": {"loss": "anchored_hinge"}})
    matched = accepts({"recipe": {"match_length": True, "samples": 2}})
    assert ("Set recipe.match_length: true with recipe.samples: 2" in advice.length) == matched
    assert ("pairs" in advice.length) == rules.makes_pairs
    paths = written(tmp_path, [replies(95, 50), replies(95, 100)])
    assert should_stop(paths, StopSettings(), advice).why.endswith(f"{advice.length} The warm start is kept.")


def test_no_advice_names_what_is_set_already():
    set_already = {"samples": 3, "match_length": True}
    advice = remedies_of(RecipeSettings.model_validate(set_already), "anchored_hinge")
    assert advice.unfinished == "Lower training.learning_rate or raise sampling.max_new_tokens."
    assert advice.length == "the pairs may teach length instead of quality. Lower training.learning_rate."
    three = remedies_of(RecipeSettings(samples=3), "sigmoid").length
    assert three.endswith("Set recipe.match_length: true, or lower training.learning_rate.")


def test_most_replies_cut_before_any_training_are_said():
    assert few_finish(replies(50, 50), 64) == few_finish(None, 64) == few_finish(replies(0, 50, count=4), 64) == ""
    warning = few_finish(replies(49, 50), 64)
    assert "only 49% of 100 held-out replies end within the token limit (sampling.max_new_tokens: 64)" in warning


def test_too_few_held_out_replies_are_said(tmp_path):
    paths = written(tmp_path, [replies(5, 50, count=5), replies(4, 50, count=4)])
    assert unseen_replies(paths[:1]) == ""
    assert unseen_replies(paths).startswith("Warning: 4 held-out requests were answered, too few to see whether")
    write_result(paths[1], Evaluation())
    assert unseen_replies(paths).startswith("Warning: 0 held-out requests")


def test_a_run_that_unlearns_to_end_stops_and_keeps_the_iteration_before(tmp_path):
    paths = written(tmp_path, [replies(95, 50), replies(93, 55), replies(9, 79)])
    verdict = should_stop(paths, StopSettings())
    assert verdict.stops
    assert "stopped after iteration 2: only 9% of 100 held-out replies end" in verdict.why
    assert verdict.why.endswith("Iteration 1 is kept.")
    policies = tuple(tmp_path / name for name in ("warm", "one", "two"))
    for policy in policies:
        policy.mkdir()
        (policy / "name").write_text(policy.name)
    assert keep_best(tmp_path / "kept", policies, paths, StopSettings(), PolicySettings()) == {"iteration": 1}
    assert (tmp_path / "kept" / "name").read_text() == "one"


def test_without_a_stop_rule_the_run_goes_on_and_the_warning_stands(tmp_path):
    paths = written(tmp_path, [replies(95, 50), replies(9, 79), replies(9, 79)])
    verdict = should_stop(paths, StopSettings(rule="none"))
    assert not verdict.stops
    assert "the last policy is kept. Warning: since iteration 1, only 9% of 100 held-out replies end" in verdict.why


def test_replies_of_a_policy_are_measured(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    prompts = [(ChatMessage("user", f"Please tell me about the number {n} and its friends."),) for n in range(4)]
    measured = measure_replies(policy, prompts, SamplingSettings(max_new_tokens=8), seed=1)
    assert measured is not None
    assert (measured.prompts, len(measured.each)) == (4, 4)
    assert all(1 <= measure.tokens <= 8 for measure in measured.each)
    assert measured.finished == sum(measure.finished for measure in measured.each) / 4
    assert measure_replies(policy, prompts, SamplingSettings(max_new_tokens=8), seed=1) == measured
    assert measure_replies(policy, [], SamplingSettings(), seed=1) is None


def test_the_replies_to_one_user_count_together():
    """Ten replies to one user end, one each to ten users does not: the golden interval of tests/test_statistics.py.

    Before, all ended. The share fell by .5 and its standard error over users is .275, of which twice is more."""
    ends, cut = Generated("so", (1,), "stop"), Generated("so", (1,), "length")
    request = (ChatMessage("user", "Why?"),)
    users = ["anna"] * 10 + [f"user {n}" for n in range(10)]
    rows = [PromptItem(f"p{n}", f"c{n}", 1, request, "test", user_key=user) for n, user in enumerate(users)]
    before, after = (reply_statistics([request] * 20, each, rows) for each in ([ends] * 20, [ends] * 10 + [cut] * 10))
    alone = reply_statistics([request] * 20, [ends] * 10 + [cut] * 10)
    assert before is not None
    assert after is not None
    assert alone is not None
    assert (after.finished, after.finished_low, after.finished_high) == (0.5, 0.0, 30 / 38)
    assert (alone.finished_low, alone.finished_high) == pytest.approx((0.3, 0.7), abs=0.01)
    assert what_worsened(before, after) == ""
    assert "only 50% of 20 held-out replies end" in what_worsened(before, alone)


def test_a_policy_that_has_tools_is_measured_with_them(tiny_policy):
    """The template names the tools, so with schemas that are too long for the context no prompt fits."""
    policy = load_policy(tiny_policy, PolicySettings())
    policy.tokenizer.chat_template = "{{ tools }}" + str(policy.tokenizer.chat_template)
    prompts = [(ChatMessage("user", "What is my balance?"),)] * 2
    schema = '[{"type": "function", "function": {"name": "%s"}}]'
    sampling = SamplingSettings(max_new_tokens=4, max_prompt_length=200)
    one_fits = measure_replies(policy, prompts, sampling, 1, tools=[schema % "balance", schema % ("x" * 400)])
    assert one_fits is not None
    assert one_fits.prompts == 1


def test_the_language_of_four_replies_is_no_share():
    request = (ChatMessage("user", "Please tell me what the weather will be like in London tomorrow."),)
    german = Generated("Das Wetter wird morgen leider sehr schlecht, es regnet den ganzen Tag.", (1, 2), "stop")
    english = Generated("The weather will be rather bad tomorrow, it will rain the whole day.", (1, 2), "stop")
    four, five = [german, english, english, english], [german, english, english, english, english]
    measured = [reply_statistics([request] * len(each), each) for each in (four, five)]
    assert [each and each.same_language for each in measured] == [None, 0.8]
