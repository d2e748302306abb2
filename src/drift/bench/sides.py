"""The two trainers of `drift bench train`, run one step at a time, with their model and pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, Trainer

from drift.config import TrainingSettings
from drift.errors import ConfigError
from drift.policy.model import resolve_source
from drift.rundir import layout
from drift.training.batch import StepCollator, summed_logps
from drift.training.reference import REFERENCE_BATCH_FACTOR
from drift.training.shared_prefix import base_model, choose_packing
from drift.training.tokens import TokenPair
from drift.training.trainer import PreferenceTrainer, training_arguments

BATCH = 4
BETA = 0.1
_ANY_LOGPS = {"ref_chosen_logps": -1.0, "ref_rejected_logps": -1.0}  # any value will do: only time is measured


@dataclass(frozen=True, slots=True)
class Shape:
    """`prompt`, `reply`: shortest and longest, in tokens, before `scale`. `kv_heads`: None means as many as heads."""

    hidden: int = 512
    layers: int = 8
    heads: int = 8
    mlp: int = 1408
    vocabulary: int = 16_384
    prompt: tuple[int, int] = (600, 1000)
    reply: tuple[int, int] = (200, 500)
    scale: float = 0.25
    kv_heads: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for lengths that no pair can have."""
        for part, (shortest, longest) in (("prompt", self.prompt), ("reply", self.reply)):
            if not 1 <= int(shortest * self.scale) <= int(longest * self.scale):
                raise ConfigError(
                    f"--lengths: {shortest} to {longest} tokens for a {part}, times --scale {self.scale:g}; write the "
                    "shortest before the longest, and leave at least one token."
                )

    @property
    def positions(self) -> int:
        """Tokens of the longest conversation."""
        return int(self.prompt[1] * self.scale) + int(self.reply[1] * self.scale)


@dataclass(frozen=True, slots=True)
class Conditions:
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    lora: bool = False
    gradient_checkpointing: bool = False
    compact_rival: bool = False


def make_pairs(shape: Shape, count: int, seed: int) -> list[TokenPair]:
    """Random ids; lengths are uniform between shortest and longest."""
    torch.manual_seed(seed)

    def ids(bounds: tuple[int, int]) -> tuple[int, ...]:
        low, high = (int(bound * shape.scale) for bound in bounds)
        return tuple(torch.randint(3, shape.vocabulary, (int(torch.randint(low, high + 1, ())),)).tolist())

    return [TokenPair(ids(shape.prompt), ids(shape.reply), ids(shape.reply)) for _ in range(count)]


def make_model(shape: Shape, conditions: Conditions, seed: int) -> nn.Module:
    """A random Qwen2 with float32 weights, as the trainer holds them; with an adapter if `conditions.lora`."""
    torch.manual_seed(seed)
    model: nn.Module = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads or shape.heads,
            max_position_embeddings=max(4096, shape.positions),
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    return with_lora(model, seed) if conditions.lora else model


def with_lora(model: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, adapter)  # pyright: ignore[reportReturnType, reportArgumentType]


class TimedSide:
    """A trainer, run one step at a time. `padded_tokens`: what it computes for a batch, including padding."""

    trainer: Trainer
    optimizer: torch.optim.Optimizer

    def make_ready(self, conditions: Conditions) -> None:
        """Do what `Trainer.train` does before its first step."""
        if conditions.gradient_checkpointing:
            base_model(self.model).gradient_checkpointing_enable({"use_reentrant": False})  # pyright: ignore
        self.trainer.current_gradient_accumulation_steps = 1
        self.trainer.create_optimizer()
        self.trainer.model_wrapped, self.optimizer = self.trainer.accelerator.prepare(
            self.trainer.model, self.trainer.optimizer
        )

    @property
    def model(self) -> nn.Module:
        return self.trainer.model  # pyright: ignore[reportReturnType]

    def backward(self, pairs: Sequence[TokenPair]) -> float:
        raise NotImplementedError

    def padded_tokens(self, pairs: Sequence[TokenPair]) -> int:
        raise NotImplementedError

    def update(self) -> None:
        """The rest of a step: the same torch code on both sides."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.model.zero_grad()


class Ours(TimedSide):
    def __init__(self, model: nn.Module, conditions: Conditions, seed: int, folder: Path):
        self.dtype = getattr(torch, conditions.dtype)
        settings = TrainingSettings(beta=BETA, rpo_alpha=0.0, optimizer="adamw_torch_fused", batch_size=BATCH)
        packing = choose_packing(model)
        head = "again" if conditions.gradient_checkpointing else packing.head  # as the training stage chooses
        self.collator = StepCollator(0, settings.micro_batch_tokens, packing.shared, head)
        arguments = training_arguments(settings, seed, folder)
        metrics = (folder / layout.METRICS).open("wb")
        self.trainer = PreferenceTrainer(model, [], settings, arguments, self.collator, self.dtype, False, metrics)
        self.make_ready(conditions)

    def backward(self, pairs: Sequence[TokenPair]) -> float:
        scored = [pair if isfinite(pair.ref_chosen_logps) else replace(pair, **_ANY_LOGPS) for pair in pairs]
        return self.trainer.training_step(self.model, self.collator(scored)).item()  # pyright: ignore

    def padded_tokens(self, pairs: Sequence[TokenPair]) -> int:
        return sum(batch.rows.padded_tokens for batch in self.collator(pairs))

    @torch.no_grad()
    def reference(self, model: nn.Module, pairs: Sequence[TokenPair]) -> list[TokenPair]:
        """The pairs with this model's log-probs, computed in the larger batches of the reference pass."""
        model.eval()
        collate = replace(
            self.collator, micro_batch_tokens=REFERENCE_BATCH_FACTOR * self.collator.micro_batch_tokens, head="again"
        )
        scored = list(pairs)
        for places in collate.groups(pairs):
            (batch,) = collate([pairs[place] for place in places])
            sums = summed_logps(model, batch, self.dtype).tolist()
            for place, (chosen, rejected) in zip(places, sums, strict=True):
                scored[place] = replace(pairs[place], ref_chosen_logps=chosen, ref_rejected_logps=rejected)
        return scored


class Rival(TimedSide):
    """TRL's DPOTrainer with its own collator and its reference model (under an adapter: the bare base)."""

    def __init__(self, model: nn.Module, reference: nn.Module | None, conditions: Conditions, seed: int, folder: Path):
        from datasets import Dataset, disable_progress_bars
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        tokenizer = AutoTokenizer.from_pretrained(resolve_source("embedded"))
        disable_progress_bars()
        row = {"prompt": "a", "chosen": " b", "rejected": " c"}  # a placeholder: batches are passed as token ids
        config = DPOConfig(
            output_dir=str(folder),
            beta=BETA,
            max_length=None,
            per_device_train_batch_size=BATCH,
            bf16=conditions.dtype == "bfloat16",
            gradient_checkpointing=False,
            optim="adamw_torch_fused",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        )
        self.trainer = DPOTrainer(
            model,  # pyright: ignore[reportArgumentType]
            reference,  # pyright: ignore[reportArgumentType]
            config,
            train_dataset=Dataset.from_list([row]),
            processing_class=tokenizer,
        )
        self.make_ready(conditions)

    def collate(self, pairs: Sequence[TokenPair]) -> dict[str, torch.Tensor]:
        names = ("prompt", "chosen", "rejected")
        return self.trainer.data_collator(
            [{f"{name}_ids": list(getattr(pair, name)) for name in names} for pair in pairs]
        )

    def backward(self, pairs: Sequence[TokenPair]) -> float:
        return self.trainer.training_step(self.trainer.model_wrapped, self.collate(pairs)).item()  # pyright: ignore

    def padded_tokens(self, pairs: Sequence[TokenPair]) -> int:
        return self.collate(pairs)["input_ids"].numel()
