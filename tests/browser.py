"""A page in a headless browser: does it fit a phone, and does axe-core find fault with it?"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
AXE = os.environ.get("DRIFT_TEST_AXE")
SIZES = ((1200, 4000), (375, 9000))
"""Tall, so that nothing is hidden behind what stays in sight."""


@contextmanager
def browser() -> Iterator:
    """Playwright's Chromium. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    if CHROMIUM is None:
        pytest.skip("the browser test needs chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def axe_script() -> str:
    """axe-core's source. Skips the test where it is not at hand."""
    if AXE is None:
        pytest.skip("needs axe-core: npm pack axe-core, unpack it, DRIFT_TEST_AXE=package/axe.min.js")
    return Path(AXE).read_text("utf-8")


def violations(page, axe: str) -> list[str]:
    """What axe-core finds in the page as it stands, wide and narrow, in light and dark, with all that unfolds open."""
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    page.evaluate(axe)
    found = []
    for width, height in SIZES:
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            for fault in page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]:
                found.append(f"{width} {scheme} {fault['id']}: {[node['html'][:200] for node in fault['nodes']]}")
    return found


def sideways(page, width: int = 375) -> float:
    """By how many pixels the page is wider than a phone."""
    page.set_viewport_size({"width": width, "height": 700})
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
