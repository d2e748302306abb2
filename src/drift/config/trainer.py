"""How the policy is trained, before and in the iterations, and when a run stops."""

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from drift.config.section import Settings
from drift.records import LossName, MarginUnit


class ExperimentalTraining(Settings):
    """For experiments. `margin_unit`: the anchored loss's `margin` counts per reply (`sequence`) or per `token`."""

    margin_unit: MarginUnit = "sequence"


class TrainerSettings(Settings):
    """One training. docs/training.md says when to use which loss, docs/scaling.md explains the last settings.

    `margin`: target of the anchored loss, in nats; a pair's own `margin` is another quantity, the scorer's.
    `rpo_alpha`: weight of the NLL of the chosen reply. `batch_size`: pairs per optimizer step. `micro_batch_tokens`:
    tokens computed at once; it limits the memory and does not change the result. `diagnostics`: measure the quantities
    of the paper's theory. `save_steps`: optimizer steps between checkpoints; 0 saves none. `launch`: the command that
    starts the training processes, for example torchrun. `shard`: each process holds a share of the weights (FSDP2),
    for a model whose training state does not fit one GPU. `report_to`: trackers that also get the metrics.
    """

    FIXED: ClassVar[dict[str, float]] = {"tau": 0.25}
    MOVED: ClassVar[tuple[str, ...]] = ("margin_unit",)

    loss: LossName = "sigmoid"
    beta: PositiveFloat = 0.1
    margin: PositiveFloat = 3.0
    rpo_alpha: float = Field(default=0.001, ge=0.0)
    epochs: PositiveInt = 1
    learning_rate: PositiveFloat = 5e-7
    optimizer: Literal[
        "adamw_torch", "rmsprop", "adamw_bnb_8bit", "rmsprop_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit"
    ] = "rmsprop"
    lr_scheduler: Literal["linear", "constant", "cosine"] = "linear"
    warmup_ratio: float = Field(default=0.1, ge=0.0, le=1.0)
    max_grad_norm: PositiveFloat = 1.0
    batch_size: PositiveInt = 4
    micro_batch_tokens: PositiveInt = 8192
    max_length: PositiveInt = 2048
    max_prompt_length: PositiveInt = 1024
    gradient_checkpointing: bool = False
    diagnostics: bool = False
    save_steps: NonNegativeInt = 500
    launch: str | None = Field(default=None, min_length=1)
    shard: bool = False
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    experimental: ExperimentalTraining = ExperimentalTraining()


class TrainingSettings(TrainerSettings):
    """The training of each iteration. `reference`: the policy at the start of the iteration (as in the paper), or the
    warm start in every iteration.
    """

    reference: Literal["iteration", "warm_start"] = "iteration"


class WarmStartSettings(TrainerSettings):
    """The training before the first iteration (the paper's seed stage). `epochs: 0` skips it.

    `on`: what it learns from. `repairs`: DPO on replies that the user first disliked and then liked, as in the paper.
    `liked`: SFT on the replies that users liked. `both`: SFT on the liked ones, then DPO on the repairs. `min_p_sat`: a
    reply counts as liked if its SAT probability is at least this (a thumb up always counts).
    """

    epochs: NonNegativeInt = 3
    on: Literal["repairs", "liked", "both"] = "repairs"
    min_p_sat: float = Field(default=0.5, ge=0.0, le=1.0)


class StopSettings(Settings):
    """When the run stops before its last iteration.

    `heldout_logps`: stop when the mean likelihood per token of the fixed held-out guided replies has stayed below its
    best value, by more than the standard error, for `patience` iterations in a row; or when fresh replies stop
    finishing, or change their length (docs/method.md).
    """

    rule: Literal["none", "heldout_logps"] = "heldout_logps"
    patience: PositiveInt = 1
