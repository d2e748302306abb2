"""The stage before training: log-probs of fixed policies, computed once, so that no second model stays in memory.

The file is a cache with a name on it: hashes of the weights, of the tokenizer with its template, and of the pairs as
token ids. Training refuses a file that is of anything else. A run that is killed while it trains finds it again, and so
does one with other settings of training, as long as the pairs are not cut elsewhere.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drift.config import LoraSettings, PolicySettings, Settings, TrainerSettings
from drift.errors import DataError
from drift.policy.model import Policy, load_policy, tokenizer_id
from drift.progress import report_progress
from drift.records import Counts, stable_hash
from drift.training.batch import StepCollator, per_token_logps
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair, load_pairs

ABOUT = "drift"
REFERENCE_BATCH_FACTOR = 4
"""Without a gradient nothing is kept of a row, so it may be this many times longer than when training."""


class ReferenceSettings(Settings):
    """What the log-probs depend on besides the weights, the tokenizer and the pairs: where these are cut, the type that
    passes compute in (`dtype`), and how weights are held (`weights`, `quantize`).

    `micro_batch_tokens` bounds the memory and is no part of the stage's key; nor is any other setting of training.
    """

    max_prompt_length: int
    max_length: int
    dtype: Literal["float32", "bfloat16"]
    weights: Literal["float32", "bfloat16"]
    quantize: Literal["4bit"] | None
    micro_batch_tokens: int = Field(exclude=True)

    @classmethod
    def of(cls, training: TrainerSettings, policy: PolicySettings) -> "ReferenceSettings":
        return cls(
            max_prompt_length=training.max_prompt_length,
            max_length=training.max_length,
            dtype=policy.dtype,
            weights=training_weights(policy).dtype,
            quantize=policy.lora.quantize if policy.lora else None,
            micro_batch_tokens=training.micro_batch_tokens,
        )

    @property
    def loading(self) -> PolicySettings:
        """How a policy is loaded to be asked."""
        lora = LoraSettings(quantize=self.quantize) if self.quantize else None
        return PolicySettings(dtype=self.weights, lora=lora)


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Of one policy and one pair: float32 [T+] and [T-], nats per token."""

    chosen: Tensor
    rejected: Tensor


def measure_reference(out: Path, policies: tuple[Path | str, ...], pairs: Path, settings: ReferenceSettings) -> Counts:
    """Write the log-probs of the pairs under each of the policies; the first is training's reference.

    For the diagnostics, the policy at the iteration's start and the warm start follow. Policies with the same weights
    are asked once.
    """
    tensors: dict[str, Tensor] = {}
    names: list[str] = []
    tokens: list[TokenPair] = []
    counts: dict[str, int] = {}
    tokeniser = ""
    for source in policies:
        loaded = load_policy(source, settings.loading)
        tokens, counts = load_pairs(loaded, pairs, settings.max_prompt_length, settings.max_length)
        tokeniser = tokenizer_id(loaded.tokenizer)
        names.append(loaded.policy_id)
        if names.count(loaded.policy_id) == 1:
            found = logps_of(loaded, tokens, settings.micro_batch_tokens, getattr(torch, settings.dtype))
            _check_finite(source, found)
            tensors[f"{loaded.policy_id}/chosen"] = torch.cat([pair.chosen for pair in found])
            tensors[f"{loaded.policy_id}/rejected"] = torch.cat([pair.rejected for pair in found])
    metadata = {"policies": " ".join(names), "tokenizer": tokeniser, "pairs": _pairs_id(tokens)}
    # safetensors writes several entries in an order that changes by chance; equal references shall be equal files
    save_file(tensors, out, {ABOUT: json.dumps(metadata)})
    return {"pairs": len(tokens), "policies": len(set(names)), **counts}


@dataclass(frozen=True, slots=True)
class ReferenceLogps:
    """A file that `measure_reference` wrote. `policies`: hashes of the weights, the reference's first."""

    path: Path
    policies: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, policy: Policy, pairs: Sequence[TokenPair]) -> "ReferenceLogps":
        """Raises DataError if the file is damaged, or of another tokenizer, template or pairs."""
        try:
            with safe_open(path, "pt") as file:
                metadata = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: no reference log-probs ({error}). {_REMEDY}") from None
        expected = {"tokenizer": tokenizer_id(policy.tokenizer), "pairs": _pairs_id(pairs)}
        for name, value in expected.items():
            if metadata.get(name) != value:
                raise DataError(
                    f"{path}: reference log-probs of another {name} ({metadata.get(name)}, not {value}). {_REMEDY}"
                )
        return cls(path, tuple(metadata.get("policies", "").split()))

    def logps(self, policy_id: str, pairs: Sequence[TokenPair]) -> list[PairLogps]:
        """In the order of the pairs. Raises DataError if the file is of other weights."""
        with safe_open(self.path, "pt") as file:
            if f"{policy_id}/chosen" not in file.keys():  # noqa: SIM118, it is no dict
                known = ", ".join(self.policies)
                raise DataError(
                    f"{self.path}: reference log-probs of other weights ({known}, not {policy_id}). {_REMEDY}"
                )
            chosen = file.get_tensor(f"{policy_id}/chosen").split([len(pair.chosen) for pair in pairs])
            rejected = file.get_tensor(f"{policy_id}/rejected").split([len(pair.rejected) for pair in pairs])
        return [PairLogps(*both) for both in zip(chosen, rejected, strict=True)]


def with_reference(pairs: Sequence[TokenPair], measured: ReferenceLogps, history: bool) -> list[TokenPair]:
    """The pairs with the reference's log-probs, summed, and with their history if it was measured too."""
    reference, *others = ([_sums(found) for found in measured.logps(name, pairs)] for name in measured.policies)
    start, warm = others if len(others) == 2 else (reference, reference)
    return [
        replace(
            pair,
            ref_chosen_logps=reference[place][0],
            ref_rejected_logps=reference[place][1],
            history=(*start[place], *warm[place]) if history else pair.history,
        )
        for place, pair in enumerate(pairs)
    ]


def _sums(found: PairLogps) -> tuple[float, float]:
    return float(found.chosen.double().sum()), float(found.rejected.double().sum())


@torch.no_grad()
def logps_of(
    policy: Policy, pairs: Sequence[TokenPair], micro_batch_tokens: int, dtype: torch.dtype
) -> list[PairLogps]:
    """In the order of the pairs; like lengths are computed together, in larger rows than training's."""
    packing = choose_packing(policy.model)
    head = "again" if packing.head == "kept" else packing.head  # nothing is kept: only a few rows' logits are there
    collate = StepCollator(pad_id(policy), REFERENCE_BATCH_FACTOR * micro_batch_tokens, packing.shared, head)
    policy.model.eval()
    found: dict[int, PairLogps] = {}
    for places in collate.groups(pairs):
        (batch,) = collate([pairs[place] for place in places])
        logps = per_token_logps(policy.model, batch.to(policy.device), dtype).cpu()
        lengths = [len(reply) for place in places for reply in (pairs[place].chosen, pairs[place].rejected)]
        replies = iter(logps.split(lengths))
        found.update((place, PairLogps(next(replies), next(replies))) for place in places)
        report_progress(len(found), len(pairs))
    return [found[place] for place in range(len(pairs))]


def training_weights(policy: PolicySettings) -> PolicySettings:
    """How weights are held while they are trained: in float32 unless an adapter is what is trained."""
    return policy if policy.lora else policy.model_copy(update={"dtype": "float32"})


def pad_id(policy: Policy) -> int:
    """Any id will do, since padding is masked everywhere; the tokenizer's own reads best in a debugger."""
    found = policy.tokenizer.pad_token_id
    return found if isinstance(found, int) else 0


def _check_finite(source: Path | str, found: Sequence[PairLogps]) -> None:
    bad = sum(not bool(torch.cat([pair.chosen, pair.rejected]).isfinite().all()) for pair in found)
    if bad:
        raise DataError(
            f"{source}: log-probs of {bad} of {len(found)} pairs are no finite numbers; the model overflows in this "
            "type: set policy.dtype=float32, or check its weights."
        )


def _pairs_id(pairs: Sequence[TokenPair]) -> str:
    return stable_hash([(pair.prompt, pair.chosen, pair.rejected) for pair in pairs])


_REMEDY = "Delete it and give the command again: it is made anew."
