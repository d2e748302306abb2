"""The stage before training: the reference's log-probs of every pair, so that no second model stays in memory.

The file names what it was computed from: hashes of the weights, of the tokenizer with its template, and of the pairs as
token ids. Training refuses a file of anything else. The file is reused after a kill, and with other training settings
as long as the pairs are cut at the same lengths.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import orjson
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drift.config import LoraSettings, PolicySettings, Settings, TrainerSettings
from drift.engine import Engine, Local
from drift.errors import DataError
from drift.policy.adapter import training_weights
from drift.policy.model import Policy, cpu_threads, load_policy, tokenizer_id
from drift.policy.padded import pad_id
from drift.policy.spread import SpreadPolicy, engine_for_models
from drift.progress import report_progress
from drift.records import Counts, Thinking
from drift.training.batch import StepCollator, per_token_logps
from drift.training.shared_prefix import Packing, choose_packing
from drift.training.tokens import TokenPair, load_pairs

ABOUT = "drift"
REFERENCE_BATCH_FACTOR = 4
"""How many times longer than in training a batch may be: without a gradient, no activations are kept."""


class ReferenceSettings(Settings):
    """What the log-probs depend on besides the weights, the tokenizer and the pairs.

    The maximum lengths, the type that the forward pass computes in (`dtype`), how weights are held (`weights`,
    `quantize`), and how the chat template is used (`thinking`, `template_arguments`, `date`). `micro_batch_tokens`
    bounds the memory and is not part of the stage's key; nor is any other setting, but for the loss `kto`:
    `kl_batch_size` says which rows exchange replies.
    """

    max_prompt_length: int
    max_length: int
    dtype: Literal["float32", "bfloat16"]
    weights: Literal["float32", "bfloat16"]
    quantize: Literal["4bit"] | None
    thinking: Thinking
    template_arguments: dict[str, Any]
    date: str | None
    micro_batch_tokens: int = Field(exclude=True)
    kl_batch_size: int | None = None

    @classmethod
    def of(cls, training: TrainerSettings, policy: PolicySettings) -> "ReferenceSettings":
        return cls(
            max_prompt_length=training.max_prompt_length,
            max_length=training.max_length,
            dtype=policy.dtype,
            weights=training_weights(policy).dtype,
            quantize=policy.lora.quantize if policy.lora else None,
            thinking=policy.thinking,
            template_arguments=policy.template_arguments,
            date=policy.date,
            micro_batch_tokens=training.micro_batch_tokens,
            kl_batch_size=training.kl_batch_size,
        )

    @property
    def loading(self) -> PolicySettings:
        """The settings to load a policy with."""
        lora = LoraSettings(quantize=self.quantize) if self.quantize else None
        return PolicySettings(
            dtype=self.weights,
            lora=lora,
            thinking=self.thinking,
            template_arguments=self.template_arguments,
            date=self.date,
        )


_NONE = torch.tensor([])


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Per-token log-probs of one pair under one policy: float32 [T+] and [T-], nats.

    `mismatched`: the same of another row's reply, if the pair has one.
    """

    chosen: Tensor
    rejected: Tensor
    mismatched: Tensor = _NONE


def measure_reference(out: Path, policies: tuple[Path | str, ...], pairs: Path, settings: ReferenceSettings) -> Counts:
    """Write the log-probs of the pairs under each of the policies; the first is training's reference.

    With `training.diagnostics`, the policy at the iteration's start and the warm start follow. Policies with equal
    weights are computed once. Raises DataError if a log-prob is NaN or infinite, NothingToTrainOn if no pair is left.
    """
    tensors: dict[str, Tensor] = {}
    names: list[str] = []
    tokens: list[TokenPair] = []
    counts: dict[str, int] = {}
    tokenizer = ""
    with engine_for_models(settings.loading) as engine:
        for source in policies:
            loaded = load_policy(source, settings.loading, "cpu" if engine.workers > 1 else None)
            tokens, counts = load_pairs(
                loaded, pairs, settings.max_prompt_length, settings.max_length, settings.kl_batch_size
            )
            tokenizer = tokenizer_id(loaded.tokenizer)
            names.append(loaded.policy_id)
            if names.count(loaded.policy_id) == 1:
                spread = SpreadPolicy.of(source, settings.loading, loaded.policy_id)
                workers = (engine, spread) if engine.workers > 1 else None
                logps = logps_of(loaded, tokens, settings.micro_batch_tokens, getattr(torch, settings.dtype), workers)
                _check_finite(source, logps, settings.dtype)
                tensors[f"{loaded.policy_id}/chosen"] = torch.cat([pair.chosen for pair in logps])
                tensors[f"{loaded.policy_id}/rejected"] = torch.cat([pair.rejected for pair in logps])
                if settings.kl_batch_size is not None:
                    tensors[f"{loaded.policy_id}/mismatched"] = torch.cat([pair.mismatched for pair in logps])
            del loaded  # before the next one is loaded: there may be room for one
    metadata = {"policies": " ".join(names), "tokenizer": tokenizer, "pairs": _pairs_id(tokens)}
    # one metadata entry only: safetensors writes several in random order, and equal references must be equal files
    save_file(tensors, out, {ABOUT: json.dumps(metadata)})
    return {"pairs": len(tokens), "policies": len(set(names)), **counts}


@dataclass(frozen=True, slots=True)
class ReferenceLogps:
    """A file that `measure_reference` wrote. `policies`: hashes of the weights, the reference's first."""

    path: Path
    policies: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, policy: Policy, pairs: Sequence[TokenPair]) -> "ReferenceLogps":
        """Raises DataError if the file is damaged, or was written for another tokenizer, template or other pairs."""
        try:
            with safe_open(path, "pt") as file:
                metadata = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: not a file of reference log-probs ({error}). {_REMEDY}") from None
        expected = {"tokenizer": tokenizer_id(policy.tokenizer), "pairs": _pairs_id(pairs)}
        for name, value in expected.items():
            if metadata.get(name) != value:
                raise DataError(
                    f"{path}: the reference log-probs do not match the {name} (they are of {metadata.get(name)}, "
                    f"expected {value}). {_REMEDY}"
                )
        return cls(path, tuple(metadata.get("policies", "").split()))

    def logps(self, policy_id: str, pairs: Sequence[TokenPair]) -> list[PairLogps]:
        """One for each pair, in order. Raises DataError if the file has no log-probs of these weights."""
        with self._of(policy_id) as file:
            chosen = file.get_tensor(f"{policy_id}/chosen").split([len(pair.chosen) for pair in pairs])
            rejected = file.get_tensor(f"{policy_id}/rejected").split([len(pair.rejected) for pair in pairs])
            if not pairs[0].mismatched:
                return [PairLogps(*replies) for replies in zip(chosen, rejected, strict=True)]
            mismatched = file.get_tensor(f"{policy_id}/mismatched").split([len(pair.mismatched) for pair in pairs])
        return [PairLogps(*replies) for replies in zip(chosen, rejected, mismatched, strict=True)]

    def with_history(self, pairs: Sequence[TokenPair], history: bool) -> "Iterator[tuple[_Sums, _History]]":
        """For each pair, in order: the reference's summed log-probs; with `history`, also those for the diagnostics.

        They are read pair by pair, so that no more than that is in memory.
        """
        reference, *others = (self._sums(name, pairs) for name in (self.policies if history else self.policies[:1]))
        for sums in reference:
            start, warm = (next(other) for other in others) if len(others) == 2 else (sums, sums)
            yield sums, (*start[:2], *warm[:2]) if history else ()

    def _sums(self, policy_id: str, pairs: Sequence[TokenPair]) -> "Iterator[_Sums]":
        """Sums over chosen, rejected and mismatched replies, nats."""
        with self._of(policy_id) as file:
            sides = [file.get_slice(f"{policy_id}/{side}") for side in ("chosen", "rejected")]
            if pairs[0].mismatched:
                sides.append(file.get_slice(f"{policy_id}/mismatched"))
            places = [0] * len(sides)
            for pair in pairs:
                sums = [0.0, 0.0, 0.0]
                for n, reply in enumerate((pair.chosen, pair.rejected, pair.mismatched)[: len(sides)]):
                    if reply:
                        sums[n] = float(sides[n][places[n] : places[n] + len(reply)].double().sum())
                        places[n] += len(reply)
                yield sums[0], sums[1], sums[2]

    def _of(self, policy_id: str) -> Any:
        """The open file. Raises DataError if it has no log-probs of these weights."""
        file: Any = safe_open(self.path, "pt")
        if f"{policy_id}/chosen" not in file.keys():  # noqa: SIM118, it is not a dict
            raise other_weights(self.path, self.policies, policy_id)
        return file


def other_weights(path: Path, policies: Sequence[str], policy_id: str, remedy: str | None = None) -> DataError:
    """The error of a file that has the log-probs of `policies` where those of `policy_id` are needed."""
    return DataError(
        f"{path}: the reference log-probs do not match the weights (they are of {', '.join(policies)}, "
        f"expected {policy_id}). {remedy or _REMEDY}"
    )


_Sums = tuple[float, float, float]
_History = tuple[float, float, float, float] | tuple[()]


@torch.no_grad()
def logps_of(
    policy: Policy,
    pairs: Sequence[TokenPair],
    micro_batch_tokens: int,
    dtype: torch.dtype,
    workers: tuple[Engine, SpreadPolicy] | None = None,
) -> list[PairLogps]:
    """Per-token log-probs of each pair, in order. Pairs of similar length are computed together, in longer rows than
    training's. `workers`: who computes, instead of this process; its `policy` gives the padding alone."""
    if workers is None:
        each, work, packing = Local().each, partial(_group_logps, policy), choose_packing(policy.model)
    else:
        engine, spread = workers
        each, work = engine.each, partial(_group_logps_in_worker, spread)
        ((_, packing),) = each(_packing_in_worker, [spread])
    head = "again" if packing.head == "kept" else packing.head  # without a gradient, there is no need to keep logits
    factor = REFERENCE_BATCH_FACTOR if head == "again" else 1  # the model's own head computes all logits at once
    collate = StepCollator(pad_id(policy), factor * micro_batch_tokens, packing.shared, head)
    groups = collate.groups(pairs)
    pieces = [LogpsPiece(f"batch {n} of log-probs", [pairs[i] for i in group]) for n, group in enumerate(groups)]
    measured: dict[int, PairLogps] = {}
    for number, logps in each(partial(work, collate, dtype), pieces):
        measured.update(zip(groups[number], logps, strict=True))
        report_progress(len(measured), len(pairs))
    logps = [measured[index] for index in range(len(pairs))]
    if not pairs or not pairs[0].mismatched:
        return logps
    others = logps_of(policy, [pair.as_mismatched for pair in pairs], micro_batch_tokens, dtype, workers)
    return [replace(own, mismatched=other.chosen) for own, other in zip(logps, others, strict=True)]


@dataclass(frozen=True, slots=True)
class LogpsPiece:
    """The pairs of one micro-batch."""

    name: str
    pairs: Sequence[TokenPair]


@torch.no_grad()
def _group_logps(policy: Policy, collate: StepCollator, dtype: torch.dtype, piece: LogpsPiece) -> list[PairLogps]:
    group = piece.pairs
    (batch,) = collate(group)
    logps = per_token_logps(policy.model.eval(), batch.to(policy.device), dtype).cpu()
    replies = iter(logps.split([len(reply) for pair in group for reply in (pair.chosen, pair.rejected)]))
    return [PairLogps(next(replies), next(replies)) for _ in group]


def _group_logps_in_worker(
    spread: SpreadPolicy, collate: StepCollator, dtype: torch.dtype, piece: LogpsPiece
) -> list[PairLogps]:
    policy, _ = _packed(spread)
    with cpu_threads(spread.threads):
        return _group_logps(policy, collate, dtype, piece)


def _packing_in_worker(spread: SpreadPolicy) -> Packing:
    """Which rows the worker's device computes exactly: not always those of this process's."""
    return _packed(spread)[1]


@lru_cache(maxsize=1)
def _packed(spread: SpreadPolicy) -> tuple[Policy, Packing]:
    with spread.loaded() as policy:
        return policy, choose_packing(policy.model)


def _check_finite(source: Path | str, logps: Sequence[PairLogps], dtype: str) -> None:
    broken = sum(not bool(torch.cat([pair.chosen, pair.rejected, pair.mismatched]).isfinite().all()) for pair in logps)
    if broken:
        remedy = "check its weights" if dtype == "float32" else "set policy.dtype=float32, or check its weights"
        raise DataError(
            f"{source}: log-probs of {broken} of {len(logps)} pairs are NaN or infinite in {dtype}; {remedy}."
        )


def _pairs_id(pairs: Sequence[TokenPair]) -> str:
    """`stable_hash` of the list of all token ids, without making that list."""
    digest = hashlib.sha256(b"[[")
    for number, pair in enumerate(pairs):
        ids = (pair.prompt, pair.chosen, pair.rejected, *([pair.mismatched] if pairs[0].mismatched else []))
        digest.update(b"," * (number > 0) + orjson.dumps(ids))
    digest.update(b"]]")
    return digest.hexdigest()[:16]


_REMEDY = "Delete it and run the command again to compute it."
