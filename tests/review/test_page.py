"""The audit page in a real browser: keys, reload, undo, hostile text, and nothing without the token."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drift.records import Conversation, FeedbackLabel, Message
from drift.store import Review, Store

pytest.importorskip("nicegui", reason="the review page needs the extra `ui`")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = shutil.which("chromium")
HOSTILE = "<script>document.title = 'taken'</script><img src='http://example.invalid/x.png'> & <b>bold</b>"


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    for n in range(12):
        texts = (("user", "Sort: b a"), ("assistant", f"{HOSTILE} {n}"), ("user", "No, wrong order"))
        messages = tuple(Message(role, text) for role, text in texts)
        store.add([Conversation(f"c{n}", "test", f"c{n}", messages, "train")])
        verdict = "DSAT" if n % 2 else "NEUTRAL"
        store.add_labels(
            [FeedbackLabel(f"c{n}", 1, 2, verdict, "embedded", "1", p_dsat=n / 12, evidence="wrong order")]
        )
    return store


@contextmanager
def served(store: Store) -> Iterator[tuple[str, subprocess.Popen]]:
    command = [sys.executable, "-m", "drift", "review", "--store", str(store.path), "--no-browser", "--reviewer", "ann"]
    process = subprocess.Popen([*command, "--json"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        told = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", told)
        assert found, told + process.stderr.read()
        yield found[0], process
    finally:
        process.kill()


def status(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def press(page, key: str) -> None:
    before = page.locator(".progress").inner_text()
    page.keyboard.press(key)
    page.wait_for_function("before => document.querySelector('.progress')?.innerText != before", arg=before)


@pytest.mark.skipif(CHROMIUM is None, reason="the browser test needs chromium (Debian: apt-get install chromium)")
def test_ten_turns_by_keyboard_survive_a_reload_and_nothing_leaves_the_machine(store):
    with served(store) as (url, process), playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, asked = browser.new_page(), []
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector(".judged")
        assert "0 of 12" in page.locator(".progress").inner_text()
        assert HOSTILE in page.locator(".judged .text").inner_text()
        assert page.locator(".reaction mark").inner_text() == "wrong order"
        assert page.title() == "DRIFT review"
        for key in "dsndsndsnd":
            press(page, key)
        assert len(list(Store(store.path).reviews.all(Review))) == 10
        page.reload()
        page.wait_for_selector(".judged")
        assert "10 of 12" in page.locator(".progress").inner_text()
        assert re.search(r"precision \d\.\d\d \[", page.locator(".progress").inner_text())
        press(page, "u")
        press(page, "k")
        assert "10 of 12" in page.locator(".progress").inner_text()
        assert {re.split(r"[/:?]+", u)[1] for u in asked if not u.startswith("data:")} == {"127.0.0.1"}
        browser.close()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {"store": str(store.path), "reviews": 10, "by_you": 10}
    counted = [label.labeller for label in Store(store.path).labels()]
    assert counted.count("review") == 9  # the one that was passed over keeps its own label


def test_a_wrong_token_gets_nothing_and_the_right_one_works_once(store):
    with served(store) as (url, _):
        base, token = url.split("?")
        assert status(f"{base}?token=wrong") == 403
        assert status(base) == 403
        assert status(f"{base}_nicegui/") == 403
        request = urllib.request.Request(f"{base}?{token}", headers={"Host": "elsewhere.invalid"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=20)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert opener.open(url, timeout=20).status == 200
        assert status(url) == 403


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--store", "nowhere"], "holds no conversations"),
        (["--store", "STORE", "--run", "nowhere"], "holds no pairs"),
        (["--store", "STORE", "--port", "TAKEN"], "Name another port"),
    ],
)
def test_bad_input_is_one_line(store, options, told, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"STORE": str(store.path), "TAKEN": str(taken.getsockname()[1])}
        command = [sys.executable, "-m", "drift", "review", *(names.get(o, o) for o in options)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(tmp_path), timeout=60, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
