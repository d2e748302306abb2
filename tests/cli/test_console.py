"""What people see where no bar can be drawn."""

import pytest

from drift.cli import console as shown
from drift.progress import report_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def test_a_long_stage_gives_a_sign_of_life_once_a_minute(clock, capsys):
    with shown.watching_stages() as on_stage:
        on_stage("iteration-1/completions.jsonl", "running", {})
        for done, seconds in ((1, 30), (2, 61), (3, 90), (8, 122)):
            clock[0] = 1000.0 + seconds
            report_progress(done, 10, done * 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "  61.0 s  iteration-1/completions.jsonl: 2 of 10, 3 tokens/s, about 244 s left",
        " 122.0 s  iteration-1/completions.jsonl: 8 of 10, 7 tokens/s, about 30 s left",
    ]


def test_a_task_without_a_known_size_says_how_much_is_done(clock, capsys):
    with shown.progress("reading"):
        clock[0] += 75
        report_progress(5, 0)
    assert capsys.readouterr().err.splitlines() == ["  75.0 s  reading: 5 done"]
