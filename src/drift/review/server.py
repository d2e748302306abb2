"""Serve the review pages on loopback until interrupted.

The first browser to open the printed address gets in: the token works once and sets a cookie.
"""

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from drift.errors import PrerequisiteError
from drift.review.audit import Audit
from drift.review.comparison import BlindComparison
from drift.store import Review, Store

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """`reviews`: decisions on labels in the store; `by_you`: those of this reviewer."""

    store: str
    reviews: int
    by_you: int


def serve(
    store: Store, reviewer: str, run: Path | None, port: int, tell_address: Callable[[str], None]
) -> ReviewSummary:
    """Blocks until Ctrl-C. `tell_address` is called with the address and its one-time token once the page is up.

    Raises DataError if there is nothing to review, PrerequisiteError without the extra `ui` or if the port is taken.
    """
    store.require_conversations()
    audit = Audit(store, reviewer)
    comparison = BlindComparison(run, store.reviews, reviewer) if run else None
    listening = _listen(port)
    token = secrets.token_urlsafe(24)
    address = f"{HOST}:{listening.getsockname()[1]}"
    server = _server(audit, comparison, token, address)
    tell_address(f"http://{address}/?token={token}")
    with suppress(KeyboardInterrupt):  # the normal end: every decision is on disk
        server.run(sockets=[listening])
    return ReviewSummary(
        str(store.path),
        sum(1 for _ in store.reviews.all(Review)),
        sum(1 for _ in store.reviews.all(Review, reviewer)),
    )


def _server(audit: Audit, comparison: BlindComparison | None, token: str, address: str):
    try:
        import uvicorn
        from fastapi import FastAPI
        from nicegui import ui
    except ImportError as error:
        raise PrerequisiteError(
            f"the review page needs the extra `ui` ({error.name} is missing): pip install 'drift-training[ui]'"
        ) from None
    from drift.review.pages import audit_page, comparison_page
    from drift.review.server import OneTimeToken

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.page("/")(partial(audit_page, audit, comparison is not None))
    if comparison is not None:
        ui.page("/compare")(partial(comparison_page, comparison))
    ui.run_with(app)
    port = address.rsplit(":", 1)[1]
    guarded = OneTimeToken(app, token, frozenset({address, f"localhost:{port}"}))
    return uvicorn.Server(uvicorn.Config(guarded, log_level="warning", lifespan="on"))


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise PrerequisiteError(f"--port {port}: {error.strerror}. Name another port, or 0 for any free one.") from None
    return listening


COOKIE = "drift-review"


class OneTimeToken:
    """ASGI middleware for the complete application: pages, files and sockets. Without the cookie it serves nothing.

    `hosts`: allowed Host headers. Any other Host is a foreign site pointed at this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._token: str | None = token
        self._session = secrets.token_urlsafe(32)
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (self._known_host(scope) and self._has_cookie(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif self._known_host(scope) and self._redeems(scope):
            response = RedirectResponse(scope["path"], status_code=303)
            response.set_cookie(COOKIE, self._session, httponly=True, samesite="strict")
            await response(scope, receive, send)
        else:
            message = (
                "Open the address that `drift review` printed. It works once: for a new one, start the command again."
            )
            await PlainTextResponse(message, status_code=403)(scope, receive, send)

    def _redeems(self, scope: Scope) -> bool:
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self._token is None or not secrets.compare_digest(token.encode(), self._token.encode()):
            return False
        self._token = None
        return True

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            cookie = SimpleCookie(_header(scope, b"cookie")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), self._session.encode())

    def _known_host(self, scope: Scope) -> bool:
        return _header(scope, b"host") in self._hosts


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
