"""transformers' Trainer with DRIFT's loss: one step is one list of micro-batches, and its metrics are one JSON line."""

import math
import weakref
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, get_autocast_dtype, is_autocast_enabled, nn
from torch.utils.data import DataLoader, RandomSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from drift.config import TrainerSettings
from drift.errors import DriftError
from drift.progress import report_progress
from drift.training.batch import PairBatch, StepCollator, loss_of, summed_logps
from drift.training.diagnostics import FIXED_PAIRS, LEMMA_1_TAU, lemma_1, pair_gradients, step_diagnostics
from drift.training.loss import PairLoss
from drift.training.scale.checkpoint import Row, dump_row
from drift.training.tokens import TokenPair


def share(batches: Sequence[PairBatch], rank: int, processes: int) -> tuple[list[PairBatch], int]:
    """What process `rank` computes, and how many of these come first and are no silent ones."""
    missing = -len(batches) % processes
    filled = [*batches, *[silent(batches[-1])] * missing]  # the last is the one of the shortest pairs
    return filled[rank::processes], len(batches[rank::processes])


def silent(batch: PairBatch) -> PairBatch:
    """The same computation, without a share in the loss."""
    nothing = torch.zeros_like(batch.weights)
    return replace(batch, weights=nothing, token_weights=nothing)


def mean_over_processes(values: Mapping[str, float], pairs: int, accelerator: Accelerator) -> dict[str, float]:
    """Means over each process's pairs to means over all pairs. `pairs`: how many of them are this process's."""
    if accelerator.num_processes == 1:
        return dict(values)
    sums = [value * pairs if pairs else 0.0 for value in values.values()]
    total = torch.tensor([*sums, float(pairs)], dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(total)
    return dict(zip(values, (total[:-1] / total[-1]).tolist(), strict=True))


class _SharedCast:
    """A forward pre-hook for all linear layers of a model; remembers the cast of the latest input."""

    def __init__(self) -> None:
        self._source: weakref.ref[Tensor] | None = None
        self._version = 0
        self._cast: Tensor | None = None

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        source, device = inputs[0], inputs[0].device.type
        if not is_autocast_enabled(device) or source.dtype == get_autocast_dtype(device):
            return None
        known = self._source() if self._source else None
        if known is not source or self._version != source._version:
            self._source, self._version = weakref.ref(source), source._version
            self._cast = source.to(get_autocast_dtype(device))
        return (self._cast, *inputs[1:])


def shared_autocast(model: nn.Module) -> None:
    """Once per model. The hooks stay: a layer that is computed again for its gradient has to keep the same tensors."""
    shared_cast = _SharedCast()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(shared_cast)


# How far the sigmoid term may be from ln 2 at step 0. Half of beta times the log-probabilities' rounding: batches of
# other shapes add up in another order, which long completions in bfloat16 show in tenths of a nat.
LN2_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}


class PreferenceTrainer(Trainer):
    """`dtype`: what the forward pass computes in. `starts_at_reference`: then step 0 is checked against ln 2."""

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
        self._step_metrics: dict[str, float] = {}

    @property
    def rows(self) -> list[Row]:
        """The metrics of every step so far."""
        return [row for row in self.written if "loss" in row]

    def get_train_dataloader(self) -> DataLoader:
        """The pairs in an order that the seed and the epoch give; every process sees all of them."""
        pairs: Any = self.train_dataset
        loader = DataLoader(pairs, self.args.train_batch_size, sampler=RandomSampler(pairs), collate_fn=self.collator)
        alone: Any = {"num_processes": 1, "process_index": 0}
        return prepare_data_loader(loader, **alone, use_seedable_sampler=True, data_seed=self.args.seed)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Backward through every micro-batch of this process; their losses add up to the step's, so nothing is divided
        here. Several processes average their gradients and losses, which the factor in `_micro_batch` undoes."""
        model.train()
        mine, real = share(inputs, self.args.process_index, self.args.world_size)
        batches = [batch.to(self.args.device) for batch in mine]
        losses, logps = zip(*(self._micro_batch(model, batch, batch is batches[-1]) for batch in batches), strict=True)
        self._check_start(torch.cat([loss.sigmoid_terms for loss in losses]), logps)
        self._step_metrics = self._metrics(losses, batches, logps, real)
        total = torch.stack([loss.loss for loss in losses]).sum()
        if not math.isfinite(total.item()):
            raise DriftError(
                f"training step {self.state.global_step}: the loss is {total.item()}; lower training.learning_rate "
                f"(now {self.settings.learning_rate}) or train in float32, then run the command again."
            )
        return total

    def _metrics(
        self, losses: Sequence[PairLoss], batches: Sequence[PairBatch], logps: Sequence[Tensor], real: int
    ) -> Row:
        """Means over the step's pairs, wherever they were computed; the first `real` batches are no silent ones."""
        some = real or 1  # a process that has none must still know the names
        found = step_metrics(losses[:some], logps[:some])
        if self.settings.diagnostics:
            found |= step_diagnostics(losses[:some], batches[:some], logps[:some], LEMMA_1_TAU)
        return mean_over_processes(found, sum(len(batch.weights) for batch in batches[:real]), self.accelerator)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one micro-batch, as a share of its step's."""
        loss, _ = self._pair_loss(model, inputs)
        return (loss.loss, loss) if return_outputs else loss.loss

    def measure_gradients(self, **more: float) -> None:
        """Both sides of Lemma 1 on a few fixed pairs, as a row of metrics.jsonl of its own."""
        pairs = list(self.train_dataset)[:FIXED_PAIRS]  # pyright: ignore[reportArgumentType]
        found = pair_gradients(self.model, pairs, self.collator, self.settings, self.dtype)  # pyright: ignore
        self._write(lemma_1(found, self.settings.beta, LEMMA_1_TAU) | more)

    def restore(self, rows: Sequence[Row]) -> None:
        """Take up the metrics of an earlier command."""
        for row in rows:
            self._keep(row)

    def _micro_batch(self, model: nn.Module, batch: PairBatch, last: bool) -> tuple[PairLoss, Tensor]:
        """Forward and backward; returns the loss and the summed log-probs, without their graphs.

        Processes exchange gradients once a step, with the last micro-batch.
        """
        try:
            with nullcontext() if last else self.accelerator.no_sync(model):
                loss, logps = self._pair_loss(model, batch)
                loss = loss._replace(loss=loss.loss * self.args.world_size)
                self.accelerator.backward(loss.loss)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise DriftError(_out_of_memory(batch, self.state.global_step)) from None
        return loss._replace(loss=loss.loss.detach()), logps

    def _pair_loss(self, model: nn.Module, batch: PairBatch) -> tuple[PairLoss, Tensor]:
        logps = summed_logps(model, batch, self.dtype)
        return loss_of(self.settings, batch.with_logps(logps)), logps.detach()

    def _check_start(self, sigmoid_terms: Tensor, logps: Sequence[Tensor]) -> None:
        """With policy = reference every log-ratio is 0, so every pair's term is ln 2 before the first step."""
        if self.state.global_step > 0 or not self.starts_at_reference:
            return
        largest = max(float(part.abs().max()) for part in logps)
        # a float32 sum of this size carries about seven digits
        tolerance = LN2_TOLERANCE[self.dtype] + 1e-7 * self.settings.beta * largest
        off = float((sigmoid_terms - math.log(2)).abs().max())
        if not off <= tolerance:
            raise DriftError(
                f"training step 0: a pair's sigmoid term is off ln 2 by {off:.2g} (allowed {tolerance:.2g}) although "
                "the policy is its own reference: this model's forward pass is not repeatable, so it cannot be trained."
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One row per optimizer step, under TRL's names, for metrics.jsonl and for whoever tracks the run; the latter
        alone gets the Trainer's closing summary."""
        whole = logs | self._step_metrics if "loss" in logs else logs
        super().log(whole, start_time)
        if "loss" in logs:
            self._write(whole)

    def _write(self, values: Mapping[str, float]) -> Row:
        return self._keep({"step": self.state.global_step, **values})

    def _keep(self, row: Row) -> Row:
        self.written.append(row)
        self.metrics.write(dump_row(row))
        return row

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the Trainer's estimate knows only its own batches."""
        return 0


def _out_of_memory(batch: PairBatch, step: int) -> str:
    tokens, pairs = batch.rows.padded_tokens, len(batch.weights)
    if pairs > 1:
        remedy = f"set micro_batch_tokens={tokens // 2} (the result stays the same)"
    else:
        remedy = "it is a single pair already, so set gradient_checkpointing=true, or a lower max_length"
    return f"training step {step}: out of memory in a micro-batch of {pairs} pairs and {tokens} tokens; {remedy}."


def step_metrics(losses: Sequence[PairLoss], logps: Sequence[Tensor]) -> dict[str, float]:
    """Means over the step's pairs, each pair counted once."""
    chosen = torch.cat([loss.chosen_rewards for loss in losses])
    rejected = torch.cat([loss.rejected_rewards for loss in losses])
    summed = torch.cat(list(logps))
    return {
        "rewards/chosen": chosen.mean().item(),
        "rewards/rejected": rejected.mean().item(),
        "rewards/margins": (chosen - rejected).mean().item(),
        "rewards/accuracies": (chosen > rejected).float().mean().item(),
        "logps/chosen": summed[:, 0].mean().item(),
        "logps/rejected": summed[:, 1].mean().item(),
    }


def training_arguments(settings: TrainerSettings, seed: int, folder: Path) -> TrainingArguments:
    """Nothing is printed; the collator, not the Trainer, splits a step into micro-batches. `folder`: of checkpoints."""
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
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(settings.report_to) or "none",
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),  # else several processes on the CPU would not find each other
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else the Trainer would cut batches over all GPUs that it sees, in one process
    return arguments


def without_dropout(model: nn.Module) -> None:
    """Dropout would make policy and reference differ by noise. Layers hold it as a module or as a plain number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


class _ReportProgress(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs) -> None:
        report_progress(state.global_step, state.max_steps)
