"""An export that leaves this machine: to a bucket, or an adapter to the Hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from command import drift
from drift.delivery import Delivery, deliver
from drift.errors import ConfigError
from drift.progress import listening
from drift.rundir import RunDir

BUCKET = "memory://bucket"


@pytest.fixture
def bucket() -> Iterator[dict[str, bytes]]:
    """What the storage holds, by path."""
    files = fsspec.filesystem("memory")
    yield files.store
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


def write_policy(out: Path, files: tuple[tuple[str, str], ...]) -> dict[str, int]:
    out.mkdir()
    for name, text in files:
        (out / f"{name}.json").write_text(text)
    return {"iteration": 0}


def write_run(folder: Path, **files: str) -> Path:
    with RunDir.open(folder, "name: x\n", seed=1) as run:
        run.stage("policy", write_policy, files=tuple(files.items()))
    return folder


def names(bucket: dict[str, bytes]) -> list[str]:
    return sorted(path.removeprefix("/bucket/") for path in bucket if path.startswith("/bucket/"))


def test_a_url_with_something_below_it_is_refused(bucket, tmp_path):
    run = write_run(tmp_path / "run", config="{}")
    to = f"{BUCKET}/m"
    done = drift("export", run, "--to", to, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["model"] == f"{to}/model"
    first = names(bucket)
    assert first == ["m/model/README.md", "m/model/config.json", "m/pairs.jsonl", "m/report.html"]
    other = write_run(tmp_path / "other", config="{}", generation_config="{}")
    again = drift("export", other, "--to", f"{to}/")
    assert again.returncode == 1
    said = " ".join(again.stderr.split())
    assert f"--to {to}: there is a folder with something in it. Name another: --to URL." in said
    assert names(bucket) == first
    assert drift("export", other, "--to", f"{BUCKET}/m2").returncode == 0  # a name that only begins alike


def test_a_failing_converter_leaves_the_rest_of_the_export_in_the_bucket(bucket, tmp_path):
    run = write_run(tmp_path / "run", config="{}")
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("import sys; sys.exit('Model Foo is not supported')")
    done = drift("export", run, "--to", f"{BUCKET}/m", "--gguf", "--converter", script)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "Model Foo is not supported" in said
    assert f"The rest of the export is in {BUCKET}/m. To try again: " in said
    assert f"A command that names {BUCKET}/m needs a copy of it on this machine" in said
    assert "drift-upload-" not in said
    assert names(bucket) == ["m/model/README.md", "m/model/config.json", "m/pairs.jsonl", "m/report.html"]


def test_an_export_that_cannot_begin_leaves_nothing_in_the_bucket(bucket, tmp_path):
    done = drift("export", tmp_path / "nowhere", "--to", f"{BUCKET}/m")
    assert done.returncode == 1
    assert "not a run" in done.stderr
    assert names(bucket) == []


@pytest.mark.parametrize("refused", [True, False])
def test_an_adapter_is_pushed_only_if_others_have_its_base(tmp_path, refused):
    (tmp_path / "mine").mkdir()
    base = str(tmp_path / "mine") if refused else "org/base"
    adapter = json.dumps({"base_model_name_or_path": base, "r": 4, "peft_type": "LORA"})
    run = write_run(tmp_path / "run", adapter_config=adapter)
    wanted, notes = Delivery(push="me/model", dry_run=True), []
    with listening(lambda *_: None, notes.append):
        if refused:
            with pytest.raises(ConfigError, match=r"--push me/model: .*adapter on /.*/mine, a path of .*Add --merge"):
                deliver(run, tmp_path / "out", wanted)
            assert not (tmp_path / "out").exists()
            deliver(run, tmp_path / "out")
        else:
            deliver(run, tmp_path / "out", wanted)
    assert any("names its base by a path of this machine" in note for note in notes) == refused
