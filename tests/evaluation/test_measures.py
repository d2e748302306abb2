"""Preference and utility of a small random policy: what must hold whatever its weights are."""

from dataclasses import replace
from pathlib import Path

import pytest

from drift.config import EvaluationSettings, PolicySettings, SamplingSettings
from drift.evaluation.preference import measure_preference
from drift.evaluation.results import Asker, PreferenceResult, read_evaluation
from drift.evaluation.utility import measure_improvement, measure_utility, sample_heldout
from drift.policy.model import load_policy
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, Truth, write_jsonl


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_policy(tiny_policy, PolicySettings())


def pair(chosen: str, rejected: str) -> PreferencePair:
    prompt, replies = (ChatMessage("user", "add 2 and 3"),), (ChatMessage("assistant", t) for t in (chosen, rejected))
    return PreferencePair("p", "q", "c", 1, "drift", 0, "abc", prompt, *((reply,) for reply in replies))


def test_swapping_the_replies_turns_the_preference_round(policy):
    pairs = [pair("five", "six"), pair("5", "I cannot do this"), pair("3 2", "2 3")]
    swapped = [pair(p.rejected[0].content, p.chosen[0].content) for p in pairs]
    one, other = (measure_preference(policy, some, 512) for some in (pairs, swapped))
    assert one is not None
    assert other is not None
    assert one.accuracy + other.accuracy == pytest.approx(1.0)
    assert one.margin == pytest.approx(-other.margin, abs=1e-4)
    assert one.logps_chosen < 0


def test_an_interval_draws_the_pairs_of_one_user_together(policy):
    """The golden interval of tests/test_statistics.py: ten pairs of one user are right, one each of ten users wrong."""
    first, second = pair("five", "six"), pair("six", "five")
    right, wrong = (first, second) if _is_right(policy, first) else (second, first)
    pairs = [replace(right, user_key="anna")] * 10 + [replace(wrong, user_key=f"user {n}") for n in range(10)]
    of_users = measure_preference(policy, pairs, 512)
    assert of_users is not None
    assert (of_users.accuracy, of_users.accuracy_low, of_users.accuracy_high) == (0.5, 0.0, 30 / 38)
    chats = [replace(one, user_key="anna", family=one.user_key, conversation_id=f"{i}") for i, one in enumerate(pairs)]
    assert measure_preference(policy, chats, 512) == of_users  # a single user wrote all: whole chats count


def _is_right(policy, one: PreferencePair) -> bool:
    found = measure_preference(policy, [one], 512)
    return found is not None and found.accuracy == 1.0


def test_an_evaluation_of_an_earlier_version_names_nobody(tmp_path):
    """Each of its prompts counts as one of its own."""
    path = tmp_path / "evaluation.json"
    path.write_text(
        '{"replies": {"prompts": 1, "finished": 1, "finished_low": 1, "finished_high": 1, "median_tokens": 3,'
        ' "p90_tokens": 3, "repetition": 0, "each": [{"prompt": 0, "finished": true, "tokens": 3, "repetition": 0}]}}'
    )
    evaluation = read_evaluation(path)
    assert evaluation.replies is not None
    assert evaluation.replies.each[0].whose == Asker(user="0", chat="0")
    assert evaluation.whose(["a", "b"]) == [Asker(user="a", chat="a"), Asker(user="b", chat="b")]


def test_pairs_that_do_not_fit_are_left_out(policy):
    assert measure_preference(policy, [], 512) is None
    assert measure_preference(policy, [pair("five " * 400, "six")], 512) is None


class Vowels:
    """A world in which every vowel is worth something."""

    def score(self, prompt, completion, finish="stop"):
        return float(sum(completion.count(vowel) for vowel in "aeiou"))


def utilities(policy, truth, settings, sampling, seed, work=None):
    prompts = truth.prompts[: settings.max_prompts]
    heldout = sample_heldout(policy, prompts, settings, sampling, seed, work)
    return [measure_utility(prompts, replies, truth) for replies in heldout]


def test_utility_is_repeatable_and_greedy_needs_no_samples(policy):
    prompts = tuple((ChatMessage("user", f"say {n}"),) for n in range(6))
    truth, sampling = Truth(prompts, Vowels(), "vowels"), SamplingSettings(max_new_tokens=12, max_prompt_length=256)
    settings = EvaluationSettings(temperatures=(1.0, 0.0), samples=3, max_prompts=4)
    first, again = (utilities(policy, truth, settings, sampling, seed=1) for _ in range(2))
    assert first == again
    assert [(result.temperature, result.prompts) for result in first] == [(1.0, 4), (0.0, 4)]
    assert all(result.low <= result.mean <= result.high for result in first)
    assert utilities(policy, truth, settings, sampling, seed=2)[1] == first[1]


class Finished:
    """A world in which a reply is right if it ends."""

    def score(self, prompt, completion, finish="stop"):
        return float(finish == "stop")


def test_the_truth_is_told_whether_a_reply_was_cut(policy, tmp_path):
    prompts, sampling = ((ChatMessage("user", "say a"),),), SamplingSettings(max_new_tokens=1, max_prompt_length=256)
    cut = utilities(policy, Truth(prompts, Finished(), "finished"), EvaluationSettings(samples=8), sampling, seed=1)
    assert cut[0].mean < 0.5  # one token is hardly ever the end
    rows = [replace(pair("five", "six"), finish="length"), replace(pair("5", "6"), rejected_finish="length")]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    measured = tmp_path / "improvement.json"
    counts = measure_improvement(measured, tmp_path / "pairs.jsonl", Truth(prompts, Finished(), "finished"))
    assert counts == {"p_imp": 0.5, "worse": 0.5}


def test_replies_of_a_stopped_evaluation_are_not_made_again(policy, tmp_path):
    prompts = tuple((ChatMessage("user", f"say {n}"),) for n in range(6))
    sampling = SamplingSettings(max_new_tokens=12, max_prompt_length=256, batch_tokens=120)
    settings = EvaluationSettings(temperatures=(1.0, 0.5), samples=2)

    def measured(work: Path | None, stops: bool = False):
        made: list[int] = []

        def listen(done: int, total: int, tokens: int) -> None:
            made.append(tokens)
            if stops and done == total / 2:  # of two temperatures, the first has all its replies
                raise KeyboardInterrupt

        with listening(listen):
            return utilities(policy, Truth(prompts, Vowels(), "vowels"), settings, sampling, 1, work), made

    expected, _ = measured(None)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, stops=True)
    assert (tmp_path / "temperature-1" / "shard-0001.jsonl").read_bytes().count(b"\n") > 1
    found, made = measured(tmp_path)
    assert found == expected
    assert made[0] == 0  # nothing was sampled at the first temperature
    assert made[-1] > 0


@pytest.mark.parametrize(
    ("accuracy", "low", "length", "explains"),
    [
        (1.0, 1.0, 0.984, True),  # all right, but the shorter reply is the chosen one in nearly every pair
        (0.9, 0.8, 0.82, True),  # inside the interval
        (0.9, 0.88, 0.86, True),  # within .05
        (0.9, 0.88, 0.7, False),
        (0.5, 0.4, 0.52, False),  # neither is better than chance
        (0.9, 0.88, None, False),  # an evaluation of an earlier version
    ],
)
def test_length_explains_an_accuracy_that_it_reaches(accuracy, low, length, explains):
    result = PreferenceResult(
        accuracy=accuracy, accuracy_low=low, accuracy_high=1.0, margin=1.0, logps_chosen=-1.0, pairs=40,
        length_accuracy=length,
    )  # fmt: skip
    assert result.length_explains is explains
