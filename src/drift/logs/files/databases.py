"""Rows of a database: `sqlite:///FILE?table=NAME` and `postgresql://USER:PASSWORD@HOST/DB?query=SELECT ...`.

A source is named by its scheme, host, database and table: never by its user or password. Databases are opened for
reading only, and rows are streamed. `query` stands last: it is everything up to the end.
"""

import difflib
import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from drift.errors import DataError, PrerequisiteError
from drift.logs.files.opening import Progress, Repair, decoded, plain_value
from drift.logs.files.rows import LogRow, Place, Reject
from drift.logs.files.separated import column_names

FORMS = "sqlite:///FILE?table=NAME or postgresql://USER:PASSWORD@HOST/DB?table=NAME (or ?query=SELECT ...)"
_ENCODE = "in a password, write %40 for @, %2F for /, %3F for ?, %3A for : and %25 for %"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+\w+)?:/(/.*)", re.DOTALL)
_HOST = re.compile(r"[^:@/]*(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?")
_SQLITE_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
_POSTGRES_TABLES = """
    SELECT table_name FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"""
_SCHEMES = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
_ROWS_PER_FETCH = 500
_SECONDS_TO_CONNECT = 15


def is_url(log: object) -> bool:
    """Whether a log is named by a URL and not by a path."""
    return isinstance(log, str) and "://" in log and _URL.match(log) is not None


@dataclass(frozen=True, slots=True)
class Database:
    """A table, or the rows of a query. `address`: a file, or what libpq reads, with the password."""

    name: str
    address: str = field(repr=False)
    is_sqlite: bool
    table: str | None
    query: str | None = field(repr=False)
    size: int = 0
    is_named: bool = True
    has_columns: bool = True

    def rows(self, progress: Progress, repairs: Counter[Repair]) -> Iterator[LogRow | Reject]:
        yield from _sqlite_rows(self, repairs) if self.is_sqlite else _postgres_rows(self)


def database_of(url: str) -> Database:
    """The table or query that a URL names. Raises DataError, which never shows a password."""
    match = _URL.match(url)
    scheme = _SCHEMES.get(match.group(1).lower()) if match else None
    if match is None or scheme is None:
        other = match.group(1) if match else "this"
        raise DataError(f"{other}://...: not a database that is read. Write {FORMS}, or export it as CSV or Parquet.")
    base, options = _cut(match.group(2).removeprefix("/"), scheme)
    table, query = options.pop("table", None), options.pop("query", None)
    if (table is None) == (query is None):
        raise DataError(f"{scheme}://...: name a table or a query, and not both: {FORMS}.")
    if scheme == "sqlite":
        if options:
            raise DataError(f"sqlite://...: unknown option {sorted(options)[0]!r}. Write {FORMS}.")
        path = _file(unquote(base))
        return Database(f"sqlite:///{path}?{_asked(table, query)}", str(path), True, table, query)
    place = _place(base)
    rest = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    address = f"postgresql://{base}{'?' + rest if rest else ''}"
    return Database(f"postgresql://{place}?{_asked(table, query)}", address, False, table, query)


def _cut(text: str, scheme: str) -> tuple[str, dict[str, str]]:
    """What stands before the first `?`, and the options after it. Raises DataError."""
    base, _, rest = text.partition("?")
    options: dict[str, str] = {}
    while rest:
        if rest.startswith("query="):
            options["query"] = unquote(rest.removeprefix("query=")).strip().rstrip(";")
            break
        part, _, rest = rest.partition("&")
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"\w+", name) or name in options:
            raise DataError(f"{scheme}://...: its options are not NAME=VALUE, each once. Write {FORMS}; {_ENCODE}.")
        options[name] = unquote(value)
    return base, {name: value for name, value in options.items() if value}


def _file(name: str) -> Path:
    """`/FILE` is relative and `//FILE` absolute, as in SQLAlchemy; an absolute one is also found with one slash."""
    path = Path(name.removeprefix("/"))
    if not path.exists() and Path(name).exists():
        path = Path(name)
    if not path.is_file():
        raise DataError(f"{path}: no such SQLite file. Write sqlite:///FILE?table=NAME.")
    return path.resolve()


def _place(base: str) -> str:
    """HOST/DB out of USER:PASSWORD@HOST:PORT/DB. Raises DataError where a password may have been cut in two."""
    login, _, name = base.partition("/")
    host = login.rpartition("@")[2]
    if base.count("@") > 1 or "@" in name or not all(map(_HOST.fullmatch, host.split(","))):
        raise DataError(f"postgresql://...: this is no USER:PASSWORD@HOST:PORT/DB; {_ENCODE}.")
    return f"{host}/{unquote(name)}"


def _asked(table: str | None, query: str | None) -> str:
    """The table, or which query it is: its text may hold a secret."""
    digest = hashlib.sha256((query or "").encode()).hexdigest()[:8]
    return f"table={table}" if table is not None else f"query={digest}"


def _sqlite_rows(source: Database, repairs: Counter[Repair]) -> Iterator[LogRow | Reject]:
    in_row: list[Repair] = []  # of the row that is read

    def text(raw: bytes) -> str:
        value, repair = decoded(raw)
        if repair is not None:
            in_row.append(repair)
        return value

    connection = sqlite3.connect(f"file:{quote(source.address)}?mode=ro", uri=True)
    try:
        connection.text_factory = text
        query = source.query or f"SELECT * FROM {_quoted(source.table or '')}"
        cursor = connection.execute(query)
        names = column_names([column[0] for column in cursor.description or ()])
        for row in _numbered(names, cursor):
            repairs.update(set(in_row))
            in_row.clear()
            yield row
    except (sqlite3.Error, sqlite3.Warning) as error:
        tables = "" if source.table is None else _nearest(source.table, _sqlite_tables(connection))
        raise DataError(f"{source.name}: {_first_line(error)}. {tables or 'Correct the query, or the file.'}") from None
    finally:
        connection.close()


def _sqlite_tables(connection: sqlite3.Connection) -> list[str]:
    try:
        return [name for (name,) in connection.execute(_SQLITE_TABLES)]
    except sqlite3.Error:
        return []


def _postgres_rows(source: Database) -> Iterator[LogRow | Reject]:
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ModuleNotFoundError:
        raise PrerequisiteError(
            f"{source.name}: PostgreSQL needs a driver. Install it: pip install 'drift-training[sql]'"
        ) from None
    query = source.query or f"SELECT * FROM {'.'.join(map(_quoted, (source.table or '').split('.')))}"
    try:
        options = conninfo_to_dict(source.address)
    except psycopg.Error:
        raise DataError(f"{source.name}: the address cannot be read; {_ENCODE}.") from None
    secrets = [str(options[name]) for name in ("password", "sslpassword") if options.get(name)]
    options = {"connect_timeout": _SECONDS_TO_CONNECT, **options}

    def fail(error: Exception, tables: Sequence[str] = ()) -> NoReturn:
        text = _first_line(error)
        for secret in secrets:
            text = text.replace(secret, "***")
        hint = _nearest((source.table or "").split(".")[-1], tables) if tables else "Correct the address or the query."
        raise DataError(f"{source.name}: {text}. {hint}") from None

    try:
        connection = psycopg.connect(**options)
    except psycopg.Error as error:
        fail(error)
    with connection:
        connection.read_only = True
        try:
            with connection.cursor(name="drift") as cursor:  # rows stay on the server until they are read
                cursor.itersize = _ROWS_PER_FETCH
                cursor.execute(query.encode())
                names = column_names([column.name for column in cursor.description or ()])
                yield from _numbered(names, cursor)
        except psycopg.Error as error:
            connection.rollback()
            fail(error, _postgres_tables(connection) if source.table is not None else ())


def _postgres_tables(connection: Any) -> list[str]:
    with connection.cursor() as cursor:
        return [name for (name,) in cursor.execute(_POSTGRES_TABLES)]


def _numbered(names: Sequence[str], rows: Any) -> Iterator[LogRow]:
    for number, row in enumerate(rows, 1):
        yield LogRow(Place(number), {name: plain_value(value) for name, value in zip(names, row, strict=True)})


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _nearest(name: str, names: Sequence[str]) -> str:
    """The table that may have been meant, and all tables; empty if the database has none."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean table={near[0]}? " if near else ""
    return f"{hint}Its tables: {', '.join(names[:20])}." if names else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
