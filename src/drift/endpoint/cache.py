"""Answers on disk, each committed when it arrives: after a kill only the requests in flight are paid for again."""

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from drift.endpoint.exchange import CacheKey, Reply, Request, Unanswered, parse_reply
from drift.errors import DataError

ANSWERS = "answers.sqlite"
"""The cache's file name, in the folder of a store or of an evaluation."""
_SCHEMA = """CREATE TABLE IF NOT EXISTS answers (
    model TEXT, parameters TEXT, prompt TEXT, input TEXT, body BLOB NOT NULL, cost REAL, owner TEXT, written REAL,
    PRIMARY KEY (model, parameters, prompt, input)) WITHOUT ROWID"""
_JOB = "CREATE TABLE IF NOT EXISTS job (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT)"
_FIND = "SELECT body, cost FROM answers WHERE model = ? AND parameters = ? AND prompt = ? AND input = ?"
_KEEP = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Cache:
    """The server's raw answers by (model, parameters, prompt, input). Processes can share it.

    Raises DataError if the file cannot be opened or is not such a cache.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(_SCHEMA)
            self._connection.execute(_JOB)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"{path}: cannot be used as the answer cache: {error}. Move it away, or use another folder."
            ) from None

    def find(self, request: Request, model: str) -> Reply | None:
        with self._lock:
            row = self._connection.execute(_FIND, _columns(request.key(model))).fetchone()
        if row is None:
            return None
        reply = parse_reply(request, row[0])
        return None if isinstance(reply, Unanswered) else Reply(
            reply.usage, row[1], cached=True, choices=reply.choices, probabilities=reply.probabilities
        )  # fmt: skip

    def keep(self, request: Request, model: str, body: bytes, cost: float | None) -> None:
        row = (*_columns(request.key(model)), body, cost, request.owner, time.time())
        with self._lock:
            self._connection.execute(_KEEP, row)

    def forget(self, owners: Iterable[str]) -> int:
        """Delete the answers about these owners, also from the file's free pages; returns their number."""
        with self._lock:
            self._connection.execute("PRAGMA secure_delete = ON")
            count = sum(
                self._connection.execute("DELETE FROM answers WHERE owner = ?", (owner,)).rowcount for owner in owners
            )
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds what was written before
            return count

    def finished_job(self) -> str | None:
        """The name of the last finished job; None while a job is running."""
        with self._lock:
            row = self._connection.execute("SELECT name FROM job").fetchone()
        return row[0] if row else None

    def finish_job(self, name: str | None) -> None:
        """Record that this job is finished; None: a job is running."""
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO job VALUES (1, ?)", (name,))

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _columns(key: CacheKey) -> tuple[str, str, str, str]:
    return key.model, key.parameters, key.prompt, key.input
