"""The page of a gate: what it says, and that texts from outside cannot break it."""

import pytest

from drift.report.gate import from_limit, write_gate_page
from gate_results import some_gate


def test_the_page_says_what_failed_and_what_is_blind(tmp_path):
    page = write_gate_page(some_gate(), tmp_path / "report.html").read_text()
    assert "Fail: the new model should not go out" in page
    assert "refusal: OLD gets 3 of 200 right: this guard cannot see a loss" in page
    assert "more items would decide" in page
    assert "Left out by whoever ran it: perplexity." in page
    assert "harmful requests are refused" in page.lower()
    assert ">50</td>" in page
    assert ">158</td>" in page


def test_texts_are_escaped(tmp_path):
    page = write_gate_page(some_gate("<script>alert('x')</script>\x00"), tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x00" not in page


def test_the_distance_from_the_limit_in_margins():
    """A change of -54 points at a margin of 5 is 9.8 margins outside, drawn at the edge; no change is 1 inside."""
    arithmetic, _, _, length, kl = some_gate().guards
    assert from_limit(arithmetic).value == -4.0
    assert from_limit(kl).value == pytest.approx(1 - 0.015 / 0.2)
    change = abs(length.change)
    assert from_limit(length).value == pytest.approx(1 - change / 0.4)
    assert from_limit(length).high == 1.0  # no change at all is inside of the interval
