"""FSDP2: every process holds a share of each weight, of its gradient and of its optimizer state.

With `shard: node` each node holds all shares: weights travel within a node, and gradients between nodes once a step.
The full weights exist for one layer at a time. This uses torch's own `fully_shard`, not accelerate's wrapper, which
does nothing on a CPU; so the tests, on two gloo processes, run the same code as GPUs.
"""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
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

from drift.errors import ConfigError
from drift.policy.model import Policy, save_companions
from drift.training.batch import PairBatch
from drift.training.loss import PairLoss
from drift.training.scale.shares import read_shares
from drift.training.shared_prefix import base_model
from drift.training.trainer import PreferenceTrainer

WEIGHTS, STATES = "weights", "states"
"""Folders of torch.distributed.checkpoint: each process writes its shares, and of equal shares one is written."""
GROUPS, SCHEDULER = "groups.pt", "scheduler.pt"


def shard(model: nn.Module, over: Literal[True, "node"] = True) -> None:
    """Split the weights over all processes, or over those of each node, layer by layer.

    They move to each process's device as they are split. Raises ConfigError if nodes have unequal numbers of processes.
    What is not in a layer (embeddings, head) is one group, gathered from the forward pass to the backward pass.
    """
    state: Any = PartialState()
    shape = (state.num_processes,)
    if over == "node":
        within = int(os.environ.get("LOCAL_WORLD_SIZE") or state.num_processes)
        if state.num_processes % within:
            raise ConfigError(
                f"training.shard=node: {state.num_processes} processes are not {within} on each node; start the same "
                "number on every node (training.launch), or set training.shard=true."
            )
        shape = (state.num_processes // within, within)  # torchrun numbers the processes node by node
    mesh = init_device_mesh(state.device.type, shape, mesh_dim_names=("nodes", "within")[-len(shape) :])
    for module in layers(model):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def reshard(model: nn.Module) -> None:
    """After forward passes without a backward pass: free the gathered weights, as the backward pass would have."""
    if isinstance(model, FSDPModule):
        model.reshard()


def gathered(model: nn.Module) -> dict[str, Tensor]:
    """The trained weights in full, on the CPU of the first process; empty in the others. All processes must call it."""
    options = _options(model, full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options)  # pyright: ignore[reportReturnType]


def save_gathered(model: PreTrainedModel | PeftModel, start: Policy, out: Path) -> None:
    """The first process writes the policy's folder, with the tokenizer of `start`; all processes must call it."""
    weights = gathered(model)
    if PartialState().is_main_process:
        model.save_pretrained(str(out), state_dict=weights)
        save_companions(start, out)


class ShardedTrainer(PreferenceTrainer):
    """Checkpoints of a sharded model: each process writes and reads its shares, and nothing is gathered."""

    def __init__(self, model: nn.Module, *arguments: Any):
        super().__init__(model, *arguments)
        # tells the Trainer neither to wrap the model in DDP nor to move it: FSDP exchanges the gradients itself
        self.is_distributed_loading_by_transformers = True

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if output_dir:
            dcp.save(self._weights(), checkpoint_id=Path(output_dir, WEIGHTS))  # pyright: ignore[reportPrivateImportUsage]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = self._optimizer_state()
        dcp.save(state["state"], checkpoint_id=Path(output_dir, STATES))  # pyright: ignore[reportPrivateImportUsage]
        if self.args.should_save:
            torch.save(state["param_groups"], Path(output_dir, GROUPS))  # no tensors
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))  # pyright: ignore

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        weights = self._weights()
        read_shares(weights, Path(resume_from_checkpoint, WEIGHTS))
        set_model_state_dict(self._module, weights, options=_options(self._module))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = self._optimizer_state()
        read_shares(state["state"], Path(checkpoint, STATES))
        state["param_groups"] = torch.load(Path(checkpoint, GROUPS), weights_only=True)
        set_optimizer_state_dict(self._module, self._inner_optimizer, state, options=_options(self._module))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER), weights_only=True))  # pyright: ignore

    def _micro_batch(self, model: nn.Module, batch: PairBatch, last: bool) -> tuple[PairLoss, Tensor]:
        if isinstance(model, FSDPModule):
            model.set_requires_all_reduce(last)  # between nodes once a step; without effect on a mesh of one dimension
        return super()._micro_batch(model, batch, last)

    def _weights(self) -> dict[str, Any]:
        """This process's shares of the trained weights."""
        return get_model_state_dict(self._module, options=_options(self._module))

    def _optimizer_state(self) -> dict[str, Any]:
        """This process's shares; of an optimizer that has not made a step, what a step without a gradient leaves."""
        options = _options(self._module)
        return dict(get_optimizer_state_dict(self._module, self._inner_optimizer, options=options))

    @property
    def _module(self) -> nn.Module:
        return self.model  # pyright: ignore[reportReturnType]

    @property
    def _inner_optimizer(self) -> torch.optim.Optimizer:
        wrapped: Any = self.optimizer
        return getattr(wrapped, "optimizer", wrapped)  # accelerate wraps it


def _options(model: nn.Module, full_state_dict: bool = False, cpu_offload: bool = False) -> StateDictOptions:
    """With an adapter, only the adapter's weights are trained and saved."""
    adapter = isinstance(model, PeftModel)
    return StateDictOptions(
        full_state_dict=full_state_dict, ignore_frozen_params=adapter, strict=not adapter, cpu_offload=cpu_offload
    )


def layers(model: nn.Module) -> list[nn.Module]:
    """The modules that the model's own class declares as layers; none of them contains another."""
    names = set(getattr(base_model(model), "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]
