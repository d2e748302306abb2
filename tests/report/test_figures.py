"""Charts take the page's colours and carry nothing that points elsewhere."""

import math
import re
import warnings
from types import SimpleNamespace
from typing import Any

from drift.report.figures import ChartPoint, Series, _running_mean, phases_chart, steps_chart
from drift.report.page import _steps


def test_phases_chart_draws_intervals_and_leaves_gaps():
    series = [
        Series("t <1>", (ChartPoint(0.5, 0.4, 0.6), None, ChartPoint(0.7))),
        Series("greedy", (None, None, ChartPoint(0.8))),
    ]
    svg = phases_chart("Utility & more", ["base", "warm start", "iteration 1"], series)
    assert svg.startswith('<svg role="img" aria-label="Utility &amp; more"')
    assert "t &lt;1&gt;" in svg
    assert ">iteration 1</text>" in svg
    assert "var(--series-1)" in svg
    assert "var(--series-2)" in svg
    assert "http" not in svg
    assert not re.search("#0102", svg)


def test_steps_chart_names_its_phases_and_survives_gaps():
    svg = steps_chart("Margin", ["warm start", "iteration 1"], [[0.1, None, 0.3], [0.0] * 50])
    assert ">warm start</text>" in svg
    assert ">iteration 1</text>" in svg


def test_a_phase_that_begins_with_a_long_gap_keeps_its_name_inside_the_chart():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # else matplotlib gives up the layout
        svg = steps_chart("Margin", ["warm start", "iteration 1"], [[None] * 80, [0.0] * 5])
    assert ">warm start</text>" in svg


def test_charts_of_one_page_do_not_share_ids():
    series = [Series("a", (ChartPoint(1.0), ChartPoint(2.0)))]
    ids = [set(re.findall(r'id="([^"]+)"', phases_chart(title, ["x", "y"], series))) for title in ("One", "Two")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_running_mean_skips_gaps():
    assert _running_mean([1.0, 3.0, math.nan, 5.0], 1) == [2.0, 2.0, 4.0, 5.0]


def test_a_training_without_margins_is_not_in_their_chart():
    phases: Any = [SimpleNamespace(name="liked replies"), SimpleNamespace(name="iteration 1")]
    chart = _steps("Margin", phases, [[None] * 3, [0.1, 0.2]])
    assert chart
    assert ">liked replies</text>" not in chart
    assert ">iteration 1</text>" in chart
