"""Settings that need a library or a device: refused before anything is computed, not hours later."""

import os
from importlib.util import find_spec

import torch

from drift.config import PolicySettings, TrainerSettings
from drift.errors import ConfigError, PrerequisiteError


def check_scale(policy: PolicySettings, *trainings: TrainerSettings) -> None:
    """Raises PrerequisiteError naming what to install, ConfigError under torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "this command was started in several processes at once; give it once, by itself, and let it start the "
            "processes of training: --set training.launch='torchrun --nproc-per-node 2'"
        )
    if policy.lora and policy.lora.quantize:
        _needs_bitsandbytes("policy.lora.quantize=4bit")
    for settings in trainings:
        if settings.optimizer not in ("adamw_torch", "rmsprop"):
            _needs_bitsandbytes(f"training.optimizer={settings.optimizer}")
        for tracker in settings.report_to:
            if find_spec(tracker) is None:
                raise PrerequisiteError(
                    f"training.report_to={tracker}: the library is not installed. pip install {tracker}"
                )


def _needs_bitsandbytes(setting: str) -> None:
    if find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            f"{setting}: bitsandbytes is not installed. pip install 'drift-training[bnb]', on a machine with a CUDA GPU"
        )
    if not torch.cuda.is_available():
        raise PrerequisiteError(f"{setting}: this needs a CUDA GPU, and there is none. Leave the setting out here.")
