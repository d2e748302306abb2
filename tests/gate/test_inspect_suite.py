"""Suites of inspect-ai: scores as numbers, pairs by sample; and a real task where inspect-ai is installed."""

import pytest

from drift.errors import PrerequisiteError
from drift.gate.guards.inspect_suite import check_installed, measure_scores, sample_scores, score_value


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
