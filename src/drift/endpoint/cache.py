"""Answers on disk, each committed as it comes in: a killed command pays again only for what was under way."""

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from drift.endpoint.exchange import CacheKey, Reply, Request, Unanswered, parse_reply
from drift.errors import DataError

ANSWERS = "answers.sqlite"
"""What a server has answered, in the folder of whoever asked: a store, or an evaluation."""
_SCHEMA = """CREATE TABLE IF NOT EXISTS answers (
    model TEXT, parameters TEXT, prompt TEXT, input TEXT, body BLOB NOT NULL, cost REAL, owner TEXT, written REAL,
    PRIMARY KEY (model, parameters, prompt, input)) WITHOUT ROWID"""
_JOB = "CREATE TABLE IF NOT EXISTS job (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT)"
_FIND = "SELECT body, cost FROM answers WHERE model = ? AND parameters = ? AND prompt = ? AND input = ?"
_KEEP = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Cache:
    """The server's answers as they came, under (model, parameters, prompt, input). Safe to share between processes.

    Raises DataError if the file cannot be opened or is no such cache.
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
            raise DataError(f"{path}: cannot hold the cached answers: {error}. Name another file.") from None

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
        """Delete the answers about these owners, in the file's free pages too; returns how many there were."""
        with self._lock:
            self._connection.execute("PRAGMA secure_delete = ON")
            count = sum(
                self._connection.execute("DELETE FROM answers WHERE owner = ?", (owner,)).rowcount for owner in owners
            )
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds what was written before
            return count

    def finished_job(self) -> str | None:
        """The name of the job that was finished last."""
        with self._lock:
            row = self._connection.execute("SELECT name FROM job").fetchone()
        return row[0] if row else None

    def finish_job(self, name: str | None) -> None:
        """None: one is under way."""
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO job VALUES (1, ?)", (name,))

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _columns(key: CacheKey) -> tuple[str, str, str, str]:
    return key.model, key.parameters, key.prompt, key.input
