"""transformers' Trainer with DRIFT's loss: a step is a list of micro-batches, and its metrics are one line of JSON."""

import math
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, get_autocast_dtype, is_autocast_enabled, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from drift.config import TrainerSettings
from drift.errors import DriftError
from drift.policy.model import memory_for
from drift.progress import report_progress
from drift.training.batch import PairBatch, StepCollator, loss_inputs, loss_of, mismatched_ratios
from drift.training.checkpoint import Row, dump_row
from drift.training.diagnostics import FIXED_PAIRS, LEMMA_1_TAU, lemma_1, pair_gradients, step_diagnostics
from drift.training.loss import PairLoss
from drift.training.tokens import TokenPair

LN2_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
"""How far a pair's sigmoid term may be from ln 2 at step 0, nats.

It is half of beta times the rounding of the log-probs: reference and policy are computed in batches of different
shapes, which add up in a different order.
"""

TOKEN_NOISE = {torch.float32: 0.0, torch.bfloat16: 0.15}
"""Nats by which the rounding may move a token's log-prob; over the T tokens of a pair it grows with their square root.

bfloat16 tells logits between 16 and 32 apart by 0.125. A pair of 505 tokens of SmolLM2-135M was off by 1.1 nats.
"""


class PreferenceTrainer(Trainer):
    """`dtype`: what forward and backward compute in. `metrics`: the open metrics.jsonl.

    `starts_at_reference`: the policy begins as its own reference, so step 0 is checked against ln 2.
    """

    def __init__(
        self,
        model: nn.Module,
        pairs: Sequence[TokenPair],
        settings: TrainerSettings,
        arguments: TrainingArguments,
        collator: StepCollator,
        dtype: torch.dtype,
        starts_at_reference: bool,
        metrics: BinaryIO,
    ):
        without_dropout(model)
        shared_autocast(model)
        super().__init__(
            model=model,  # pyright: ignore[reportArgumentType]
            args=arguments,
            train_dataset=pairs,  # pyright: ignore[reportArgumentType]
            data_collator=collator,  # pyright: ignore[reportArgumentType]
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(_ReportProgress())
        self.settings = settings
        self.collator = collator
        self.dtype = dtype
        self.starts_at_reference = starts_at_reference
        self.metrics = metrics
        self.written: list[Row] = []
        self.paired = any(pair.rejected for pair in pairs)
        self._step_metrics: dict[str, float] = {}

    @property
    def rows(self) -> list[Row]:
        """The metrics of every step so far."""
        return [row for row in self.written if "loss" in row]

    def get_train_dataloader(self) -> DataLoader:
        """The pairs in an order that depends on seed and epoch. Every process plans all pairs of a step.

        With the loss `kto`, in their own order, as in TRL: the rows of a step are those that exchanged their replies.
        """
        pairs: Any = self.train_dataset
        sampler = RandomSampler(pairs) if self.settings.kl_batch_size is None else SequentialSampler(pairs)
        loader = DataLoader(pairs, self.args.train_batch_size, sampler=sampler, collate_fn=self.collator)
        single: Any = {"num_processes": 1, "process_index": 0}  # the collator, not accelerate, splits a step
        return prepare_data_loader(loader, **single, use_seedable_sampler=True, data_seed=self.args.seed)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Forward and backward through every micro-batch of this process; returns their loss, float32 [].

        `inputs`: from `StepCollator`. The losses of all processes add up to the step's, so nothing is divided here.
        Between processes, gradients and losses are averaged; the factor in `_micro_batch` turns that into a sum.
        """
        model.train()
        batches = [batch.to(self.args.device) for batch in inputs]
        counted = sum(batch.counted for batch in batches)
        if self.settings.kl_batch_size is not None:
            batches = self._with_kl(model, batches, counted)
        losses, logps = zip(*(self._micro_batch(model, batch, batch is batches[-1]) for batch in batches), strict=True)
        self._check_start(losses, batches, logps)
        self._step_metrics = self._metrics(losses, batches, logps, counted)
        total = torch.stack([loss.loss for loss in losses]).sum()
        if not math.isfinite(total.item()):
            raise DriftError(
                f"training step {self.state.global_step}: the loss is {total.item()}; lower training.learning_rate "
                f"(now {self.settings.learning_rate}) or train in float32, then run the command again."
            )
        return total

    def measure_gradients(self, **more: float) -> None:
        """Write both sides of Lemma 1, measured on a few fixed pairs, as a row of its own to metrics.jsonl."""
        pairs = [self.train_dataset[n] for n in range(min(FIXED_PAIRS, len(self.train_dataset)))]  # pyright: ignore
        every = replace(self.collator, processes=1, process=0)  # all processes compute each of these pairs
        gradients = pair_gradients(self.model, pairs, every, self.settings, self.dtype)  # pyright: ignore
        values = lemma_1(gradients, self.settings.beta, LEMMA_1_TAU)
        self._write({"step": self.state.global_step, **values, **more})

    def restore(self, rows: Sequence[Row]) -> None:
        """Write the metrics of an earlier command again."""
        for row in rows:
            self._write(row)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One row per optimizer step, under TRL's names, for metrics.jsonl and for the trackers (`report_to`).

        The Trainer's closing summary, which has no loss, goes to the trackers only.
        """
        metrics = logs | self._step_metrics if "loss" in logs else logs
        super().log(metrics, start_time)  # adds `epoch` to them
        if "loss" in logs:
            self._write({"step": self.state.global_step, **metrics})

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the Trainer's estimate knows only its own batches."""
        return 0

    def _micro_batch(self, model: nn.Module, batch: PairBatch, last: bool) -> tuple[PairLoss, Tensor]:
        """Forward and backward; returns the loss and the summed log-probs (float32 [P, 2]) without their graphs.

        Processes exchange gradients once a step, in the backward pass of the last micro-batch.
        """
        with (
            _memory_for(batch, self.state.global_step),
            nullcontext() if last else self.accelerator.no_sync(model),
        ):
            loss, logps = self._pair_loss(model, batch)
            loss = loss._replace(loss=loss.loss * self.args.world_size)
            self.accelerator.backward(loss.loss)
        return loss._replace(loss=loss.loss.detach()), logps

    def _with_kl(self, model: nn.Module, batches: list[PairBatch], counted: int) -> list[PairBatch]:
        """The micro-batches with KTO's z0: the mean log-ratio of the step's mismatched replies, at least 0.

        All processes estimate it together, from the first `counted` micro-batches of each.
        """
        ratios = []
        for batch in batches:
            with _memory_for(batch, self.state.global_step):
                ratios.append(mismatched_ratios(model, batch, self.dtype).double())
        mine = torch.cat([*ratios[:counted], ratios[0][:0]])
        total = torch.stack([mine.sum(), mine.new_tensor(len(mine))])
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(total)
        kl = (total[0] / total[1]).clamp(min=0).float()
        return [replace(batch, kl=kl) for batch in batches]

    def _pair_loss(self, model: nn.Module, batch: PairBatch) -> tuple[PairLoss, Tensor]:
        inputs, logps = loss_inputs(model, batch, self.dtype, self.settings.signal_clip)
        return loss_of(self.settings, inputs), logps.detach()

    def _check_start(self, losses: Sequence[PairLoss], batches: Sequence[PairBatch], logps: Sequence[Tensor]) -> None:
        """With policy = reference every log-ratio is 0, so before the first update every pair's term is ln 2."""
        if self.state.global_step > 0 or not self.starts_at_reference:
            return
        beta, largest = self.settings.beta, max(float(part.abs().max()) for part in logps)
        tokens = torch.cat([batch.chosen_tokens + batch.rejected_tokens for batch in batches])
        # a float32 sum of this size carries about seven digits
        tolerance = (
            LN2_TOLERANCE[self.dtype] + 1e-7 * beta * largest + beta / 2 * TOKEN_NOISE[self.dtype] * tokens.sqrt()
        )
        off = (torch.cat([loss.sigmoid_terms for loss in losses]) - math.log(2)).abs()
        if not bool((off <= tolerance).all()):
            worst = int((off / tolerance).nan_to_num(math.inf).argmax())
            raise DriftError(
                f"training step 0: a pair's sigmoid term is off ln 2 by {float(off[worst]):.2g} (allowed "
                f"{float(tolerance[worst]):.2g}), but the policy is its own reference: this model's forward pass is "
                "not repeatable, so it cannot be trained."
            )

    def _metrics(
        self, losses: Sequence[PairLoss], batches: Sequence[PairBatch], logps: Sequence[Tensor], counted: int
    ) -> Row:
        """Means over the step's pairs in all processes. Only the first `counted` batches have a share in the loss."""
        if self.settings.kl_batch_size is not None:
            kl = batches[0].kl
            sums = reply_metrics(losses[:counted], batches[:counted], logps[:counted], kl, self.settings.beta)
            if self.accelerator.num_processes > 1:
                torch.distributed.all_reduce(sums)
            return reply_row(sums, kl.item())
        measured = counted or 1  # a process without any must still have the names
        means = step_metrics(losses[:measured], logps[:measured], self.paired)
        if self.settings.diagnostics:
            means |= step_diagnostics(losses[:measured], batches[:measured], logps[:measured], LEMMA_1_TAU)
        return mean_over_processes(means, sum(len(batch.weights) for batch in batches[:counted]), self.accelerator)

    def _write(self, row: Row) -> None:
        self.written.append(row)
        self.metrics.write(dump_row(row))


def step_metrics(losses: Sequence[PairLoss], logps: Sequence[Tensor], paired: bool = True) -> dict[str, float]:
    """Means over the step's pairs, unweighted, under TRL's names. Rewards are beta r; logps are summed, nats.

    Chosen replies alone (not `paired`) have no rejected side, and so no margin and no accuracy.
    """
    chosen = torch.cat([loss.chosen_rewards for loss in losses])
    rejected = torch.cat([loss.rejected_rewards for loss in losses])
    summed = torch.cat(list(logps))
    if not paired:
        return {"rewards/chosen": chosen.mean().item(), "logps/chosen": summed[:, 0].mean().item()}
    return {
        "rewards/chosen": chosen.mean().item(),
        "rewards/rejected": rejected.mean().item(),
        "rewards/margins": (chosen - rejected).mean().item(),
        "rewards/accuracies": (chosen > rejected).float().mean().item(),
        "logps/chosen": summed[:, 0].mean().item(),
        "logps/rejected": summed[:, 1].mean().item(),
    }


def reply_metrics(
    losses: Sequence[PairLoss], batches: Sequence[PairBatch], logps: Sequence[Tensor], kl: Tensor, beta: float
) -> Tensor:
    """What `reply_row` needs, summed over these micro-batches of the loss `kto`: float64 [7]."""
    sums = torch.zeros(7, dtype=torch.float64, device=kl.device)
    for loss, batch, summed in zip(losses, batches, logps, strict=True):
        liked = batch.chosen_tokens > 0
        # a reply counts as right if it is on its side of z0; what is missing adds 0
        right = torch.where(liked, loss.chosen_rewards > beta * kl, loss.rejected_rewards < beta * kl)
        columns = (liked, ~liked, loss.chosen_rewards, loss.rejected_rewards, summed[:, 0], summed[:, 1], right)
        sums += torch.stack([column.double().sum() for column in columns])
    return sums


def reply_row(sums: Tensor, kl: float) -> Row:
    """Means over the step's liked and over its disliked replies, under TRL's names for KTO; `kl` is z0, nats.

    `rewards/accuracies`: share of the replies on their side of z0. What no reply of the step has is left out.
    """
    liked, disliked, *rewards_and_logps, right = sums.tolist()
    row = {"kl": kl, "rewards/accuracies": right / (liked + disliked)}
    chosen_rewards, rejected_rewards, chosen_logps, rejected_logps = rewards_and_logps
    if liked:
        row |= {"rewards/chosen": chosen_rewards / liked, "logps/chosen": chosen_logps / liked}
    if disliked:
        row |= {"rewards/rejected": rejected_rewards / disliked, "logps/rejected": rejected_logps / disliked}
    if liked and disliked:
        row["rewards/margins"] = row["rewards/chosen"] - row["rewards/rejected"]
    return row


def training_arguments(settings: TrainerSettings, seed: int, folder: Path) -> TrainingArguments:
    """The Trainer's arguments. It prints nothing, and the collator splits a step. `folder`: for checkpoints."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        optim=settings.optimizer,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=min(settings.warmup_ratio, 1 - 1e-9),  # below 1 it is a share of all steps, from 1 on a number
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        seed=seed % 2**32,  # the Trainer seeds NumPy too, which takes no larger one
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(settings.report_to) or "none",
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),  # otherwise several processes on a CPU do not find each other
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise the Trainer splits batches over all visible GPUs within one process
    return arguments


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off: it would make policy and reference differ by noise. Some layers hold it as a plain number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def shared_autocast(model: nn.Module) -> None:
    """Cast the input of linear layers once where several layers have the same one (query, key and value, for example).

    Call it once per model. The hooks stay: a layer that gradient checkpointing computes again must keep the same
    tensors.
    """
    shared_cast = _SharedCast()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(shared_cast)


class _SharedCast:
    """A forward pre-hook for all linear layers of a model; it keeps the cast of the latest input."""

    def __init__(self) -> None:
        self._source: weakref.ref[Tensor] | None = None
        self._version = 0  # changes when the tensor is written to in place
        self._cast: Tensor | None = None

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        source, device = inputs[0], inputs[0].device.type
        if not is_autocast_enabled(device) or source.dtype == get_autocast_dtype(device):
            return None
        latest = self._source() if self._source else None
        if latest is not source or self._version != source._version:
            self._source, self._version = weakref.ref(source), source._version
            self._cast = source.to(get_autocast_dtype(device))
        return (self._cast, *inputs[1:])


def mean_over_processes(values: Mapping[str, float], pairs: int, accelerator: Accelerator) -> dict[str, float]:
    """Means over the pairs of each process to means over all pairs. `pairs`: the number of this process's pairs."""
    if accelerator.num_processes == 1:
        return dict(values)
    sums = [value * pairs if pairs else 0.0 for value in values.values()]
    total = torch.tensor([*sums, float(pairs)], dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(total)
    return dict(zip(values, (total[:-1] / total[-1]).tolist(), strict=True))


class _ReportProgress(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs) -> None:
        report_progress(state.global_step, state.max_steps)


def _memory_for(batch: PairBatch, step: int) -> AbstractContextManager[None]:
    tokens, pairs = batch.rows.padded_tokens, len(batch.weights)
    if pairs > 1:
        remedy = f"set micro_batch_tokens={tokens // 2} (the result stays the same)"
    else:
        remedy = "a single pair cannot be split, so set gradient_checkpointing=true or a lower max_length"
    return memory_for(f"training step {step}", f"a micro-batch of {pairs} pairs and {tokens} tokens", remedy)
