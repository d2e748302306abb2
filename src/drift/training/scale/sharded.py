"""FSDP2: every process holds a share of each weight, of its gradient and of its optimizer state.

The full weights exist for one layer at a time. This uses torch's own `fully_shard`, not accelerate's wrapper, which
does nothing on a CPU; so the tests, on two gloo processes, run the same code as GPUs.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel

from drift.policy.model import Policy, save_companions
from drift.training.shared_prefix import base_model
from drift.training.trainer import PreferenceTrainer

WEIGHTS, OPTIMIZER, SCHEDULER = "weights.safetensors", "optimizer.pt", "scheduler.pt"


def shard(model: nn.Module) -> None:
    """Split the weights over all processes, layer by layer; they move to each process's device as they are split.

    What is not in a layer (embeddings, head) is one group, gathered from the forward pass to the backward pass.
    """
    state: Any = PartialState()
    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    for module in layers(model):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def reshard(model: nn.Module) -> None:
    """After forward passes without a backward pass: free the gathered weights, as the backward pass would have."""
    if isinstance(model, FSDPModule):
        model.reshard()


def gathered(model: nn.Module) -> dict[str, Tensor]:
    """The trained weights in full, on the CPU of the first process; empty in the others. All processes must call it."""
    return get_model_state_dict(model, options=_options(model, cpu_offload=True))  # pyright: ignore[reportReturnType]


def save_gathered(model: PreTrainedModel | PeftModel, start: Policy, out: Path) -> None:
    """The first process writes the policy's folder, with the tokenizer of `start`; all processes must call it."""
    weights = gathered(model)
    if PartialState().is_main_process:
        model.save_pretrained(str(out), state_dict=weights)
        save_companions(start, out)


class ShardedTrainer(PreferenceTrainer):
    """Checkpoints of a sharded model: the first process gathers and writes them, and sends them out when resuming."""

    def __init__(self, model: nn.Module, *arguments: Any):
        super().__init__(model, *arguments)
        # tells the Trainer neither to wrap the model in DDP nor to move it: FSDP exchanges the gradients itself
        self.is_distributed_loading_by_transformers = True

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        weights = gathered(self._module)
        if self.args.should_save and output_dir:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file({name: weight.clone() for name, weight in weights.items()}, Path(output_dir, WEIGHTS))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        options = _options(self._module, cpu_offload=True)
        state = get_optimizer_state_dict(self._module, self._inner_optimizer, options=options)
        if self.args.should_save:
            torch.save(state, Path(output_dir, OPTIMIZER))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))  # pyright: ignore

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        weights: Any = load_file(Path(resume_from_checkpoint, WEIGHTS)) if self.args.should_save else {}
        set_model_state_dict(self._module, weights, options=_options(self._module, broadcast_from_rank0=True))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint, OPTIMIZER)
        state: Any = torch.load(path, map_location="cpu", weights_only=True) if self.args.should_save else {}
        options = _options(self._module, broadcast_from_rank0=True)
        set_optimizer_state_dict(self._module, self._inner_optimizer, state, options=options)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER), weights_only=True))  # pyright: ignore

    @property
    def _module(self) -> nn.Module:
        return self.model  # pyright: ignore[reportReturnType]

    @property
    def _inner_optimizer(self) -> torch.optim.Optimizer:
        wrapped: Any = self.optimizer
        return getattr(wrapped, "optimizer", wrapped)  # accelerate wraps it


def _options(model: nn.Module, cpu_offload: bool = False, broadcast_from_rank0: bool = False) -> StateDictOptions:
    """With an adapter, only the adapter's weights are trained and saved."""
    adapter = isinstance(model, PeftModel)
    return StateDictOptions(
        full_state_dict=True,
        ignore_frozen_params=adapter,
        strict=not adapter,
        cpu_offload=cpu_offload,
        broadcast_from_rank0=broadcast_from_rank0,
    )


def layers(model: nn.Module) -> list[nn.Module]:
    """The modules that the model's own class declares as layers; none of them contains another."""
    names = set(getattr(base_model(model), "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]
