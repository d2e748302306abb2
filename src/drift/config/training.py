"""How the policy is trained, before and in the iterations, and when a run stops."""

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from drift.config.recipe_rules import recipes_of
from drift.config.section import Settings
from drift.records import LossName, MarginUnit


class ExperimentalTraining(Settings):
    """For experiments. `margin_unit`: the anchored losses' `margin` counts per reply (`sequence`) or per `token`."""

    margin_unit: MarginUnit = "sequence"


class TrainerSettings(Settings):
    """One training. docs/training.md says when to use which loss, docs/scaling.md explains the last settings.

    `margin`: target of the anchored losses, in nats; a pair's own `margin` is another quantity, the scorer's.
    `rpo_alpha`: weight of the NLL of the chosen reply. `batch_size`: pairs per optimizer step. `micro_batch_tokens`:
    tokens computed at once; it limits the memory and does not change the result. `diagnostics`: measure the quantities
    of the paper's theory. `save_steps`: optimizer steps between checkpoints; 0 saves none. `launch`: the command that
    starts the training processes, for example torchrun. `shard`: each process holds a share of the weights (FSDP2),
    for a model whose training state does not fit one GPU; `node`: the processes of each node share all weights.
    `report_to`: trackers that also get the metrics.
    `desirable_weight`, `undesirable_weight`: of a liked and of a disliked reply (loss `kto`); null: both kinds have the
    same total weight. `signal_clip`: limit, in nats per token, of what a follow-up says about a token (loss
    `self_distillation`); null: none.
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
        "adamw_torch",
        "adamw_torch_fused",
        "rmsprop",
        "adamw_bnb_8bit",
        "rmsprop_bnb_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
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
    shard: bool | Literal["node"] = False
    report_to: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    experimental: ExperimentalTraining = ExperimentalTraining()
    desirable_weight: PositiveFloat | None = None
    undesirable_weight: PositiveFloat | None = None
    signal_clip: PositiveFloat | None = None

    @property
    def kl_batch_size(self) -> int | None:
        """The rows that exchange replies for KTO's KL term; None for every other loss."""
        return self.batch_size if self.loss == "kto" else None

    @model_validator(mode="after")
    def _fits_the_loss(self) -> "TrainerSettings":
        if self.loss != "kto" and (self.desirable_weight or self.undesirable_weight):
            raise ValueError(
                f"desirable_weight and undesirable_weight belong to loss kto, not to {self.loss}: remove them, or set "
                "training.loss=kto and recipe.name=unpaired"
            )
        if self.loss != "self_distillation" and self.signal_clip:
            raise ValueError(f"signal_clip belongs to loss self_distillation, not to {self.loss}: remove it")
        if self.diagnostics and recipes_of(self.loss):
            raise ValueError(
                f"diagnostics compare the two replies of a pair, and loss {self.loss} has none: set diagnostics=false"
            )
        return self


class TrainingSettings(TrainerSettings):
    """The training of each iteration. `reference`: the policy at the start of the iteration (as in the paper), or the
    warm start in every iteration.
    """

    reference: Literal["iteration", "warm_start"] = "iteration"


class WarmStartSettings(TrainerSettings):
    """The training before the first iteration (the paper's seed stage). `epochs: 0` skips it.

    `on`: what it learns from. `repairs`: DPO on replies that the user first disliked and then liked, as in the paper.
    `liked`: SFT on the replies that users liked. `both`: SFT on the liked ones, then DPO on the repairs. `min_p_sat`: a
    reply counts as liked if its SAT probability is at least this (a thumb up always counts), here and wherever liked
    replies are used: the recipes `liked`, `spin` and `unpaired`, the feedback reward, the stop rule `heldout_liked`.
    Repairs take any SAT label.
    """

    epochs: NonNegativeInt = 3
    on: Literal["repairs", "liked", "both"] = "repairs"
    min_p_sat: float = Field(default=0.5, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _learns_from_pairs(self) -> "WarmStartSettings":
        if recipes := recipes_of(self.loss):
            raise ValueError(
                f"loss {self.loss} learns from the replies of recipe {' or '.join(recipes)}, in the iterations; the "
                "warm start has other rows: set training.loss, and leave warm_start.loss as it was"
            )
        return self


class StopSettings(Settings):
    """When the run stops before its last iteration.

    `heldout_logps`: stop when the mean likelihood per token of the fixed held-out guided replies has stayed below its
    best value, by more than the standard error, for `patience` iterations in a row; or when fresh replies stop
    finishing, or change their length (docs/method.md). `heldout_liked`: the same with held-out replies that users
    liked; for policies that guidance does not help, whose guided replies are no example. `gate`: stop before the first
    iteration whose policy fails a guard of `drift gate` against the warm start (docs/production.md).
    """

    rule: Literal["none", "heldout_logps", "heldout_liked", "gate"] = "heldout_logps"
    patience: PositiveInt = 1
