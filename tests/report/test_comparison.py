"""The page of a comparison: arms side by side, from its folder alone, with and without the run folders beside it."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

from drift.errors import DataError
from drift.report import report_on
from drift.report.comparison.page import significance
from report_folders import write_cells, write_folder

TEXT = re.compile(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", re.DOTALL)


def read_page(folder: Path) -> tuple[str, str]:
    html = report_on(folder).read_text()
    return html, " ".join(unescape(TEXT.sub(" ", html)).split())


def test_what_is_told_apart_comes_first(tmp_path: Path):
    html, words = read_page(write_folder(tmp_path / "runs"))
    assert "ours gained most 0.600 → 0.700 +0.100 +0.050 to +0.150" in words
    assert (
        "Of 3 arms, 1 is better than the warm start that they began with, 1 is worse, 1 without a clear difference."
        in words
    )
    assert "ours − theirs ours is better +0.120" in words
    assert "worst − theirs worst is worse −0.180" in words
    assert "theirs − ours no clear difference" in words
    assert html.count("<svg") == 2 + 3  # gains, differences, and a chart for each arm


def test_every_plot_has_its_numbers_in_a_table(tmp_path: Path):
    _, words = read_page(write_folder(tmp_path / "runs"))
    assert "ours 0.600 0.550 to 0.650 0.700 0.650 to 0.750 0.700 0.650 to 0.750" in words  # by iteration
    assert "ours 0.88 / 0.10 0.87 / 0.11" in words
    assert "ours 0.710 0.690" in words  # run by run
    assert "ours 0.010 0.020 1, 2" in words  # what the stop rule would have cost
    assert "settings are unknown" in words


def test_run_folders_add_settings_drops_and_versions(tmp_path: Path):
    folder = write_folder(tmp_path / "runs")
    write_cells(folder, ours="drift", theirs="spin", worst="spin")
    html, words = read_page(folder)
    assert "arm recipe.name ours drift theirs spin worst spin" in words
    assert "ours 16 2 chosen is rejected 12" in words  # 2 runs of 2 iterations with 3 each
    assert (
        "Dropped before the first iteration, over all runs of the first arm (another warm start or other logs" in words
    )
    assert "drop other rows): abuse 4" in words
    assert "prompt too long" not in words
    assert "iterations: 2" in words
    assert "seed: 1" not in html
    assert "None" not in words


def test_names_cannot_become_markup_and_nothing_is_loaded(tmp_path: Path):
    html, _ = read_page(write_folder(tmp_path / "runs", "<script>alert(1)</script>"))
    assert "<script" not in html
    assert [link for link in re.findall(r'(?:src|href)="([^"]*)"', html) if not link.startswith("#")] == []
    assert re.findall(r"@import|url\((?!#)", html) == []


def test_a_folder_without_a_comparison_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="neither a run"):
        report_on(tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(DataError, match="not a finished comparison"):
        report_on(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(DataError, match=r"results\.json: invalid comparison: world"):
        report_on(tmp_path)


@pytest.mark.parametrize(
    ("found", "tone"), [((0.1, 0.01, 0.2), "better"), ((-0.1, -0.2, -0.01), "worse"), ((0.1, 0.0, 0.2), "unclear")]
)
def test_a_difference_is_told_only_if_its_interval_leaves_out_zero(found, tone):
    assert significance(found).tone == tone
