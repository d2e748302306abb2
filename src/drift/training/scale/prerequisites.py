"""Settings that need a library or a device: checked before anything is computed, not hours later."""

import os
from importlib.util import find_spec

import torch

from drift.config import PolicySettings, TrainerSettings
from drift.errors import ConfigError, PrerequisiteError
from drift.training.scale.nodes import arguments_of

_UNQUANTIZED_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "rmsprop")


def check_scale(policy: PolicySettings, *trainings: TrainerSettings, nodes: int | None = None) -> None:
    """Raises PrerequisiteError with what to install; ConfigError under torchrun, or if settings exclude each other."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"this command was started in several processes (WORLD_SIZE={os.environ['WORLD_SIZE']}); start it once, "
            "without a launcher, and let training use one: --set training.launch='torchrun --nproc-per-node 2'"
        )
    if nodes is not None:
        launchers = [settings.launch for settings in trainings if settings.launch]
        if not launchers:
            raise ConfigError(
                f"cluster.nodes={nodes} is for trainings in several processes, but training.launch is not set: "
                "--set training.launch='torchrun --nproc-per-node 8'"
            )
        for launcher in launchers:
            arguments_of(launcher)
    for settings in trainings:
        if settings.shard:
            _check_shard(policy, settings)
    if policy.lora and policy.lora.quantize:
        _needs_bitsandbytes("policy.lora.quantize=4bit")
    for settings in trainings:
        if settings.optimizer not in _UNQUANTIZED_OPTIMIZERS:
            _needs_bitsandbytes(f"training.optimizer={settings.optimizer}")
        for tracker in settings.report_to:
            if find_spec(tracker) is None:
                package = tracker if tracker == "trackio" else "'drift-training[trackers]'"
                raise PrerequisiteError(
                    f"training.report_to={tracker}: the library is not installed. pip install {package}"
                )
            if tracker == "mlflow" and "MLFLOW_TRACKING_URI" not in os.environ and find_spec("sqlalchemy") is None:
                raise PrerequisiteError(  # mlflow's default is a SQLite file, for which mlflow-skinny has no driver
                    "training.report_to=mlflow: no tracking server is named. Set the environment variable "
                    "MLFLOW_TRACKING_URI, for example to http://localhost:5000."
                )


def _check_shard(policy: PolicySettings, settings: TrainerSettings) -> None:
    if settings.launch is None:
        raise ConfigError(
            "training.shard splits the weights over several processes, but training.launch is not set: "
            "--set training.launch='torchrun --nproc-per-node 2'"
        )
    if settings.optimizer not in _UNQUANTIZED_OPTIMIZERS or (policy.lora and policy.lora.quantize):
        raise ConfigError(
            f"training.shard needs unquantized weights and optimizer states; set training.optimizer to one of "
            f"{', '.join(_UNQUANTIZED_OPTIMIZERS)} and remove policy.lora.quantize, or remove training.shard."
        )


def _needs_bitsandbytes(setting: str) -> None:
    if find_spec("bitsandbytes") is None:
        raise PrerequisiteError(
            f"{setting}: bitsandbytes is not installed. pip install 'drift-training[bnb]', on a machine with a CUDA GPU"
        )
    if not torch.cuda.is_available():
        raise PrerequisiteError(f"{setting}: this needs a CUDA GPU, and this machine has none. Remove the setting.")
