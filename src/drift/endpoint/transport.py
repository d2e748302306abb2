"""One attempt of one request over HTTP. Nothing is retried here: the caller sees every failure."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

from drift.config import without_password
from drift.endpoint.exchange import Problem
from drift.errors import ConfigError, PrerequisiteError

LARGEST_ANSWER = 64 * 1024 * 1024
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
CONNECT_SECONDS = 10.0
SHORTEST_SECRET = 8
"""Characters. A shorter key (EMPTY, token) protects nothing, and may be a part of the server's own words."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """`retry`: another attempt may succeed; `billed`: the server may charge for it; `absent`: no server listens."""

    problem: Problem
    detail: str
    retry: bool
    billed: bool = False
    absent: bool = False
    retry_after: float = 0.0
    status: int | None = None


class Transport:
    """A pool of connections to one server. Raises ConfigError if no request can go to `base_url`.

    `timeout`: seconds for a whole attempt. `url`: for people, without a password. Nothing that a failure or an error
    says contains the key.

    Requests run in an event loop with a thread of its own: a socket's own timeout begins anew with every byte, and only
    a task can be cancelled wherever it waits.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout: float, connections: int) -> None:
        import httpx2

        parts = urlsplit(base_url)
        address = base_url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
        self.url = without_password(address)
        try:
            self._address = str(httpx2.URL(address))
        except httpx2.InvalidURL as error:
            raise ConfigError(f"base_url {self.url!r}: {error}. Write it as http://HOST:PORT/v1.") from None
        self._secret = api_key if api_key and len(api_key) >= SHORTEST_SECRET else ""
        self._timeout = timeout
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(None, connect=min(CONNECT_SECONDS, timeout)),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            verify=parts.scheme == "https",  # no certificates to load for plain http
            trust_env=parts.hostname not in LOOPBACK,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint-transport", daemon=True)
        self._thread.start()

    def post(self, path: str, body: dict[str, Any]) -> bytes | Failure:
        """The body of a successful response. Raises PrerequisiteError if every other request would fail too."""
        return self._wait(self._send("POST", path, orjson.dumps(body)))

    def get(self, path: str) -> bytes | Failure:
        return self._wait(self._send("GET", path, None))

    def close(self) -> None:
        """Ends what is still under way, too."""
        if self._thread.is_alive():
            self._wait(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _send(self, method: str, path: str, content: bytes | None) -> bytes | Failure:
        import httpx2

        url, headers = f"{self._address}/{path}", {"Content-Type": "application/json"} if content else {}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(method, url, content=content, headers=headers) as response,
            ):
                answer = bytearray()
                async for part in response.aiter_bytes():
                    answer += part
                    if len(answer) > LARGEST_ANSWER:
                        return Failure(
                            "garbage", f"the answer is larger than {LARGEST_ANSWER} bytes", retry=False, billed=True
                        )
            if response.is_success:
                return bytes(answer)
            return self._refusal(response.status_code, response.headers, bytes(answer), asked=content is not None)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, UnicodeError) as error:  # UnicodeError: no name of a host
            return Failure("connection", self.without_key(str(error)) or "no connection", retry=True, absent=True)
        except TimeoutError:
            return Failure("timeout", f"no complete answer within {self._timeout:g} s", retry=True, billed=True)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            detail = self.without_key(str(error)) or type(error).__name__
            return Failure("connection", detail, retry=True, billed=True)

    def without_key(self, text: str) -> str:
        """A text that may repeat what was sent, for people."""
        return text.replace(self._secret, "***") if self._secret else text

    def _refusal(self, status: int, headers: Any, body: bytes, asked: bool) -> Failure:
        """`asked`: a question, not a page that only describes the server."""
        detail = f"{status}: {self._message(body)}"
        if status in (401, 403) and (not asked or "logprobs" in detail):  # the key may be valid: for chat, without them
            return Failure("refused", detail, retry=False, status=status)
        if status in (401, 402, 403) or b"insufficient_quota" in body:
            raise PrerequisiteError(
                f"{self.url}: access refused ({detail}). "
                "Name the environment variable that holds a valid key: api_key_env in a config, or the option of the "
                "command that ends with api-key-env."
            )
        if 300 <= status < 400:
            place = self.without_key(str(headers.get("location")))
            raise PrerequisiteError(f"{self.url}: moved to {place!r}; set base_url to that address.")
        if status == 429:
            return Failure("busy", detail, retry=True, retry_after=retry_after(headers), status=status)
        if status in (408, 409, 425) or status >= 500:
            return Failure("server", detail, retry=True, retry_after=retry_after(headers), status=status)
        return Failure("refused", detail, retry=False, status=status)

    def _message(self, body: bytes) -> str:
        """The server's error message, in one line."""
        try:
            answer = orjson.loads(body)
            error = answer.get("error", answer.get("detail", answer)) if isinstance(answer, dict) else answer
            text = str(error.get("message", error) if isinstance(error, dict) else error)
        except orjson.JSONDecodeError:
            text = body.decode(errors="replace")
        return self.without_key(" ".join(text.split()))[:300]


def retry_after(headers: Any) -> float:
    """Seconds that the server asks to wait, given in (milli)seconds or as a date (RFC 9110, 10.2.3); 0 without one."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        wait = headers.get("retry-after", "0")
        if wait[:1].isdigit():
            return max(0.0, float(wait))
        until = parsedate_to_datetime(wait).timestamp()
        # by the server's own clock: it may be an hour off from ours
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
        return max(0.0, until - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
