"""The training stage: a policy, its reference's log-probs and pairs in; a better policy and metrics of every step out.

From the loop to an optimizer step (file:function):
    loop.py:drift                         it.stage(layout.POLICY, train, ...)
    training/train.py:train               one process: calls the next; with `training.launch`: scale/launch.py:train_by
                                          starts processes of scale/rank.py:main, each of which calls the next
    training/train.py:train_in_process    load, tokenise, build the trainer, run it, save
    training/trainer.py:training_step     the micro-batches of one step: forward, loss, backward
    training/batch.py:loss_inputs         what the loss gets: the next, and what self_distillation adds
    training/batch.py:summed_logps        the policy's log-probs, from a packed row or from padded rows
    training/batch.py:loss_of             settings.loss, beta, margin, ... into LossScalars
    training/loss.py:preference_loss      the loss (DRIFT eq. 1)
The optimizer and its schedule are transformers' Trainer, `PreferenceTrainer`'s base class.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.integrations.integration_utils import TensorBoardCallback

from drift.config import PolicySettings, TrainerSettings, TrainingSettings
from drift.policy.adapter import training_weights, with_adapter
from drift.policy.model import identified, load_policy, save_policy, warn_if_emulated
from drift.policy.padded import pad_id
from drift.progress import report_note
from drift.records import Reason
from drift.rundir import layout, partial_work
from drift.training.batch import StepCollator
from drift.training.checkpoint import Checkpoints, KeepCheckpoints, read_rows, training_plan
from drift.training.diagnostics import overshot, unmoved
from drift.training.pairs_file import PreparedPairs, prepare_pairs
from drift.training.reference import other_weights
from drift.training.scale.launch import RankTask, train_by, without_loop_settings
from drift.training.scale.prerequisites import check_scale
from drift.training.scale.sharded import ShardedTrainer, reshard, save_gathered, shard
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair
from drift.training.trainer import PreferenceTrainer, training_arguments


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
    own_reference = not (isinstance(settings, TrainingSettings) and settings.reference == "warm_start")
    settings = without_loop_settings(settings)
    if settings.launch is None:
        return train_in_process(out, start, reference, pairs, settings, policy_settings, seed, own_reference)
    task = RankTask(
        out=out,
        start=str(start),
        reference=reference,
        pairs=pairs,
        settings=settings,
        policy_settings=policy_settings,
        seed=seed,
        own_reference=own_reference,
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
    own_reference: bool,
) -> dict[str, int | float]:
    """The training itself, or this process's share of it: under a launcher, only the first process writes.

    `own_reference`: `start` is the reference too; False: `training.reference` is warm_start.
    """
    process, processes = PartialState().process_index, PartialState().num_processes
    is_first = process == 0
    sharded = settings.shard and processes > 1

    # a sharded model stays on the CPU until each process takes its share of the weights
    start_policy = load_policy(start, training_weights(policy_settings), "cpu" if sharded else None)
    prepared = prepare_pairs(partial_work(out), start_policy, pairs, reference, settings, policy_settings)
    _check_weights(reference, prepared, start_policy.policy_id, own_reference, settings.diagnostics)
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


_MOVED = (
    "If policy.model has changed under its name, what was sampled and measured with it is of the old weights too: "
    "begin a new run folder (--out), or name the folder of the old weights. Else delete the file and run the command "
    "again."
)


def _check_weights(
    reference: Path, prepared: PreparedPairs, start: str, own_reference: bool, diagnostics: bool
) -> None:
    """Raises DataError if the log-probs that stand for the starting policy are of other weights than `start`, its id.

    A model of a hub may change under its name, and then nothing else notices. The reference's stand first; with
    `diagnostics`, those of the iteration's start stand second, whatever the reference is.
    """
    places = [0] * own_reference + [1] * (diagnostics and len(prepared.policies) > 1)
    if any(prepared.policies[place] != start for place in places):
        raise other_weights(reference, prepared.policies, start, _MOVED)


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
