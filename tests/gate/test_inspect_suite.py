"""Suites of inspect-ai: scores as numbers, pairs by sample; and a real task where inspect-ai is installed."""

import pytest
import torch

from drift.config import PolicySettings
from drift.errors import PrerequisiteError
from drift.gate.guards.inspect_suite import check_installed, measure_scores, sample_scores, score_value
from drift.gate.plan import GateSettings
from drift.gate.sides import AskedModel
from drift.policy.model import load_policy, save_policy


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("C", 1.0),
        ("I", 0.0),
        ("P", 0.5),
        (True, 1.0),
        (0.25, 0.25),
        (3, 3.0),
        ("?", None),
        (None, None),
        ({"prompt_level_strict": True, "inst_level_strict": 0}, 1.0),
        ([0.5, 1], 0.5),
        ({}, None),
        ([], None),
    ],
)
def test_a_score_as_a_number(value, number):
    assert score_value(value) == number


def test_samples_are_paired_by_their_ids():
    old, new = {"a": 1.0, "b": 0.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "d": 1.0}
    result = measure_scores("ifeval", (old, new), 0.05, 1, 2)
    assert result is not None
    assert (result.items, result.old, result.new, result.change) == (2, 0.5, 1.0, 0.5)
    assert result.skipped == {"scored for one model alone": 2}
    assert measure_scores("ifeval", ({"a": 1.0}, {"a": 1.0}), 0.05, 1, 2) is None


def test_what_nobody_scored_is_counted_and_does_not_pass():
    """Of 200 samples 190 did not change; without a score for 30 of them there is no pass."""
    scores = {f"{number}/1": 1.0 for number in range(200)}
    gaps = {f"{number}/1": None for number in range(30)}
    whole = measure_scores("ifeval", (scores, scores), 0.05, 1, 2)
    some = measure_scores("ifeval", (scores | gaps, scores | gaps), 0.05, 1, 2)
    assert whole is not None
    assert some is not None
    assert (whole.verdict, some.verdict) == ("pass", "undecided")
    assert some.skipped == {"scored for neither model": 30}
    assert "30 of 200 items could not be compared" in some.note


def test_without_a_change_few_samples_do_not_pass():
    """A loss of .10 leaves 20 samples without a change in 12 % of all cases; four epochs are no further samples."""
    few = {f"{number}/1": 1.0 for number in range(20)}
    epochs = {f"{number}/{epoch}": 1.0 for number in range(20) for epoch in (1, 2, 3, 4)}
    for scores in (few, epochs):
        result = measure_scores("ifeval", (scores, scores), 0.10, 1, 2)
        assert result is not None
        assert (result.verdict, round(result.low, 2)) == ("undecided", -0.18)


def test_the_means_are_those_of_the_samples_as_the_change_is():
    """Sample a has four epochs and b one: over epochs OLD would have .8 and NEW 1, beside a change of .5."""
    old = {"a/1": 1.0, "a/2": 1.0, "a/3": 1.0, "a/4": 1.0, "b/1": 0.0, "b/2": None, "b/3": None, "b/4": None}
    result = measure_scores("ifeval", (old, dict.fromkeys(old, 1.0)), 0.05, 1, 2)
    assert result is not None
    assert (result.items, result.old, result.new, result.change) == (5, 0.5, 1.0, 0.5)


def test_other_weights_have_another_folder_of_logs(tmp_path, tiny_policy):
    """The scores of a former model in the same --out are not those of the next one."""
    other = tmp_path / "other"
    policy = load_policy(tiny_policy, PolicySettings())
    with torch.no_grad():
        next(policy.model.parameters()).add_(1.0)
    save_policy(policy, other)
    settings = GateSettings(str(other), str(tiny_policy), tmp_path / "out")
    sources = (str(tiny_policy), str(other), "http://a/v1#m", "http://b/v1#m")
    assert len({AskedModel(source, settings).folder for source in sources}) == len(sources)


def test_without_the_extra_the_remedy_is_named():
    try:
        import inspect_evals  # noqa: F401
    except ImportError:
        with pytest.raises(PrerequisiteError, match=r"pip install 'drift-training\[gate\]'"):
            check_installed("inspect_evals/ifeval")
    else:
        check_installed("inspect_evals/ifeval")


def test_a_real_task_against_a_server(tmp_path, serve, said):
    """One of two samples is right; the second call reads the log and asks nothing."""
    inspect_ai = pytest.importorskip("inspect_ai", reason="needs pip install 'drift-training[gate]'")
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import exact
    from inspect_ai.solver import generate

    task = inspect_ai.Task(
        dataset=[Sample(id="a", input="2 + 2?", target="4"), Sample(id="b", input="2 + 3?", target="5")],
        solver=generate(),
        scorer=exact(),
        name="sums",
    )
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    choice = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
    reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    server = serve(lambda path, body, number: said(reply))
    scores = sample_scores(task, f"{server.url}#m", tmp_path / "logs", 2)
    assert scores == {"a/1": 1.0, "b/1": 0.0}
    asked = len(server.chats())
    assert sample_scores(task, f"{server.url}#m", tmp_path / "logs", 2) == scores
    assert len(server.chats()) == asked
