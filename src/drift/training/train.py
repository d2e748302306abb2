"""The stage: pairs and two policies in, a better policy and the metrics of every step out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from drift.config import PolicySettings, TrainerSettings
from drift.errors import DataError, NothingToTrainOn
from drift.policy.model import Policy, identified, load_policy, resolve_source, save_policy
from drift.records import PreferencePair, read_jsonl
from drift.training.batch import StepCollator
from drift.training.reference import pad_id, with_reference
from drift.training.tokens import TokenPair, tokenise
from drift.training.trainer import PreferenceTrainer, training_arguments


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The policy to train, the pairs with their reference, and what happened to the pairs on the way."""

    policy: Policy
    pairs: list[TokenPair]
    counts: dict[str, int]
    starts_at_reference: bool


def train(
    out: Path,
    start: Path | str,
    reference: Path | str,
    pairs: Path,
    settings: TrainerSettings,
    policy: PolicySettings,
    seed: int,
) -> dict[str, int | float]:
    """Train `start` on the pairs against `reference`; writes the policy to `out`, metrics.jsonl beside it.

    `dtype: bfloat16` is what the passes compute in. Fully trained weights stay float32 throughout, on disk too: at the
    paper's learning rate of 5e-7 nearly every update is smaller than what a bfloat16 weight can show.
    Raises NothingToTrainOn if no pair is left, DriftError if the run is numerically unsound.
    """
    dtype = getattr(torch, policy.dtype)
    prepared = _prepare(start, reference, pairs, settings, policy)
    trained = _with_adapter(prepared.policy, policy, seed)
    out.mkdir(parents=True, exist_ok=True)
    with (out.parent / "metrics.jsonl").open("wb") as metrics:
        trainer = PreferenceTrainer(
            trained,
            prepared.pairs,
            settings,
            training_arguments(settings, seed, out),
            StepCollator(pad_id(prepared.policy), settings.micro_batch_size),
            dtype,
            prepared.starts_at_reference,
            metrics,
        )
        trainer.train()
    save_policy(identified(trained, prepared.policy.tokenizer), out)
    return {"pairs": len(prepared.pairs), **prepared.counts, **_headline(trainer)}


def _prepare(
    start: Path | str, reference: Path | str, pairs: Path, settings: TrainerSettings, policy: PolicySettings
) -> _Prepared:
    """Asks the reference first and frees it before another start is loaded: one model in memory at a time."""
    weights = policy if policy.lora else policy.model_copy(update={"dtype": "float32"})
    source = load_policy(reference, weights)
    records = list(read_jsonl(pairs, PreferencePair))
    tokens, counts = tokenise(source, records, settings.max_prompt_length, settings.max_length)
    if not tokens:
        dropped = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "the file is empty"
        raise NothingToTrainOn(
            f"{pairs}: none of {len(records)} pairs can be trained on ({dropped}); prompts that are too long need a "
            "higher max_prompt_length, empty replies other sampling settings."
        )
    batch_size = settings.micro_batch_size or settings.batch_size
    _check_noise(records, settings)
    tokens = with_reference(source, tokens, batch_size, getattr(torch, policy.dtype))
    if resolve_source(start) == resolve_source(reference):
        return _Prepared(source, tokens, counts, True)
    reference_id = source.policy_id
    del source
    begin = load_policy(start, weights)
    return _Prepared(begin, tokens, counts, begin.policy_id == reference_id)


def _check_noise(pairs: Sequence[PreferencePair], settings: TrainerSettings) -> None:
    """The robust loss divides by 1 - 2 noise: from one half on, a pair says nothing or the opposite."""
    noisy = next((pair for pair in pairs if settings.loss == "robust" and not 0 <= pair.noise < 0.5), None)
    if noisy:
        raise DataError(
            f"pair {noisy.pair_id}: noise is {noisy.noise}, and training.loss=robust allows 0 up to but not 0.5; leave "
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
