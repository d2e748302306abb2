"""`drift export`: what is merged is the adapter's model, what cannot be exported is one line and leaves nothing."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drift.config import PolicySettings
from drift.delivery import Delivery, deliver
from drift.errors import ConfigError, DataError, PrerequisiteError, disk_trouble
from drift.policy.model import load_policy
from drift.rundir import RunDir

IDS = torch.tensor([[5, 60, 7, 80, 9, 100, 11, 120]])


def test_the_merged_export_is_the_adapters_model(adapter_run, tmp_path):
    done = deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True))
    policy = load_policy(adapter_run.run / "policy", PolicySettings())
    base = AutoModelForCausalLM.from_pretrained(adapter_run.base)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    with torch.inference_mode():
        wanted, found, before = (model(IDS).logits for model in (policy.model, merged, base))
    assert float((found - wanted).abs().max()) <= 1e-5
    assert float((found - before).abs().max()) > 1e-3  # the adapter does something
    assert done.largest_difference is not None
    assert done.largest_difference <= 1e-5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model", "pairs.jsonl", "report.html"]
    assert not [path.name for path in (tmp_path / "out/model").iterdir() if "adapter" in path.name]
    assert AutoTokenizer.from_pretrained(tmp_path / "out/model").chat_template == policy.tokenizer.chat_template


def test_without_merge_the_adapter_stays_one(adapter_run, tmp_path):
    done = deliver(adapter_run.run, tmp_path / "out")
    assert (tmp_path / "out/model/adapter_config.json").is_file()
    assert (done.largest_difference, done.gguf, done.modelfile, done.files, done.pushed) == (None,) * 5
    assert "library_name: peft" in Path(done.card).read_text()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Delivery(converter=Path("x")), "--converter names what --gguf runs: add --gguf"),
        (Delivery(dry_run=True), "--dry-run shows what --push would send: add --push OWNER/NAME"),
        (Delivery(gguf=True), r"--gguf needs a whole model, and .*policy is a LoRA adapter\. Add --merge"),
        (Delivery(ollama=True), r"--ollama needs a whole model, and .*policy is a LoRA adapter\. Add --merge"),
        (Delivery(push="no id at all"), r"--push no id at all: no id of a repository .*Write OWNER/NAME"),
        (Delivery(push="alone"), r"--push alone: no id of a repository\. Write OWNER/NAME"),
    ],
)
def test_options_that_do_not_fit(adapter_run, tmp_path, wanted, message):
    with pytest.raises(ConfigError, match=message):
        deliver(adapter_run.run, tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported(adapter_run, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: not a run, run\.json is missing"):
        deliver(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("")
    with pytest.raises(DataError, match=r"mine: already exists\. Name a new or empty folder: --to DIR"):
        deliver(adapter_run.run, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    unfinished = shutil.copytree(adapter_run.run, tmp_path / "unfinished")
    with pytest.raises(KeyboardInterrupt), RunDir.open(unfinished, (unfinished / "config.yaml").read_text(), 42):
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r"no policy to export yet \(interrupted\)\. Run its `drift run` again"):
        deliver(unfinished, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_that_changed_under_its_adapter_is_refused(adapter_run, tmp_path):
    weights = adapter_run.base / "model.safetensors"
    former = weights.read_bytes()
    try:
        weights.write_bytes(former[:-4] + b"\0\0\0\0")
        with pytest.raises(
            PrerequisiteError, match=r"trained on .*base, whose files have changed since.*Put the former"
        ):
            deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True))
    finally:
        weights.write_bytes(former)
    assert not (tmp_path / "out").exists()


def test_a_step_that_fails_leaves_no_half_export(adapter_run, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("drift.policy.merge.save_companions", full)
    (tmp_path / "there").mkdir()
    for folder in ("there", "new"):
        with pytest.raises(OSError, match="No space") as error:
            deliver(adapter_run.run, tmp_path / folder, Delivery(merge=True))
        assert "the disk is full" in str(disk_trouble(error.value))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []


CONVERTER = """
import sys
from pathlib import Path
import gguf, numpy
model, out = Path(sys.argv[1]), sys.argv[sys.argv.index("--outfile") + 1]
assert (model / "config.json").is_file() and sys.argv[-2:] == ["--outtype", "auto"], sys.argv
writer = gguf.GGUFWriter(out, "qwen2")
writer.add_tensor("a", numpy.zeros((2, 2), dtype=numpy.float32))
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
"""


def test_gguf_is_made_by_the_users_converter(adapter_run, tmp_path):
    pytest.importorskip("gguf")
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(CONVERTER)
    done = deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True, gguf=True, converter=script, ollama=True))
    assert done.gguf == str(tmp_path / "out/model/model.gguf")
    assert Path(done.gguf).read_bytes()[:4] == b"GGUF"
    assert (tmp_path / "out/model/Modelfile").read_text().startswith("FROM ./model.gguf\n")


def test_a_converter_that_is_missing_or_fails_is_one_line(adapter_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrerequisiteError, match=r"no convert_hf_to_gguf\.py is on the PATH\. git clone .*llama\.cpp"):
        deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True, gguf=True))
    with pytest.raises(PrerequisiteError, match=r"--converter .*nowhere: no such file.*git clone"):
        deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True, gguf=True, converter=tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("import sys; print('unknown pre-tokenizer'); sys.exit('Model Foo is not supported')")
    script.chmod(0o755)
    again = rf"To try again: {sys.executable} .*convert_hf_to_gguf\.py .*out/model --outfile"
    with pytest.raises(PrerequisiteError, match=rf"status 1: \.\.\.Model Foo is not supported .*{again}") as error:
        deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True, gguf=True))
    assert "\n" not in str(error.value)
    assert (tmp_path / "out/model/model.safetensors").is_file()  # the rest of the export is there
    assert not (tmp_path / "out/model/model.gguf").exists()
