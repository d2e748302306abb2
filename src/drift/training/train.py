"""The training stage: a policy, its reference's log-probs and pairs in; a better policy and metrics of every step out.

From the loop to an optimizer step (file:function):
    loop.py:drift                         it.stage(layout.POLICY, train, ...)
    training/train.py:train               one process: calls the next; with `training.launch`: scale/launch.py:train_by
                                          starts processes of scale/rank.py:main, each of which calls the next
    training/train.py:train_in_process    load, tokenise, build the trainer, run it, save
    training/trainer.py:training_step     the micro-batches of one step: forward, loss, backward
    training/batch.py:summed_logps        the policy's log-probs, from a packed row or from padded rows
    training/batch.py:loss_of             settings.loss, beta, margin, ... into LossScalars
    training/loss.py:preference_loss      the loss (DRIFT eq. 1)
The optimizer and its schedule are transformers' Trainer, `PreferenceTrainer`'s base class.
"""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import Linear
from transformers import PreTrainedModel
from transformers.integrations.integration_utils import TensorBoardCallback

from drift.config import PolicySettings, TrainerSettings
from drift.errors import DataError, PrerequisiteError
from drift.policy.model import Policy, identified, load_policy, save_policy, warn_if_emulated
from drift.policy.multimodal import freeze_other_parts, outside_language_model
from drift.progress import report_note
from drift.records import Reason
from drift.rundir import layout, partial_work
from drift.training.batch import StepCollator
from drift.training.pairs_file import prepare_pairs
from drift.training.reference import pad_id, training_weights
from drift.training.scale.checkpoint import Checkpoints, KeepCheckpoints, read_rows, training_plan
from drift.training.scale.launch import RankTask, train_by, without_loop_settings
from drift.training.scale.prerequisites import check_scale
from drift.training.scale.sharded import ShardedTrainer, reshard, save_gathered, shard
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair
from drift.training.trainer import PreferenceTrainer, training_arguments

LEAST_MOVE = 0.05
"""Nats per pair by which a training should move the margin. In `drift demo`, iterations that moved it by 0.19 and 0.37
nats, each against its own first step, made the policy better."""
MOST_OVERSHOT = 3.0
"""Of the loss `anchored`, as a multiple of an unmoved pair's. In the sandbox's comparison no step came above 1; a
training of SmolLM2-135M that made it worse came to 41 (benchmarks/results/right_replies.json)."""


def train(
    out: Path,
    start: Path | str,
    reference: Path,
    pairs: Path,
    settings: TrainerSettings,
    policy_settings: PolicySettings,
    seed: int,
) -> dict[str, int | float]:
    """Train `start` on the pairs; writes the policy to `out` and metrics.jsonl beside it; returns the stage's counts.

    `reference`: the file that `measure_reference` wrote for these pairs. `policy_settings.dtype`: the type that forward
    and backward compute in. The weights stay float32, on disk too, unless an adapter is trained: at the paper's
    learning rate of 5e-7, nearly every update is smaller than the spacing of bfloat16 numbers.
    With `settings.launch`, several processes train together. After a kill, the next command resumes from the last
    checkpoint. Raises NothingToTrainOn if no pair is left, DataError if the reference is of other weights, tokenizer or
    pairs, DriftError if the loss is not finite, memory runs out or the first step is not at ln 2.
    """
    check_scale(policy_settings, settings)
    settings = without_loop_settings(settings)
    if settings.launch is None:
        return train_in_process(out, start, reference, pairs, settings, policy_settings, seed)
    task = RankTask(
        out=out,
        start=str(start),
        reference=reference,
        pairs=pairs,
        settings=settings,
        policy_settings=policy_settings,
        seed=seed,
        threads=torch.get_num_threads(),
    )
    return train_by(settings.launch, task)


def train_in_process(
    out: Path,
    start: Path | str,
    reference: Path,
    pairs: Path,
    settings: TrainerSettings,
    policy_settings: PolicySettings,
    seed: int,
) -> dict[str, int | float]:
    """The training itself, or this process's share of it: under a launcher, only the first process writes."""
    process, processes = PartialState().process_index, PartialState().num_processes
    is_first = process == 0
    sharded = settings.shard and processes > 1

    # a sharded model stays on the CPU until each process takes its share of the weights
    start_policy = load_policy(start, training_weights(policy_settings), "cpu" if sharded else None)
    check = partial(_check_pairs, pairs, settings)
    prepared = prepare_pairs(partial_work(out), start_policy, pairs, reference, settings, policy_settings, check)
    tokens, counts = prepared.pairs, prepared.counts
    settings = balanced(settings, tokens)

    warn_if_emulated(policy_settings.dtype, start_policy.device.type)
    if policy_settings.dtype == "bfloat16":
        _round_ties(start_policy.model)
    model = with_adapter(start_policy, policy_settings, seed)
    if sharded and settings.shard:
        shard(model, settings.shard)
    packing = choose_packing(model)
    reshard(model)
    report_note(packing.why)
    if processes > 1:
        shared = ", and the weights within each node" if settings.shard == "node" else ", and the weights" * sharded
        report_note(f"{processes} processes share every training step{shared}")
    # with gradient checkpointing, kept logits would be the largest tensor in memory, so they are computed again too
    head = "again" if settings.gradient_checkpointing and packing.head == "kept" else packing.head
    collator = StepCollator(pad_id(start_policy), settings.micro_batch_tokens, packing.shared, head, processes, process)

    out.mkdir(parents=True, exist_ok=True)
    plan = training_plan(
        reference, start_policy.policy_id, settings.model_dump(), policy_settings.model_dump(), seed, processes
    )  # a checkpoint counts only for an equal plan
    checkpoints = Checkpoints(partial_work(out), plan)
    with (out.parent / layout.METRICS).open("wb") if is_first else io.BytesIO() as metrics:
        trainer = (ShardedTrainer if sharded else PreferenceTrainer)(
            model,
            tokens,
            settings,
            training_arguments(settings, seed, checkpoints.folder),
            collator,
            getattr(torch, policy_settings.dtype),
            start_policy.policy_id == prepared.policies[0],
            metrics,
        )
        _run_steps(trainer, checkpoints, _identical_share(len(tokens), counts), out.parent / "tensorboard")

    if sharded:
        save_gathered(model, start_policy, out)
    elif is_first:
        save_policy(identified(model, start_policy.chat, start_policy.processor_files), out)
    watched = "chosen" if settings.loss == "sft" else "margins"
    if warning := unmoved(trainer.rows, settings.beta, settings.learning_rate, watched):
        report_note(warning)
    if warning := overshot(trainer.rows, settings):
        report_note(warning)
    return {"pairs": len(tokens), **counts, "shared_prefix": int(packing.shared), **_headline(trainer)}


def unmoved(
    rows: Sequence[Mapping[str, float]],
    beta: float,
    learning_rate: float,
    watched: Literal["margins", "chosen"] = "margins",
) -> str:
    """A warning if the pairs' margin (chosen minus rejected log-ratio, in nats) hardly moved; empty if it did. SFT has
    no margin: its chosen log-ratio is watched.

    `rows`: of metrics.jsonl, one per step, measured before its update: what the last update changed is in no row. If
    all updates before it had rate 0 (warm-up), nothing is known. The first step's value is compared with the mean of
    the last quarter's.
    """
    steps = f"{len(rows)} step{'s' if len(rows) > 1 else ''}"
    if not any(row["learning_rate"] for row in rows):
        return f"Warning: {steps} at rate 0, all of it warm-up: set warmup_ratio to 0 or train on more pairs."
    values = [row[f"rewards/{watched}"] / beta for row in rows if f"rewards/{watched}" in row]
    if len(values) < 2 or not any(row["learning_rate"] for row in rows[:-1]):
        return ""
    last = values[-max(1, len(values) // 4) :]
    moved = sum(last) / len(last) - values[0]
    if abs(moved) >= LEAST_MOVE:
        return ""
    what = "the margin" if watched == "margins" else "the log-prob of the replies"
    return (
        f"Warning: {steps} at {learning_rate:g} moved {what} by {moved:.3f} nats, so the policy learned next to "
        "nothing: raise the learning_rate or train on more pairs."
    )


@torch.no_grad()
def _round_ties(model: torch.nn.Module) -> None:
    """Round float32 weights exactly between two numbers of bfloat16 to the one that the forward pass reads.

    The smallest update would move each of them by half a step of bfloat16, whatever the learning rate. Checkpoints of
    16 bits or fewer (float16, GGUF) have many such weights; after training hardly any are left.
    """
    for weight in model.parameters():
        if weight.dtype == torch.float32:
            ties = weight.view(torch.int32) & 0xFFFF == 0x8000
            weight.copy_(torch.where(ties, weight.bfloat16().float(), weight))


def overshot(rows: Sequence[Mapping[str, float]], settings: TrainerSettings) -> str:
    """A warning if the loss `anchored` spends its steps on pulling replies back to their targets; empty if not.

    `rows`: of metrics.jsonl. A pair that has not moved costs 2 margin^2; with targets per token, its cost is not known.
    """
    if settings.loss != "anchored" or settings.experimental.margin_unit == "token":
        return ""
    unmoved_loss = 2 * settings.margin**2
    worst = max(rows, key=lambda row: row["loss"])
    if worst["loss"] <= MOST_OVERSHOT * unmoved_loss:
        return ""
    return (
        f"Warning: the loss of step {worst['step']:g} is {worst['loss']:.0f}, and {unmoved_loss:g} before anything is "
        "learned: replies were moved far beyond their targets, and pulling them back makes disliked ones likelier. Set "
        "training.loss to anchored_hinge, or lower training.learning_rate."
    )


def _check_pairs(path: Path, settings: TrainerSettings, rows: np.ndarray) -> None:
    """Raises DataError if the loss cannot learn from the pairs. `rows`: of type ROW (pairs_file.py)."""
    _check_noise(path, rows, settings)
    _check_sides(path, rows, settings)


def _check_noise(path: Path, rows: np.ndarray, settings: TrainerSettings) -> None:
    """The robust loss divides by 1 - 2 noise: at 0.5 a pair has no information, above it is the opposite."""
    noise = rows["noise"]
    noisy = noise[~((noise >= 0) & (noise < 0.5))]
    if settings.loss == "robust" and len(noisy):
        raise DataError(
            f"{path}: a pair has noise {noisy[0]}; training.loss=robust allows 0 <= noise < 0.5. Leave such pairs "
            "out with a higher labels.min_p_dsat, or choose another loss."
        )


def _check_sides(path: Path, rows: np.ndarray, settings: TrainerSettings) -> None:
    """Every loss gets the rows that it can learn from: pairs, chosen replies alone, or replies of both kinds alone."""
    liked, disliked = int((rows["rejected"] == 0).sum()), int((rows["chosen"] == 0).sum())
    if settings.loss == "kto":
        if paired := len(rows) - liked - disliked:
            raise DataError(
                f"{path}: {paired} of {len(rows)} rows are pairs; loss=kto learns from replies without a partner, as "
                "recipe.name=unpaired gives them."
            )
        if not (liked and disliked):
            raise DataError(
                f"{path}: {liked} liked and {disliked} disliked replies; loss=kto needs both kinds. With liked ones "
                "alone, use warm_start.on=liked; with disliked ones alone, recipe.name=drift."
            )
    elif settings.loss == "self_distillation":
        if without := int((rows["informed"] == 0).sum()):
            raise DataError(
                f"{path}: {without} of {len(rows)} rows have no follow_up; loss=self_distillation learns from what "
                "the user wrote next, as recipe.name=follow_up gives it."
            )
    elif disliked:
        raise DataError(
            f"{path}: {disliked} of {len(rows)} pairs have no chosen reply; loss={settings.loss} needs one, only "
            "loss=kto learns from disliked replies alone."
        )
    elif liked and settings.loss != "sft":
        raise DataError(
            f"{path}: {liked} of {len(rows)} pairs have no rejected reply; loss={settings.loss} needs one, only "
            "loss=sft learns from chosen replies alone."
        )


def balanced(settings: TrainerSettings, pairs: Sequence[TokenPair]) -> TrainerSettings:
    """With the loss `kto`, the settings with both weights: those that are unset make the two kinds weigh the same.

    KTO (arXiv 2402.01306, eq. 8) asks for totals lambda_D n_D and lambda_U n_U that are equal or nearly so, with one
    of the weights at 1: here, that of the more frequent kind.
    """
    if settings.loss != "kto":
        return settings
    liked = sum(pair.weight for pair in pairs if pair.chosen)
    disliked = sum(pair.weight for pair in pairs if pair.rejected)
    desirable, undesirable = settings.desirable_weight, settings.undesirable_weight
    if desirable is None:
        desirable = max(liked, disliked) / liked if undesirable is None else undesirable * disliked / liked
    if undesirable is None:
        undesirable = desirable * liked / disliked
    report_note(f"{liked:g} liked replies weigh {desirable:.3g} each, {disliked:g} disliked ones {undesirable:.3g}")
    return settings.model_copy(update={"desirable_weight": desirable, "undesirable_weight": undesirable})


def with_adapter(policy: Policy, settings: PolicySettings, seed: int) -> PreTrainedModel | PeftModel:
    """The model to train: as it is, or with a new adapter if `policy.lora` is set and it has none yet."""
    if isinstance(policy.model, PeftModel):
        return policy.model
    if settings.lora is None:
        if frozen := freeze_other_parts(policy.model):
            report_note(f"{frozen:,} weights outside the language model are kept as they are")
        return policy.model
    torch.manual_seed(seed)
    adapter = LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha,
        target_modules=settings.lora.target_modules,
        exclude_modules=outside_language_model(policy.model),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(policy.model, adapter)  # pyright: ignore[reportReturnType]
    except ValueError:
        if settings.lora.target_modules == "all-linear":
            raise
        decoder = policy.model.get_decoder()
        names = sorted({name.rpartition(".")[2] for name, part in decoder.named_modules() if isinstance(part, Linear)})
        raise PrerequisiteError(
            f"policy.lora.target_modules: no layer of the language model is named {settings.lora.target_modules}; its "
            f"linear layers are {', '.join(names)}, and all-linear means all of them."
        ) from None


def _run_steps(
    trainer: PreferenceTrainer, checkpoints: Checkpoints, identical_share: Mapping[str, float], events: Path
) -> None:
    """All steps, or those after the last checkpoint; with diagnostics, the gradients of fixed pairs before and after.

    `events`: the folder for TensorBoard, if `training.report_to` names it.
    """
    trainer.add_callback(KeepCheckpoints(checkpoints, trainer.written))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(events)
    last = checkpoints.latest()
    if last is not None:
        trainer.restore(read_rows(last))
        report_note(f"Resuming: {len(trainer.rows)} training steps already done")
    elif trainer.settings.diagnostics:
        trainer.measure_gradients(**identical_share)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.settings.diagnostics:
        trainer.measure_gradients(**identical_share)


def _identical_share(trained: int, counts: Mapping[str, int]) -> dict[str, float]:
    """The share of pairs that were dropped because both replies are the same tokens, which have no signal."""
    same = counts.get(f"dropped.{Reason.CHOSEN_IS_REJECTED}", 0)
    return {"pairs/identical": same / (same + trained)}


def _headline(trainer: PreferenceTrainer) -> dict[str, int | float]:
    first, last = trainer.rows[0], trainer.rows[-1]
    names = {"last_margin": "rewards/margins", "last_accuracy": "rewards/accuracies"}
    return {
        "steps": len(trainer.rows),
        "first_loss": first["loss"],
        "last_loss": last["loss"],
        **{name: last[key] for name, key in names.items() if key in last},  # replies without pairs may have neither
    }
