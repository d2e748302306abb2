"""The review in a real browser: ten turns by keyboard, on a phone, and by axe-core."""

import json
import re
import signal

import pytest

from browser import axe_script, browser, sideways, violations
from drift.store import Review, Store


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


def press(page, key: str) -> None:
    with page.expect_navigation():
        page.keyboard.press(key)


def test_ten_turns_by_keyboard_survive_a_reload_and_nothing_leaves_the_machine(chromium, store, served):
    with chromium.new_page() as page, served(store) as (visitor, process):
        asked = []
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(visitor.address)
        assert "0 of 12 decided" in page.locator(".progress").inner_text()
        assert "<script>document.title" in page.locator(".judged .text").inner_text()
        assert page.title() == "Was the user satisfied with this reply? · DRIFT review"
        for key in "dsndsndsnd":
            press(page, key)
        assert len(list(Store(store.path).reviews.all(Review))) == 10
        page.reload()
        assert "10 of 12 decided" in page.locator(".progress").inner_text()
        assert re.search(r"precision of the labels \d\.\d\d \[", page.locator("main").inner_text())
        press(page, "u")
        press(page, "k")
        assert "10 of 12 decided" in page.locator(".progress").inner_text()
        assert {re.split(r"[/:?]+", u)[1] for u in asked if not u.startswith("data:")} == {"127.0.0.1"}
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {"store": str(store.path), "reviews": 10, "by_you": 10, "outdated": 0}
    counted = [label.labeller for label in Store(store.path).labels()]
    assert counted.count("review") == 9  # the one that was passed over keeps its own label


def test_everything_is_reached_by_tab_and_letters_can_be_switched_off(chromium, store, served):
    with chromium.new_page() as page, served(store) as (visitor, _):
        page.set_default_timeout(120_000)
        page.goto(visitor.address)
        press(page, "d")
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.type || ''"))
        for wanted in (
            "DSAT: dissatisfied d",
            "SAT: satisfied s",
            "NEUTRAL: neither n",
            "Skip k",
            "Undo u",
            "checkbox",
        ):
            assert wanted in reached
        page.locator("button[value=SAT]").focus()
        press(page, "Enter")
        assert "2 of 12 decided" in page.locator(".progress").inner_text()
        page.get_by_role("checkbox").uncheck()
        page.keyboard.press("d")
        page.reload()
        page.keyboard.press("d")
        page.reload()
        assert "2 of 12 decided" in page.locator(".progress").inner_text()


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_script()


def test_pages_fit_a_phone_and_axe_finds_nothing(axe, chromium, store, run, served):
    with chromium.new_context(bypass_csp=True) as context, served(store, "--run", str(run)) as (visitor, _):
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(visitor.address)
        for begin, letters in (("/", "dsnkd"), ("/compare", "12t")):
            page.goto(visitor.home + begin)
            found = violations(page, axe)
            for letter in letters:
                press(page, letter)
            found += violations(page, axe)
            page.goto(visitor.home + begin.rstrip("/") + "/decided")
            found += violations(page, axe)
            page.get_by_role("link", name="Show or change").first.click()
            page.wait_for_load_state()
            assert violations(page, axe) + found == []
            assert sideways(page) == 0
