"""What this machine cannot do is said before anything is computed."""

from importlib.util import find_spec

import pytest
import torch

from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.errors import ConfigError, PrerequisiteError
from drift.training.scale.prerequisites import check_scale


def test_what_always_works_is_not_refused():
    check_scale(PolicySettings(lora=LoraSettings()), TrainingSettings(), TrainingSettings(optimizer="adamw_torch"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a CUDA GPU these may be there")
@pytest.mark.parametrize(
    ("policy", "optimizer", "setting"),
    [
        (PolicySettings(), "paged_adamw_8bit", "training.optimizer=paged_adamw_8bit"),
        (PolicySettings(lora=LoraSettings(quantize="4bit")), "rmsprop", "policy.lora.quantize=4bit"),
    ],
)
def test_bitsandbytes_needs_the_library_and_a_gpu(policy, optimizer, setting):
    with pytest.raises(PrerequisiteError, match=rf"^{setting}: .*(pip install 'drift-training\[bnb\]'|CUDA GPU)"):
        check_scale(policy, TrainingSettings(optimizer=optimizer))


@pytest.mark.parametrize(
    ("policy", "changes", "message"),
    [
        (PolicySettings(), {}, r"--set training\.launch='torchrun"),
        (
            PolicySettings(),
            {"launch": "torchrun", "optimizer": "adamw_bnb_8bit"},
            "optimizer to one of adamw_torch, adamw_torch_fused, rms",
        ),
        (
            PolicySettings(lora=LoraSettings(quantize="4bit")),
            {"launch": "torchrun"},
            r"remove policy\.lora\.quantize",
        ),
    ],
)
def test_what_sharded_weights_exclude(policy, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_scale(policy, TrainingSettings(shard=True, **changes))


@pytest.mark.skipif(find_spec("trackio") is not None, reason="trackio is installed")
def test_a_tracker_that_is_not_installed_is_named():
    with pytest.raises(PrerequisiteError, match=r"training.report_to=trackio: .* pip install trackio"):
        check_scale(PolicySettings(), TrainingSettings(report_to=("trackio",)))


@pytest.mark.skipif(find_spec("sqlalchemy") is not None, reason="mlflow can write its SQLite file")
def test_mlflow_needs_a_place_to_write_to(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    missing = "pip install 'drift-training\\[trackers\\]'" if find_spec("mlflow") is None else "MLFLOW_TRACKING_URI"
    with pytest.raises(PrerequisiteError, match=rf"training\.report_to=mlflow: .*{missing}"):
        check_scale(PolicySettings(), TrainingSettings(report_to=("mlflow",)))


def test_a_command_that_torchrun_starts_says_what_to_do(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"--set training.launch='torchrun --nproc-per-node 2'"):
        check_scale(PolicySettings(), TrainingSettings())
