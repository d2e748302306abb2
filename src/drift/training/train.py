"""The stage: pairs, a policy and its reference in; a better policy and the metrics of every step out."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.integrations.integration_utils import TensorBoardCallback

from drift.config import PolicySettings, TrainerSettings
from drift.errors import DataError
from drift.policy.model import Policy, identified, load_policy, save_policy
from drift.progress import report_note
from drift.records import Reason
from drift.rundir import partial_work
from drift.training.batch import StepCollator
from drift.training.reference import ReferenceLogps, pad_id, training_weights, with_reference
from drift.training.scale.checkpoint import Checkpoints, KeepCheckpoints, read_rows, training_plan
from drift.training.scale.launch import RankTask, threads, train_by, without_loop_settings
from drift.training.scale.prerequisites import check_scale
from drift.training.scale.sharded import ShardedTrainer, reshard, save_gathered, shard
from drift.training.shared_prefix import Packing, choose_packing
from drift.training.tokens import TokenPair, load_pairs
from drift.training.trainer import PreferenceTrainer, training_arguments


def train(
    out: Path,
    start: Path | str,
    reference: Path,
    pairs: Path,
    settings: TrainerSettings,
    policy: PolicySettings,
    seed: int,
) -> dict[str, int | float]:
    """Train `start` on the pairs; writes the policy to `out`, metrics.jsonl beside it.

    `reference`: what `measure_reference` wrote for these pairs. `dtype: bfloat16` is what the passes compute in. Fully
    trained weights stay float32 throughout, on disk too: at the paper's learning rate of 5e-7 nearly every update is
    smaller than what a bfloat16 weight can show.
    With `settings.launch`, several processes do it together. A command that was killed goes on from its last
    checkpoint. Raises NothingToTrainOn if no pair is left, DataError if the reference is of something else, DriftError
    if the run is numerically unsound.
    """
    check_scale(policy, settings)
    settings = without_loop_settings(settings)
    task = RankTask(
        out=out,
        start=str(start),
        reference=reference,
        pairs=pairs,
        settings=settings,
        policy=policy,
        seed=seed,
        threads=threads(),
    )
    return train_here(task) if settings.launch is None else train_by(settings.launch, task)


def train_here(task: RankTask) -> dict[str, int | float]:
    """`train`, in this process or as this process's share of it; the first process writes."""
    settings, policy, out = task.settings, task.policy, task.out
    first, processes = PartialState().is_main_process, PartialState().num_processes
    sharded = settings.shard and processes > 1
    begin = load_policy(task.start, training_weights(policy), "cpu" if sharded else None)
    tokens, counts = load_pairs(begin, task.pairs, settings.max_prompt_length, settings.max_length)
    _check_noise(task.pairs, tokens, settings)
    measured = ReferenceLogps.open(task.reference, begin, tokens)
    tokens = with_reference(tokens, measured, settings.diagnostics)
    trained = _with_adapter(begin, policy, task.seed)
    if sharded:
        shard(trained)
    packing = choose_packing(trained)
    reshard(trained)
    report_note(packing.why)
    if processes > 1:
        report_note(f"{processes} processes share every training step{', and the weights' if sharded else ''}")
    out.mkdir(parents=True, exist_ok=True)
    asked = (settings.model_dump(), policy.model_dump(), task.seed, processes)
    plan = training_plan(task.reference, begin.policy_id, *asked)
    checkpoints = Checkpoints(partial_work(out), plan)
    with (out.parent / "metrics.jsonl").open("wb") if first else io.BytesIO() as metrics:
        trainer = (ShardedTrainer if sharded else PreferenceTrainer)(
            trained,
            tokens,
            settings,
            training_arguments(settings, task.seed, checkpoints.folder),
            _collator(begin, settings, packing, processes),
            getattr(torch, policy.dtype),
            begin.policy_id == measured.policies[0],
            metrics,
        )
        _go_through(trainer, checkpoints, _identical(len(tokens), counts), out.parent / "tensorboard")
    if sharded:
        save_gathered(trained, begin.tokenizer, out)
    elif first:
        save_policy(identified(trained, begin.tokenizer), out)
    return {"pairs": len(tokens), **counts, "shared_prefix": int(packing.shared), **_headline(trainer)}


def _go_through(
    trainer: PreferenceTrainer, checkpoints: Checkpoints, identical: Mapping[str, float], events: Path
) -> None:
    """All steps, or those after the last checkpoint; the fixed pairs' gradients before and after them. `events`: of
    TensorBoard, if it is asked for."""
    trainer.add_callback(KeepCheckpoints(checkpoints, trainer.written))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(events)
    last = checkpoints.latest()
    if last is not None:
        trainer.restore(read_rows(last))
        report_note(f"taken up: {len(trainer.rows)} training steps are there from an earlier command")
    elif trainer.settings.diagnostics:
        trainer.measure_gradients(**identical)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.settings.diagnostics:
        trainer.measure_gradients(**identical)


def _collator(policy: Policy, settings: TrainerSettings, packing: Packing, processes: int) -> StepCollator:
    """With gradient checkpointing the logits would be the largest thing kept: they are computed again then."""
    head = "again" if settings.gradient_checkpointing and packing.head == "kept" else packing.head
    return StepCollator(pad_id(policy), settings.micro_batch_tokens, packing.shared, head, processes)


def _identical(kept: int, counts: Mapping[str, int]) -> dict[str, float]:
    """The share of pairs whose replies are the same tokens: they have no signal, and were left out."""
    same = counts.get(f"dropped.{Reason.CHOSEN_IS_REJECTED}", 0)
    return {"pairs/identical": same / (same + kept)}


def _check_noise(path: Path, pairs: Sequence[TokenPair], settings: TrainerSettings) -> None:
    """The robust loss divides by 1 - 2 noise: from one half on, a pair says nothing or the opposite."""
    noisy = next((pair for pair in pairs if settings.loss == "robust" and not 0 <= pair.noise < 0.5), None)
    if noisy:
        raise DataError(
            f"{path}: a pair's noise is {noisy.noise}, and training.loss=robust allows 0 up to but not 0.5; leave "
            "such pairs out with a higher labels.min_p_dsat, or choose another loss."
        )


def _with_adapter(policy: Policy, settings: PolicySettings, seed: int) -> PreTrainedModel | PeftModel:
    """The model to train: as it is, or with a fresh adapter if one is asked for and it has none yet."""
    if settings.lora is None or isinstance(policy.model, PeftModel):
        return policy.model
    torch.manual_seed(seed)
    adapter = LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha,
        target_modules=settings.lora.target_modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(policy.model, adapter)  # pyright: ignore[reportReturnType]


def _headline(trainer: PreferenceTrainer) -> dict[str, int | float]:
    last = trainer.rows[-1]
    return {
        "steps": len(trainer.rows),
        "first_loss": trainer.rows[0]["loss"],
        "last_loss": last["loss"],
        "last_margin": last["rewards/margins"],
        "last_accuracy": last["rewards/accuracies"],
    }
