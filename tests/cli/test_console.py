"""What people see where no bar can be drawn."""

import io
import time
from dataclasses import dataclass

import pytest

from drift import progress
from drift.cli import console as shown
from drift.engine import in_pieces
from drift.progress import UnderWay, report_progress


@dataclass(frozen=True, slots=True)
class Squared:
    number: int


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
        "  61.0 s  iteration-1/completions.jsonl: 2 of 10, 3 tokens/s, about 248 s left",
        " 122.0 s  iteration-1/completions.jsonl: 8 of 10, 8 tokens/s, about 26 s left",
    ]


def test_a_task_without_a_known_size_says_how_much_is_done(clock, capsys):
    with shown.progress("reading"):
        clock[0] += 75
        report_progress(5, 0)
    assert capsys.readouterr().err.splitlines() == ["  75.0 s  reading: 5 done"]


def test_a_part_of_a_task_says_nothing_about_how_fast_the_next_one_is(clock, capsys):
    with shown.progress("comparing"):
        for done, total, seconds in ((0, 1, 0), (1, 1, 50), (0, 10, 50), (2, 10, 110)):
            clock[0] = 1000.0 + seconds
            report_progress(done, total)
    assert capsys.readouterr().err.splitlines() == [" 110.0 s  comparing: 2 of 10, 2 a minute, about 240 s left"]


def test_the_clock_is_that_of_the_command_and_each_part_has_a_rate_of_its_own(clock, capsys):
    with shown.watching_stages() as on_stage:
        clock[0] += 100
        on_stage("base/evaluation.json", "running", {})
        for done, total, tokens, seconds in (
            (0, 7, 0, 0),
            (7, 7, 0, 5),
            (0, 100, 0, 5),
            (0, 100, 0, 61),
            (50, 100, 4000, 125),
        ):
            clock[0] = 1100.0 + seconds
            report_progress(done, total, tokens)
    assert capsys.readouterr().err.splitlines() == [
        " 161.0 s  base/evaluation.json: 0 of 100",
        " 225.0 s  base/evaluation.json: 50 of 100, 33 tokens/s, about 120 s left",
    ]


def test_replies_that_are_not_finished_count_for_the_time_left(clock, capsys):
    """A batch of 100 replies of up to 160 tokens, of which nearly all reach the limit: 7.5 s a token."""
    with shown.watching_stages() as on_stage:
        on_stage("iteration-1/evaluation.json", "running", {})
        report_progress(0, 200)
        for step, finished in ((16, 0), (40, 1), (80, 3), (120, 9), (160, 100), (240, 103)):
            clock[0] = 1000.0 + step * 7.5
            live = -finished % 100
            tokens_of_batch = step % 160
            report_progress(finished, 200, step * 90, UnderWay(live, live * tokens_of_batch / 160))
    assert [line.partition("tokens/s")[2] for line in capsys.readouterr().err.splitlines()] == [
        "",  # one reply in a hundred is done, and the others may end soon or late
        "",
        ", about 1,730 s left",  # 1,800 s are right
        ", about 1,430 s left",  # 1,500
        ", about 1,200 s left",
        ", about 576 s left",  # 600
    ]


def test_what_was_done_before_the_first_report_makes_no_stage_faster(clock, capsys):
    """A batch of 64 replies of 48 tokens, 10 s a token, reported first after 8."""
    with shown.watching_stages() as on_stage:
        on_stage("iteration-1/completions.jsonl", "running", {})
        for step in (8, 24, 32, 40):
            clock[0] = 1000.0 + step * 10
            report_progress(0, 64, step * 64, UnderWay(64, 64 * step / 48))
    left = [line.partition("tokens/s")[2] for line in capsys.readouterr().err.splitlines()]
    assert left == ["", ", about 240 s left", ", about 160 s left", ", about 80 s left"]


def test_the_clock_of_a_bar_goes_on_in_the_next_part(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(shown, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(shown, "console", shown._SafeConsole(file=terminal, force_terminal=True, width=100))
    with shown.progress("comparing"):
        for done in (0, 1, 0):  # logs, then a warm start
            report_progress(done, 1)
        time.sleep(1.3)
    assert "0:00:01" in terminal.getvalue()


class Square:
    """Pieces of the engine, each of which takes half a minute of the test's clock."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock

    def __call__(self, number: int) -> Squared:
        self.clock[0] += 30
        return Squared(number * number)


def test_pieces_of_the_engine_say_how_many_are_left_and_count_no_earlier_ones(clock, capsys, tmp_path):
    def run() -> list[Squared]:
        return in_pieces(Square(clock), range(8), Squared, tmp_path / "journal", "plan")

    with shown.progress("labels"):
        run()
    assert capsys.readouterr().err.splitlines() == [
        "  60.0 s  labels: 2 of 8, 2 a minute, about 180 s left",
        " 120.0 s  labels: 4 of 8, 2 a minute, about 120 s left",
        " 180.0 s  labels: 6 of 8, 2 a minute, about 60 s left",
        " 240.0 s  labels: 8 of 8, 2 a minute, about 0 s left",
    ]
    shard = tmp_path / "journal" / "shard-0001.jsonl"
    shard.write_bytes(b"".join(shard.read_bytes().splitlines(keepends=True)[:5]))
    with shown.progress("labels"):
        run()
    assert capsys.readouterr().err.splitlines()[1:] == ["  60.0 s  labels: 7 of 8, 2 a minute, about 30 s left"]


def test_a_piece_that_takes_minutes_is_no_silence(capsys, monkeypatch):
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.06)
    with shown.watching_stages() as on_stage:
        on_stage("iteration-1/policy", "running", {})
        report_progress(3, 10)
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.endswith("iteration-1/policy: 3 of 10") for line in lines)


def test_what_strangers_wrote_does_not_control_the_terminal(capsys):
    shown.console.print("a\x1b[31m\x07b\nd\x9b2J\r \u202etxet\u202c \u00e9 [bold]x", markup=False, soft_wrap=True)
    assert capsys.readouterr().err == "a\\x1b[31m\\x07b\nd\\x9b2J\\r \\u202etxet\\u202c \u00e9 [bold]x\n"


def test_a_share_of_zero_is_shown_and_a_count_of_zero_is_not(capsys):
    with shown.watching_stages() as on_stage:
        on_stage("iteration-1/evaluation.json", "done", {"finished": 0.0, "dropped.empty": 0, "given_up": None})
    assert capsys.readouterr().err.strip().endswith("iteration-1/evaluation.json  finished 0")


def test_names_that_people_type_again_keep_their_underscores(capsys):
    shown.summary({"runs/my_run": {"median_tokens": 12}}, as_json=False, keep_names=True)
    shown.summary({"median_tokens": 12}, as_json=False)
    assert capsys.readouterr().err.splitlines() == ["runs/my_run  median_tokens 12", "median tokens  12"]
