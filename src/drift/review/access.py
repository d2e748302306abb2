"""Access to the review page: the first browser to open the printed address. The token works once and sets a cookie."""

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

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
