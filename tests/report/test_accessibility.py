"""The reports by keyboard, on a phone, and for a screen reader."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browser import axe_script, browser, sideways, violations
from drift.live.page import write_live
from drift.live.readout import read_live
from drift.report import report_on, write_report
from drift.report.gate import write_gate_page
from drift.rundir import layout
from gate_results import some_gate
from live_stores import Deployment, days
from report_folders import write_cells, write_folder

MakeRun = Callable[..., Path]


class Structure(HTMLParser):
    """Each element with its attributes, and the text of each table heading."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.headings: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "th":
            self.headings.append("")

    def handle_data(self, data: str) -> None:
        if any(tag == "th" for tag, _ in self.elements[-2:]) and self.headings:
            self.headings[-1] += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module", params=["run", "comparison", "gate", "run with a gate", "live"])
def report(request, make_run_in: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    if request.param == "run":
        return write_report(make_run_in(folder))
    if request.param == "gate":
        return write_gate_page(some_gate(), folder / "report.html")
    if request.param == "run with a gate":
        run = make_run_in(folder)
        (run / layout.GATE).write_text(some_gate().model_dump_json())
        return write_report(run)
    if request.param == "live":
        deployment = Deployment(folder / "store")
        for model in ("old", "new"):
            deployment.days(model, days(1, 5), 20, 4)
        return write_live(read_live(deployment.store()), folder / "store", None)
    comparison = write_folder(folder / "runs")
    write_cells(comparison, ours="drift", theirs="spin", worst="spin")
    return report_on(comparison)


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_script()


def test_the_structure_is_there_without_sight_or_mouse(report: Path):
    page = Structure(report)
    tags = [tag for tag, _ in page.elements]
    assert (page.of("html")[0]["lang"], tags.count("h1"), tags.count("main")) == ("en", 1, 1)
    assert page.of("meta")[1] == {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert [heading for heading in page.headings if not heading.strip()] == []
    scrolls = [attributes for attributes in page.of("div") if attributes.get("class") == "scroll"] + page.of("pre")
    assert scrolls
    assert [attributes for attributes in scrolls if attributes.get("tabindex") != "0"] == []
    assert {attributes.get("tabindex") for _, attributes in page.elements} == {None, "0"}
    assert [svg for svg in page.of("svg") if svg["role"] != "img" or not svg["aria-label"]] == []
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert [link["href"] for link in page.of("a") if link["href"].removeprefix("#") not in ids] == []
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))


def test_it_fits_a_phone(chromium, report: Path):
    with chromium.new_page() as page:
        page.goto(report.as_uri())
        assert sideways(page) == 0


def test_axe_finds_nothing(axe: str, chromium, report: Path):
    with chromium.new_page() as page:
        page.goto(report.as_uri())
        assert violations(page, axe) == []
