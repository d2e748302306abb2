"""The commands as a user gives them, on good and bad input."""

import inspect
import json
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

from command import drift
from drift.cli.labels import label
from drift.config import ExperimentalLabels, LabelSettings

CHATS = [
    {"id": "a", "messages": [
        {"role": "user", "content": "Sort these words: pear fig"},
        {"role": "assistant", "content": "pear fig"},
        {"role": "user", "content": "No, that is wrong. You did not sort them at all."},
        {"role": "assistant", "content": "fig pear"},
        {"role": "user", "content": "Perfect, thank you so much!"},
    ]},
    {"id": "b", "messages": [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And what is the capital of Spain?"},
    ]},
]  # fmt: skip


def summary_of(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(chat) + "\n" for chat in CHATS), encoding="utf-8")
    return path


def test_the_version_is_that_of_the_package():
    done = subprocess.run([sys.executable, "-m", "drift", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"drift {metadata.version('drift-training')}\n")


def test_what_is_quarantined_is_counted_in_the_summary(tmp_path, log):
    with log.open("a", encoding="utf-8") as rows:
        rows.write('{"id": "c", "messages": [{"role": "assistant", "content": "hi"}]}\n{broken\n')
    command = [sys.executable, "-m", "drift", "ingest", log, "--store", tmp_path / "store", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    summary = summary_of(done)
    assert (summary["read"], summary["accepted"]) == (4, 2)
    assert summary["quarantined"] == {"no_user_turn": 1, "broken_json": 1}
    assert "broken_json 1" in done.stderr


def test_nothing_usable_ends_with_exit_code_1_and_the_reason(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"messages": [{"role": "nobody", "content": "x"}]}\n', encoding="utf-8")
    config = tmp_path / "run.yaml"
    config.write_text(f"policy: {{model: embedded}}\nlogs: [{log}]\n", encoding="utf-8")
    store = tmp_path / "store"
    for command in (
        ("ingest", log, "--store", store, "--json"),
        ("ingest", log, "--store", store, "--dry-run"),
        ("pairs", log, "--store", store, "--out", tmp_path / "pairs.jsonl"),
        ("run", config, "--out", tmp_path / "run"),
    ):
        done = drift(*command)
        assert done.returncode == 1, done.stderr
        assert "nothing usable in these logs: 1 row read as messages: 1 unknown_role" in done.stderr
        assert "Traceback" not in done.stderr


def test_stage_by_stage(tmp_path, log):
    store = tmp_path / "store"
    assert summary_of(drift("ingest", log, "--store", store, "--json"))["accepted"] == 2
    again = summary_of(drift("ingest", log, "--store", store, "--json"))
    assert (again["read"], again["accepted"], again["duplicate"]) == (2, 0, 2)

    out = tmp_path / "labels.jsonl"
    assert summary_of(drift("label", "--store", store, "--out", out, "--json"))["rows"] == 3
    rows = {(row["source_id"], row["message_index"]): row for row in map(json.loads, out.read_text().splitlines())}
    assert {key: row["label"] for key, row in rows.items()} == {("a", 2): "DSAT", ("a", 4): "SAT", ("b", 2): "NEUTRAL"}
    assert rows["a", 2]["evidence"] in CHATS[0]["messages"][2]["content"]
    assert set(rows["a", 2]) == {
        "source_id", "message_index", "label", "subtype", "p_dsat", "evidence", "labeller"
    }  # fmt: skip

    summary_of(drift("pairs", "--store", store, "--out", tmp_path / "prompts.jsonl", "--json"))
    (item,) = map(json.loads, (tmp_path / "prompts.jsonl").read_text().splitlines())
    (repair,) = map(json.loads, (tmp_path / "prompts.repairs.jsonl").read_text().splitlines())
    assert item["rejected"] == {"role": "assistant", "content": "pear fig"}
    assert repair["prompt"] == [{"role": "user", "content": "Sort these words: pear fig"}]
    assert repair["chosen"] == [{"role": "assistant", "content": "fig pear"}]


FILES = {
    "empty.jsonl": "",
    "other.jsonl": '{"a": 1}\n',
    "text.txt": "hello\n",
    "file": "x",
    "typo.yaml": "trainig: {beta: 1}\n",
    "no-model.yaml": "policy: {model: ./nothing}\nlogs: [log.jsonl]\n",
    "no-logs.yaml": "policy: {model: embedded}\n",
}


@pytest.mark.parametrize(
    "command",
    [
        "ingest missing.json --store store",
        "ingest empty.jsonl --store store",
        "ingest other.jsonl --store store",
        "ingest text.txt --store store",
        "ingest log.jsonl --store file",
        "ingest log.jsonl --store store --format nonsense",
        "label --store store",
        "pairs --store store --out p.jsonl",
        "run typo.yaml",
        "compare none.yaml",
        "compare typo.yaml",
        "run none.yaml",
        "run no-model.yaml --out run-1",
        "run no-logs.yaml --out run-2",
        "run no-model.yaml --out file",
        "report .",
        "export . --to exported",
    ],
)
def test_bad_input_is_one_line_with_exit_status_1(tmp_path, log, command):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = drift(*command.split(), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("drift: ")]
    assert len(told) == 1
    assert done.stderr.rstrip().endswith(told[0])


def test_the_earlier_spelling_of_a_server_still_works_and_names_todays(tmp_path, log):
    store = tmp_path / "store"
    summary_of(drift("ingest", log, "--store", store, "--json"))
    label = ("label", "--store", store, "--labeller", "judge", "--dry-run", "--json")
    today = drift(*label, "--judge", "http://127.0.0.1:9/v1#big")
    earlier = drift(*label, "--endpoint", "http://127.0.0.1:9/v1", "--model", "big")
    assert summary_of(earlier) == summary_of(today)
    assert "--endpoint and --model are deprecated. Write: --judge http://127.0.0.1:9/v1#big\n" in earlier.stderr
    assert "deprecated" not in today.stderr
    assert "--endpoint" not in drift("label", "--help").stdout
    half = drift("rubric", "fit", "--store", store, "--out", tmp_path / "r.yaml", "--endpoint", "http://127.0.0.1:9/v1")
    assert half.returncode == 1
    assert "--model is missing. Write both as one option: --judge URL#MODEL." in half.stderr
    ignored = drift("label", "--store", store, "--judge", "http://127.0.0.1:9/v1#big")
    assert ignored.returncode == 1
    assert "--judge is given, but the embedded labeller asks no judge: add --labeller judge" in ignored.stderr
    missing = drift("label", "--store", store, "--labeller", "cascade")
    assert missing.returncode == 1
    assert "a judge is needed: --judge URL#MODEL" in missing.stderr


def test_options_of_label_begin_with_the_defaults_of_the_config():
    """The command spells them once more, because the config takes too long to load for `--help`."""
    given = {name: parameter.default for name, parameter in inspect.signature(label).parameters.items()}
    settings = LabelSettings().model_dump() | ExperimentalLabels().model_dump()
    names = ("judge_by", "judge_from", "approval", "languages", "audit_share")
    assert {name: given[name] for name in names} == {name: settings[name] for name in names}


def test_wrong_usage_is_exit_status_2(tmp_path):
    assert drift("ingest", cwd=tmp_path).returncode == 2
    assert drift("nonsense", cwd=tmp_path).returncode == 2


def test_help_needs_no_torch_and_every_command_has_an_example():
    heavy = "('torch', 'transformers', 'duckdb', 'sklearn')"
    code = f"import sys; import drift.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for command in ("ingest", "label", "pairs", "run", "runs", "report", "export", "demo", "compare"):
        assert f"Example: drift {command}" in drift(command, "--help").stdout


def test_an_interrupted_command_says_that_it_can_be_repeated(tmp_path):
    big = tmp_path / "big.jsonl"
    with big.open("w") as out:
        for n in range(10_000):
            out.write(json.dumps({"id": str(n), "messages": CHATS[0]["messages"]}) + "\n")
    command = [sys.executable, "-m", "drift", "ingest", str(big), "--store", str(tmp_path / "store")]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while process.poll() is None and not (tmp_path / "store/.staging").exists():  # it has begun to read
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    assert summary_of(drift("ingest", big, "--store", tmp_path / "store", "--json"))["accepted"] == 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.html"], "FILE is given, but only a report uses that: add --report."),
        (["--gold", "nope.jsonl"], "--gold is given, but only a report uses that: add --report."),
        (["--rubric", "nope.yaml", "--judge-from", "0.9"], "--rubric and --judge-from are given, but the embedded"),
        (["--dry-run"], "--dry-run is given, but the embedded labeller sends no request that it could count: add"),
        (["--labeller", "judge", "--audit-share", "0.1"], "the judge labels every turn: add --labeller cascade."),
        (["--labeller", "judge", "--languages", "all"], "only the embedded labeller uses that"),
    ],
)
def test_an_option_that_nothing_would_use_is_refused_with_the_one_that_it_needs(tmp_path, arguments, message):
    done = drift("label", "--store", tmp_path / "store", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert message in done.stderr


def test_a_report_with_other_languages_labels_anew(tmp_path, log):
    """With --report alone, the labels that the store has are reported."""
    store = tmp_path / "store"
    drift("ingest", log, "--store", store)
    drift("label", "--store", store)
    alone, anew = (drift("label", "--store", store, "--report", *more) for more in ([], ["--languages", "all"]))
    assert (alone.returncode, anew.returncode) == (0, 0), anew.stderr
    assert "added" not in alone.stderr
    assert "added" in anew.stderr
