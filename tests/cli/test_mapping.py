"""`--map` and `--roles` as a user writes them, and the same in a config."""

import json
import sqlite3

import pytest

from command import drift
from drift.cli.privacy import ingestion_settings
from drift.config import IngestionSettings, parse_config
from drift.errors import ConfigError

TABLE = "thread,sender,body,extra\nx,customer,2+2?,1\nx,bot,5,\nx,customer,No,\n"


def settings_of(columns: list[str], roles: list[str] | None = None) -> IngestionSettings:
    return ingestion_settings(
        redact=True, keep=[], persons=None, consent=[], near_duplicates=False, columns=columns, roles=roles or []
    )


def test_columns_and_roles_are_lists_of_assignments():
    found = settings_of(
        ["conversation=thread id,role=who", "content=a, b and c, time = at"], ["user=customer,user=visitor,skip=a=b"]
    )
    assert found.map == {"conversation": "thread id", "role": "who", "content": "a, b and c", "time": "at"}
    assert found.roles == {"user": ("customer", "visitor"), "skip": ("a=b",)}
    assert settings_of([]).map == {}


@pytest.mark.parametrize(
    ("columns", "roles", "says"),
    [
        (["request"], [], "--map request: write it as conversation=thread_id,role=sender,content=body."),
        (["request=,reply=b"], [], "--map request=: write it as"),
        (["request=a"], [], "--map: reply is missing; needed: conversation=COLUMN,role=COLUMN,content=COLUMN or"),
        (["content=a,role=b"], [], "--map: conversation is missing"),
        (["time=a"], [], "--map: conversation is missing"),
        (["requst=a,reply=b"], [], "--map: unknown key 'requst'; the nearest right one is 'request'."),
        (["request=a,reply=a"], [], "--map: column 'a' is mapped twice, as reply and as request."),
        (["request=a,reply=b,request=c"], [], "--map: request is given twice, as 'a' and as 'c'."),
        (["request=a,reply=b,content=c"], [], "--map: a row is a message or an exchange: remove content or request."),
        (["request=a,reply=b,tool_calls=c"], [], "--map: tool_calls is only for tables with one message per row."),
        (
            ["conversation=a,role=b,content=c,system=d"],
            [],
            "--map: system is only for tables with one exchange per row.",
        ),
        (
            ["conversation=a,role=b,content=c"],
            ["usr=x"],
            "--roles: unknown role 'usr'; the nearest right one is 'user'",
        ),
        (
            ["conversation=a,role=b,content=c"],
            ["user=x,assistant=X"],
            "--roles: 'X' cannot be both user and assistant.",
        ),
        (
            ["conversation=a,role=b,content=c"],
            ["customer"],
            "--roles customer: write it as user=customer,assistant=bot.",
        ),
        (
            ["conversation=a,role=b,content=c"],
            ["user=*,assistant=*"],
            "--roles: '*' cannot be both user and assistant.",
        ),
        (["request=a,reply=b"], ["user=x"], "--roles: a table of exchanges has no roles: leave --roles out"),
    ],
)
def test_a_wrong_mapping_is_one_clear_line(columns, roles, says):
    with pytest.raises(ConfigError) as caught:
        settings_of(columns, roles)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_maps_columns_too():
    tree = {"map": {"conversation": "a", "role": "b", "content": "c"}, "roles": {"user": True, "assistant": ["x", 1]}}
    assert parse_config({"ingestion": tree}, "test").ingestion.roles == {"user": ("true",), "assistant": ("x", "1")}
    with pytest.raises(ConfigError, match=r"ingestion.map: unknown key 'contnt'; the nearest right one is 'content'"):
        parse_config({"ingestion": {"map": {"contnt": "a"}}}, "test")
    with pytest.raises(ConfigError, match=r"ingestion.roles: unknown role 'usr'"):
        parse_config({"ingestion": {**tree, "roles": {"usr": "x"}}}, "test")


def test_a_table_through_the_command_and_through_a_run(tmp_path):
    file = tmp_path / "chats.csv"
    file.write_text(TABLE, encoding="utf-8")
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("CREATE TABLE chats (thread, sender, body)")
        rows = [line.split(",")[:3] for line in TABLE.splitlines()[1:]]
        connection.executemany("INSERT INTO chats VALUES (?, ?, ?)", rows)
    options = ["--map", "conversation=thread,role=sender,content=body", "--roles", "user=customer"]
    for log in (str(file), f"sqlite:///{tmp_path}/app.db?table=chats"):
        done = drift("ingest", log, "--store", tmp_path / "store", "--json", *options)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        assert (summary["rows"], summary["accepted"] + summary["duplicate"]) == (3, 1)
    assert "unread" in done.stderr
    config = tmp_path / "run.yaml"
    config.write_text(
        f"policy: {{model: embedded}}\nlogs: ['sqlite:///{tmp_path}/app.db?table=chats']\n"
        "ingestion: {map: {conversation: thread, role: sender, content: boddy}, roles: {user: customer}}\n",
        encoding="utf-8",
    )
    done = drift("run", config, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "no column 'boddy' for content; did you mean --map content=body?" in done.stderr
    assert "Traceback" not in done.stderr
