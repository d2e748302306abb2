"""`drift live` as users call it: logs in, a page, JSON and an exit code out."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from drift.cli import app
from drift.config import LabelSettings
from drift.errors import DataError
from drift.feedback.stage import label_by
from drift.live.results import read_result
from drift.logs.ingest import ingest
from drift.store import Store
from live_stores import Deployment, days

HOSTILE = "<script>alert(1)</script>"


def call(*arguments: object):
    return CliRunner().invoke(app, ["live", *map(str, arguments)])


def log_file(path: Path, share: dict[str, int], chats: int = 200) -> Path:
    """`share`: complaints in ten chats of each model, alternating, over a week."""
    rows = []
    for number in range(chats):
        model = sorted(share)[number % len(share)]
        complains = number // len(share) % 10 < share[model]
        rows.append(
            {
                "id": f"chat-{number}", "user": f"user-{number % 90}", "model": model,
                "timestamp": f"2026-03-{number * 7 // chats + 1:02d}T09:00:00Z",
                "messages": [
                    {"role": "user", "content": "Name the capital of Peru."},
                    {"role": "assistant", "content": "Quito."},
                    {"role": "user", "content": "No, that is wrong." if complains else "Now name that of Chile."},
                ],
            }
        )  # fmt: skip
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    return path


def test_from_logs_to_an_alert(tmp_path: Path):
    """The same command again reads nothing new and says the same."""
    store, logs = tmp_path / "store", log_file(tmp_path / "logs.jsonl", {"a": 1, "b": 8}, 400)
    first = call("--store", store, "--logs", logs, "--json")
    again = call("--store", store, "--logs", logs, "--json")
    assert (first.exit_code, again.exit_code) == (3, 3)
    assert "accepted     400" in first.stderr
    assert "accepted     0" in again.stderr
    assert first.stdout == again.stdout
    result = orjson.loads(first.stdout.splitlines()[-1])
    assert [(c["model"], c["against"], c["verdict"]) for c in result["comparisons"]] == [("b", "a", "worse")]
    page = (store / "live.html").read_text("utf-8")
    assert "Users are more dissatisfied with b than with a" in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http-equiv", "")
    kept = read_result(store)
    assert kept is not None
    assert kept.model_dump(mode="json") == result


def test_a_model_that_is_better_than_the_measure_is_no_alert(tmp_path: Path):
    """Both began on one day. Without a measure either of them may be the new one, so the worse one alerts."""
    logs = log_file(tmp_path / "logs.jsonl", {"a": 8, "b": 1}, 400)
    done = call("--store", tmp_path / "store", "--logs", logs, "--against", "a", "--out", tmp_path / "page.html")
    assert (done.exit_code, done.stdout) == (0, "")
    assert call("--store", tmp_path / "store").exit_code == 3
    assert "users are less dissatisfied with b than with a" in done.stderr
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize(
    "settings", [LabelSettings(), LabelSettings(languages="all"), LabelSettings(approval="phrases")]
)
def test_new_logs_are_labelled_as_the_store_was(tmp_path: Path, settings: LabelSettings):
    """German complaints: with `languages: all` their labels stay, and the new ones get such labels too."""
    store = Store(tmp_path / "store")
    for name, words in (("first", "Das ist falsch, bitte noch einmal."), ("second", "Das stimmt leider nicht.")):
        rows = [
            {
                "id": f"{name}-{number}", "model": "a", "timestamp": "2026-03-01T09:00:00Z",
                "messages": [
                    {"role": "user", "content": "Nenne mir bitte die Hauptstadt von Peru."},
                    {"role": "assistant", "content": "Die Hauptstadt von Peru ist Quito."},
                    {"role": "user", "content": words},
                ],
            }
            for number in range(30)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    ingest([str(tmp_path / "first.jsonl")], store)
    label_by(store, settings)
    before = list(store.labels())
    assert call("--store", store.path, "--logs", tmp_path / "second.jsonl").exit_code == 0
    labels = list(store.labels())
    assert (len(before), len(labels)) == (30, 60)
    assert [label for label in labels if label in before] == before
    assert len({label.labeller_version for label in labels}) == 1
    judged = sum(label.label != "ABSTAIN" for label in labels)
    assert judged == (60 if settings.languages == "all" else 0)


def test_labels_of_a_former_version_are_not_mixed_with_new_ones(deployment: Deployment, tmp_path: Path):
    """Nothing is ingested: the store is as it was."""
    deployment.days("a", days(1, 3), 10, 2)
    store = deployment.store()
    logs = log_file(tmp_path / "logs.jsonl", {"a": 1, "b": 8})
    result = call("--store", store.path, "--logs", logs)
    assert isinstance(result.exception, DataError)
    assert f"Label all alike: drift label --store {store.path}" in str(result.exception)
    assert store.size() == 30


def test_names_from_logs_are_escaped(deployment: Deployment):
    for model in (HOSTILE, "b"):
        deployment.days(model, days(1, 3), 10, 2)
    deployment.store()
    assert call("--store", deployment.path).exit_code == 0
    assert HOSTILE not in (deployment.path / "live.html").read_text("utf-8")


def test_a_page_that_cannot_be_written(deployment: Deployment):
    deployment.days("a", days(1, 3), 10, 2)
    deployment.store()
    result = call("--store", deployment.path, "--out", "/dev/null/page.html")
    assert isinstance(result.exception, DataError)
    assert "--out /dev/null/page.html: cannot be written" in str(result.exception)


def test_a_readout_of_another_version(deployment: Deployment):
    deployment.store()
    assert read_result(deployment.path) is None
    (deployment.path / "live.json").write_text('{"store": 1}')
    with pytest.raises(DataError, match=r"live\.json: invalid readout: .* Run `drift live --store .*` again"):
        read_result(deployment.path)
