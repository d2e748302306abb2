"""Serve the review pages on loopback until interrupted.

The first browser to open the printed address gets in: the token works once and sets a cookie.
"""

import secrets
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from html import escape
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from drift.errors import DriftError, PrerequisiteError
from drift.records import FeedbackLabel, Verdict
from drift.review import pages as at
from drift.review.audit import Audit, shown_of
from drift.review.comparison import BlindComparison, Side
from drift.review.pages import Pages
from drift.store import Review, Store

HOST = "127.0.0.1"
LONGEST_FORM = 10_000  # bytes
VERDICTS: dict[str, Verdict | None] = {"DSAT": "DSAT", "SAT": "SAT", "NEUTRAL": "NEUTRAL", at.SKIP: None}
SIDES: dict[str, Side | None] = {"left": "left", "right": "right", "tie": "tie", at.SKIP: None}
CLOSED = "Open the address that `drift review` printed. It works once: for a new one, start the command again."

Fields = Mapping[str, str]
"""A query or a form: the first value of each name."""


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """`reviews`: decisions on labels in the store; `by_you`: those of this reviewer; `outdated`: those on words that
    have changed since, which do not count."""

    store: str
    reviews: int
    by_you: int
    outdated: int


@dataclass(frozen=True, slots=True)
class Response:
    """`body`: HTML of an answer, or the reason of a refusal; `to`: the address that a redirection leads to."""

    status: int
    body: str = ""
    to: str = ""


def serve(
    store: Store, reviewer: str, run: Path | None, port: int, tell_address: Callable[[str], None]
) -> ReviewSummary:
    """Blocks until Ctrl-C. `tell_address` is called with the address and its one-time token once the page is up.

    Raises DataError if there is nothing to review, PrerequisiteError if the port is taken.
    """
    store.require_conversations()
    audit = Audit(store, reviewer)
    comparison = BlindComparison(run, store.reviews, reviewer) if run else None
    token = secrets.token_urlsafe(24)
    try:
        server = ReviewServer(port, Site(Pages(audit, comparison)), token)
    except OSError as error:
        raise PrerequisiteError(f"--port {port}: {error.strerror}. Name another port, or 0 for any free one.") from None
    with server, suppress(KeyboardInterrupt):  # the normal end: every decision is on disk
        tell_address(f"http://{HOST}:{server.server_port}/?token={token}")
        server.serve_forever()
    return ReviewSummary(
        str(store.path),
        sum(1 for _ in store.reviews.all(Review)),
        sum(1 for _ in store.reviews.all(Review, reviewer)),
        store.outdated_reviews(),
    )


class Site:
    """What each address answers. A decision leads to the next thing to decide on; it is on disk by then."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages

    def get(self, path: str, query: Fields, nonce: str) -> Response:
        audit, comparison, pages = self.pages.audit, self.pages.comparison, self.pages
        number = _number(query.get("page", "")) or 1
        if path == at.LABELS:
            return Response(200, pages.label(nonce, audit.current()))
        if path == at.DECIDED:
            return Response(200, pages.decided_labels(nonce, number))
        if path == at.LABEL:
            label = self._label(query)
            place = (label.conversation_id, label.reply_index) if label else None
            review = next((r for r in audit.valid_decisions() if (r.conversation_id, r.reply_index) == place), None)
            return Response(200, pages.label(nonce, label, review)) if review else _unknown("decision", query)
        if comparison is not None and path == at.PAIRS:
            return Response(200, pages.pair(nonce, comparison.current()))
        if comparison is not None and path == at.DECIDED_PAIRS:
            return Response(200, pages.decided_pairs(nonce, number))
        if comparison is not None and path == at.PAIR:
            pair = comparison.pair(query.get("pair", ""))
            made = next((p for p in comparison.decisions() if pair and p.pair_id == pair.pair_id), None)
            return Response(200, pages.pair(nonce, pair, made)) if made else _unknown("decision", query)
        return Response(404, f"No page {path}. The review begins at {at.LABELS}.")

    def post(self, path: str, form: Fields) -> Response:
        audit, comparison = self.pages.audit, self.pages.comparison
        if path == at.LABELS:
            label, verdict = self._label(form), form.get("verdict", "")
            if label is None or verdict not in VERDICTS:
                return _unknown("reply or verdict", form)
            if audit.is_gone(label):
                return Response(410, f"This conversation was removed: nothing of it is kept. Go on at {at.LABELS}.")
            shown = shown_of(audit.store.conversation(label.conversation_id), label)
            if form.get("shown", shown) != shown:
                return Response(409, f"This conversation has changed since it was shown. Go on at {at.LABELS}.")
            audit.decide(label, VERDICTS[verdict], shown)
            return Response(303, to=at.LABELS + at.PLACE)
        if path == at.UNDO:
            audit.undo()
            return Response(303, to=at.LABELS + at.PLACE)
        if comparison is not None and path == at.PAIRS:
            pair, side = comparison.pair(form.get("pair", "")), form.get("side", "")
            if pair is None or side not in SIDES:
                return _unknown("pair or side", form)
            comparison.decide(pair, SIDES[side])
            return Response(303, to=at.PAIRS + at.PLACE)
        if comparison is not None and path == at.UNDO_PAIR:
            comparison.undo()
            return Response(303, to=at.PAIRS + at.PLACE)
        return Response(404, f"Nothing is decided at {path}.")

    def _label(self, fields: Fields) -> FeedbackLabel | None:
        reply = _number(fields.get("reply", ""))
        return None if reply is None else self.pages.audit.label(fields.get("conversation", ""), reply)


def _unknown(what: str, fields: Fields) -> Response:
    return Response(400, f"Unknown {what}: {', '.join(f'{name}={value}' for name, value in fields.items())}")


class ReviewServer(ThreadingHTTPServer):
    """Listens on loopback. Threads, as browsers open connections ahead of need; the lock keeps answers one by one."""

    daemon_threads = True

    def __init__(self, port: int, site: Site, token: str) -> None:
        self.site, self.lock = site, threading.Lock()
        super().__init__((HOST, port), _Handler)
        self.door = Door(token, self.server_port)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # the parent's would ask the network for this machine's name
        self.server_name, self.server_port = HOST, self.server_address[1]


class Door:
    """Who gets in: a browser with the cookie, which the token gives once.

    Any Host header but loopback's is a foreign site pointed at this machine (DNS rebinding); a form of any other Origin
    is a foreign page's, on another port of this machine too.
    """

    def __init__(self, token: str, port: int) -> None:
        self._token: str | None = token
        self._session = secrets.token_urlsafe(32)
        self._hosts = frozenset({f"{HOST}:{port}", f"localhost:{port}"})
        self._name = f"drift-review-{port}"  # cookies know no port: each server has its own

    @property
    def cookie(self) -> str:
        return f"{self._name}={self._session}; HttpOnly; SameSite=Strict; Path=/"

    def admits(self, headers: Message) -> bool:
        origin = headers.get("Origin")
        at_home = origin is None or origin.removeprefix("http://") == headers.get("Host")
        return self._known_host(headers) and at_home and self._has_cookie(headers)

    def redeems(self, headers: Message, token: str) -> bool:
        matches = self._token is not None and secrets.compare_digest(token.encode(), self._token.encode())
        if not matches or not self._known_host(headers):
            return False
        self._token = None
        return True

    def _known_host(self, headers: Message) -> bool:
        return headers.get("Host", "") in self._hosts

    def _has_cookie(self, headers: Message) -> bool:
        try:
            cookie = SimpleCookie(headers.get("Cookie", "")).get(self._name)
        except CookieError:
            return False
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), self._session.encode())


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    timeout = 60

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = _fields(address.query)
        with self.server.lock:
            if self.server.door.admits(self.headers):
                nonce = secrets.token_urlsafe(16)
                self._answer(lambda: self.server.site.get(address.path, query, nonce), nonce)
            elif self.server.door.redeems(self.headers, query.get("token", "")):
                self._send(Response(303, to=at.LABELS), {"Set-Cookie": self.server.door.cookie})
            else:
                self._send(Response(403, CLOSED))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_FORM:
            self.close_connection = True
            return self._send(Response(413, f"A form has {LONGEST_FORM} bytes at most."))
        form = _fields(self.rfile.read(int(length)).decode("utf-8", "replace"))
        with self.server.lock:
            if not self.server.door.admits(self.headers):
                return self._send(Response(403, CLOSED))
            return self._answer(lambda: self.server.site.post(urlsplit(self.path).path, form), "")

    def _answer(self, ask: Callable[[], Response], nonce: str) -> None:
        try:
            response = ask()
        except DriftError as error:  # a damaged store: said in the page, and the server goes on
            response = Response(500, str(error))
        self._send(response, nonce=nonce)

    def _send(self, response: Response, headers: Mapping[str, str] | None = None, nonce: str = "") -> None:
        is_page = response.status == 200
        body = response.body if is_page else f"<!doctype html><title>DRIFT review</title><p>{escape(response.body)}</p>"
        raw = body.encode("utf-8", "replace")
        self.send_response(response.status)
        own = {"Location": response.to} if response.to else {}
        policy = f"default-src 'none'; img-src data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        own |= {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(raw)),
            "Content-Security-Policy": policy + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in (own | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):  # the browser went on without waiting
            self.wfile.write(raw)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """No line per request on the user's terminal."""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _fields(encoded: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(encoded, keep_blank_values=True).items()}
