"""A store of twelve labelled chats with a hostile reply, a run with pairs, and the review server."""

import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from drift.records import ChatMessage, Conversation, FeedbackLabel, Message, PreferencePair, write_jsonl
from drift.review.audit import Audit
from drift.review.comparison import BlindComparison
from drift.review.pages import Pages
from drift.review.server import ReviewServer, Site
from drift.store import Store

HOSTILE = "<script>document.title = 'taken'</script><img src='http://example.invalid/x.png'> & <b>bold</b>"


class Answer(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]


class Visitor:
    """A browser as far as the server sees one: cookies, redirections, forms."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.home = address.split("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def get(self, path: str = "/", **headers: str) -> Answer:
        return self._ask(urllib.request.Request(self.home + path if path.startswith("/") else path, headers=headers))

    def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> Answer:
        data = urllib.parse.urlencode(form).encode()
        return self._ask(urllib.request.Request(self.home + path, data, headers or {"Origin": self.home}))

    def _ask(self, request: urllib.request.Request) -> Answer:
        try:
            with self._opener.open(request, timeout=120) as response:
                return Answer(response.status, response.read().decode(), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(), dict(error.headers))


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("labelled") / "store")
    for n in range(12):
        texts = (("user", "Sort: b a"), ("assistant", f"{HOSTILE} {n}"), ("user", f"No, wrong order {n}"))
        messages = tuple(Message(role, text) for role, text in texts)
        store.add([Conversation(f"c{n}", "test", f"c{n}", messages, "train")])
        verdict, evidence = ("DSAT", "wrong order") if n % 2 else ("NEUTRAL", None)
        store.add_labels([FeedbackLabel(f"c{n}", 1, 2, verdict, "embedded", "1", p_dsat=n / 12, evidence=evidence)])
    return store.path


@pytest.fixture
def store(tmp_path: Path, labelled: Path) -> Store:
    """A copy: to write it takes longer than most of the tests."""
    shutil.copytree(labelled, tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "iteration-1"
    folder.mkdir(parents=True)
    new, disliked = (ChatMessage("assistant", f"{HOSTILE} new"),), (ChatMessage("assistant", "the old one"),)
    asked = (ChatMessage("user", "Sort: b a"),)
    rows = [PreferencePair(f"p{n}", f"p{n}", "c1", 1, "drift", 1, "x", asked, new, disliked) for n in range(4)]
    write_jsonl(folder / "pairs.jsonl", rows)
    return folder.parent


@pytest.fixture
def visitor(store: Store, run: Path) -> Iterator[Visitor]:
    """Someone who was let in by a server that runs in this process."""
    pages = Pages(Audit(store, "ann"), BlindComparison(run, store.reviews, "ann"))
    with ReviewServer(0, Site(pages), "the-token") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        visitor = Visitor(f"http://127.0.0.1:{server.server_port}/?token=the-token")
        assert visitor.get(visitor.address).status == 200
        yield visitor
        server.shutdown()
        thread.join()


@pytest.fixture
def served() -> Callable:
    @contextmanager
    def serve(store: Store, *options: str) -> Iterator[tuple[Visitor, subprocess.Popen]]:
        command = [sys.executable, "-m", "drift", "review", "--store", str(store.path), "--no-browser", "--json"]
        pipe = subprocess.PIPE
        process = subprocess.Popen([*command, "--reviewer", "ann", *options], stderr=pipe, stdout=pipe, text=True)
        assert process.stderr is not None
        try:
            told = process.stderr.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", told)
            assert address, told + process.stderr.read()
            yield Visitor(address[0]), process
        finally:
            process.kill()
            process.communicate()

    return serve
