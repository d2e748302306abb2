"""Settings that need a library or a device: refused before anything is computed, not hours later."""

import os
from importlib.util import find_spec

import torch

from drift.config import PolicySettings, TrainerSettings
from drift.errors import ConfigError, PrerequisiteError

_PLAIN = ("adamw_torch", "rmsprop")


def check_scale(policy: PolicySettings, *trainings: TrainerSettings) -> None:
    """Raises PrerequisiteError naming what to install, ConfigError under torchrun or where settings exclude others."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "this command was started in several processes at once; give it once, by itself, and let it start the "
            "processes of training: --set training.launch='torchrun --nproc-per-node 2'"
        )
    for settings in trainings:
        if settings.shard:
            _check_shard(policy, settings)
    if policy.lora and policy.lora.quantize:
        _needs_bitsandbytes("policy.lora.quantize=4bit")
    for settings in trainings:
        if settings.optimizer not in _PLAIN:
            _needs_bitsandbytes(f"training.optimizer={settings.optimizer}")
        for tracker in settings.report_to:
            if find_spec(tracker) is None:
                package = "trackio" if tracker == "trackio" else "'drift-training[trackers]'"
                raise PrerequisiteError(
                    f"training.report_to={tracker}: the library is not installed. pip install {package}"
                )


def _check_shard(policy: PolicySettings, settings: TrainerSettings) -> None:
    if settings.launch is None:
        raise ConfigError(
            "training.shard cuts the weights over several processes, and there is one; say how they are started: "
            "--set training.launch='torchrun --nproc-per-node 2'"
        )
    if settings.optimizer not in _PLAIN or (policy.lora and policy.lora.quantize):
        raise ConfigError(
            "training.shard goes with weights of 16 or 32 bits and their own optimizer states; choose "
            f"training.optimizer among {', '.join(_PLAIN)} and leave policy.lora.quantize out, or leave shard out."
        )


def _needs_bitsandbytes(setting: str) -> None:
    if find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            f"{setting}: bitsandbytes is not installed. pip install 'drift-training[bnb]', on a machine with a CUDA GPU"
        )
    if not torch.cuda.is_available():
        raise PrerequisiteError(f"{setting}: this needs a CUDA GPU, and there is none. Leave the setting out here.")
