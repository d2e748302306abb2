"""Tables and queries of SQLite and of a real PostgreSQL server: the same rows, and never a password in what is said."""

import json
import math
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from drift.config import IngestionSettings, dump_config, parse_config
from drift.errors import DataError, DriftError
from drift.logs.files.databases import database_of, is_url
from drift.logs.files.opening import plain_value
from drift.logs.files.rows import LogRow
from drift.logs.ingest import ingest
from drift.records import Rating
from drift.store import Store

MAP = {"conversation": "thread", "role": "sender", "content": "body", "time": "at", "rating": "thumb"}
ROWS = [
    ("x", "user", "2+2?", "2024-05-01 10:00:00", None),
    ("y", "user", "hä?", "2024-05-01 10:00:01", None),
    ("x", "bot", "5", "2024-05-01 10:00:02", -1),
    ("x", "user", "No.", "2024-05-01 10:00:03", None),
]
PASSWORD = "s3cret%/word"
ENCODED = "s3cret%25%2Fword"


@pytest.fixture
def sqlite(tmp_path) -> Path:
    file = tmp_path / "app db.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE chats (thread TEXT, sender TEXT, body TEXT, at TEXT, thumb INTEGER)")
        connection.executemany("INSERT INTO chats VALUES (?, ?, ?, ?, ?)", ROWS)
    return file


def read(url: str, tmp_path: Path, **settings) -> tuple[dict, Store]:
    store = Store(tmp_path / "store")
    summary = ingest([url], store, settings=IngestionSettings.model_validate({"map": MAP, **settings}))
    assert (summary.rows, summary.accepted, summary.adds_up) == (4, 2, True)
    return {c.source_id: c for c in store.conversations()}, store


def check(found: dict) -> None:
    assert [(m.role, m.content) for m in found["x"].messages] == [("user", "2+2?"), ("assistant", "5"), ("user", "No.")]
    assert found["x"].ratings == (Rating(1, "thumb", -1.0),)
    assert found["x"].started_at.startswith("2024-05-01")
    assert found["y"].messages[0].content == "hä?"


@pytest.mark.parametrize("asked", ["table=chats", "query=SELECT * FROM chats WHERE body LIKE '%' AND 1 < 2 & 3;"])
def test_sqlite_is_read_like_a_file(tmp_path, sqlite, asked):
    check(read(f"sqlite:///{sqlite}?{asked}", tmp_path)[0])
    check(read(f"sqlite:////{sqlite}?{asked.replace(' ', '%20')}", tmp_path / "2")[0])


def test_a_relative_sqlite_file_is_found(tmp_path, sqlite, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert database_of("sqlite:///app db.sqlite?table=chats").name == f"sqlite:///{sqlite}?table=chats"
    assert database_of("sqlite:///app%20db.sqlite?table=chats").address == str(sqlite)


def test_quarantine_names_the_database_and_the_row(tmp_path, sqlite):
    with sqlite3.connect(sqlite) as connection:
        connection.execute("INSERT INTO chats VALUES ('z', 'nobody', 'q', NULL, NULL)")
    store = Store(tmp_path / "store")
    ingest([f"sqlite:///{sqlite}?table=chats"], store, settings=IngestionSettings(map=MAP))
    (note,) = store.quarantined()
    assert (note.file, note.line) == (f"sqlite:///{sqlite}?table=chats", 5)


def test_a_table_of_a_known_format_needs_no_mapping(tmp_path):
    file = tmp_path / "logs.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE t (id, messages)")
        messages = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
        connection.execute("INSERT INTO t VALUES (7, ?)", (messages,))
    store = Store(tmp_path / "store")
    assert ingest([f"sqlite:///{file}?table=t"], store).formats == {"messages": 1}
    assert [c.source_id for c in store.conversations()] == ["7"]


def test_sqlite_text_in_latin1_is_recoded_and_names_that_come_twice_are_numbered(tmp_path):
    file = tmp_path / "x.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (CAST(x'636166e9' AS TEXT)), (x'00ff')")
    repairs: Counter = Counter()
    rows = list(database_of(f"sqlite:///{file}?query=SELECT a, a FROM t").rows(lambda done: None, repairs))
    assert [row.value for row in rows if isinstance(row, LogRow)] == [
        {"a (1)": "café", "a (2)": "café"},
        {"a (1)": b"\x00\xff", "a (2)": b"\x00\xff"},
    ]
    assert repairs == {"read_as_latin1": 1}


def test_a_database_is_opened_for_reading_only(sqlite):
    with pytest.raises(DataError, match=r"readonly|read-only|attempt to write"):
        list(database_of(f"sqlite:///{sqlite}?query=DELETE FROM chats").rows(lambda done: None, Counter()))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///{db}?table=chat", r"no such table: chat. Did you mean table=chats\? Its tables: chats"),
        ("sqlite:///{db}?query=SELECT missing FROM chats", "no such column: missing"),
        ("sqlite:///{db}", "name a table or a query"),
        ("sqlite:///{db}?table=a&query=SELECT 1", "name a table or a query, and not both"),
        ("sqlite:///{db}?tabel=chats", "name a table or a query"),
        ("sqlite:///{db}?table=chats&mode=rw", "unknown option 'mode'"),
        ("sqlite:///missing.db?table=chats", "missing.db: no such SQLite file"),
        ("sqlite:///{text}?table=chats", "file is not a database"),
        ("mysql://u:pw@h/db?table=chats", "mysql://...: not a database that is read. Write sqlite:///FILE"),
        ("https://example.com/x.jsonl", "https://...: not a database"),
    ],
)
def test_a_wrong_url_says_what_is_right(tmp_path, sqlite, url, says):
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough to be one" * 100)
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match=says) as caught:
        ingest([url.format(db=sqlite, text=text)], store, settings=IngestionSettings(map=MAP))
    assert "pw@" not in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "login",
    ["u:se/cret@h/db", "u:se@cret@h/db", "u:se?cret@h/db", "u:secret@h:port/db", "u:se:cret/h", "u:%zzsecret@h/db"],
)
def test_a_password_that_is_not_encoded_is_never_shown(login, tmp_path):
    def read_it() -> None:
        found = database_of(f"postgresql://{login}?table=t")
        assert "cret" not in found.name + repr(found)
        list(found.rows(lambda done: None, Counter()))

    with pytest.raises(DriftError) as caught:
        read_it()
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "%2F" in str(caught.value)


def test_configs_are_written_without_passwords():
    urls = [
        "postgresql://u:s3cret@h:5432/db?query=SELECT 'a@b:c'",
        "postgres://u:s3c@ret/x@h/db?sslmode=require&table=t",
        "postgresql://h/db?user=u&password=s3cret&table=t",
        "postgresql://u@h/db?table=t",
        "logs/a:b@c.jsonl",
    ]
    written = dump_config(parse_config({"logs": urls}, "test"))
    assert "s3c" not in written
    assert "ret/x" not in written
    assert "postgresql://u@h:5432/db?query=SELECT 'a@b:c'" in written.replace("''", "'")
    assert "postgres://u@h/db?sslmode=require&table=t" in written
    assert "- postgresql://u@h/db?table=t" in written
    assert "- logs/a:b@c.jsonl" in written
    assert [is_url(url) for url in urls] == [True, True, True, True, False]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of its own on a free port: the HOST:PORT. Needs the binaries of Debian's package `postgresql`."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'drift-training[sql]'")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("PostgreSQL is not here: apt-get install -y postgresql")
    folder = Path(tempfile.mkdtemp(prefix="drift-postgres-"))
    user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = {"user": next(name for name in ("postgres", "nobody") if name in names)}
        shutil.chown(folder, user["user"])
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data, bin_ = folder / "data", binaries[-1].parent
    run = {"check": True, "capture_output": True, "cwd": "/", **user}
    login = ["-U", "drift", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run([bin_ / "initdb", "-D", data, "-E", "UTF8", "--no-sync", *login], **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    subprocess.run([bin_ / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"], **run)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(postgres) -> str:
    """The URL of a database with the chats."""
    import psycopg

    url = f"postgresql://drift:{ENCODED}@{postgres}/postgres"
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA app")
        connection.execute(
            "CREATE TABLE app.chats (thread uuid, sender text, body text, at timestamptz, thumb numeric, data jsonb)"
        )
        for thread, sender, body, at, thumb in ROWS:
            data = json.dumps({"chat": {"id": thread}, "parts": [body]})
            connection.execute(
                "INSERT INTO app.chats VALUES (md5(%s)::uuid, %s, %s, %s, %s, %s)",
                (thread, sender, body, at, thumb, data),
            )
    return url


def test_postgresql_is_read_like_a_file(tmp_path, server):
    for number, asked in enumerate(("table=app.chats", "query=SELECT * FROM app.chats WHERE body LIKE '%'")):
        found, store = read(f"{server}?{asked}", tmp_path / str(number))
        check({len(c.messages): c for c in found.values()} | {"x": max(found.values(), key=lambda c: len(c.messages)),
              "y": min(found.values(), key=lambda c: len(c.messages))})  # fmt: skip
        kept = b"".join(file.read_bytes() for file in store.path.rglob("*") if file.is_file())
        assert b"s3cret" not in kept
    nested = {"conversation": "data.chat.id", "content": "data.parts.0"}
    check(read(f"{server}?table=app.chats", tmp_path / "nested", map={**MAP, **nested})[0])
    other = f"postgres://{server.partition('://')[2].replace(f':{ENCODED}', '')}?password={ENCODED}&table=app.chats"
    assert len(read(other, tmp_path / "other")[0]) == 2


def test_many_rows_are_streamed(tmp_path, server):
    query = (
        "SELECT n % 1000 AS thread, 'user' AS sender, repeat('x', 1000) || n AS body FROM generate_series(1, 20000) n"
    )
    store = Store(tmp_path / "store")
    settings = IngestionSettings(
        map={"conversation": "thread", "role": "sender", "content": "body"}, redact=False, near_duplicates=False
    )
    summary = ingest([f"{server}?query={query}"], store, settings=settings)
    assert (summary.rows, summary.accepted) == (20_000, 1000)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((ENCODED, "wr0ng"), "password authentication failed"),
        (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist'),
        (("table=app.chats", "table=app.chat"), r"does not exist. Did you mean table=chats\? Its tables: chats"),
        (("table=app.chats", "query=SELECT nothing"), 'column "nothing" does not exist'),
        (("table=app.chats", "query=DELETE FROM app.chats"), "syntax error|read-only"),
        (("@127.0.0.1:", "@127.0.0.1:1"), "."),
    ],
)
def test_what_the_server_refuses_is_one_line_without_a_password(tmp_path, server, change, says):
    url = f"{server}?table=app.chats".replace(*change)
    with pytest.raises(DataError, match=says) as caught:
        ingest([url], Store(tmp_path / "store"), settings=IngestionSettings(map=MAP))
    said = str(caught.value)
    assert "\n" not in said
    assert not [word for word in (PASSWORD, ENCODED, "wr0ng", "s3cret", "drift:") if word in said]
    assert said.startswith("postgresql://127.0.0.1:")


def test_without_the_driver_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(DriftError, match=r"pip install 'drift-training\[sql\]'") as caught:
        ingest(["postgresql://u:secret@h/db?table=t"], Store(tmp_path / "s"), settings=IngestionSettings(map=MAP))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("value", "read"), [("2", 2), ("2.50", 2.5), ("Infinity", math.inf), ("-Infinity", -math.inf)])
def test_numeric_values_of_postgresql_become_numbers(value, read):
    assert plain_value(Decimal(value)) == read
