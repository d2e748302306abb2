"""The pairs of a training as files that are mapped into memory, in the stage's work folder.

As Python objects, the token ids of a pair take ten times as much; and the processes of a machine share the pages of
these files that they read. The first process writes the files; with equal inputs, a resumed training uses them again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from accelerate import PartialState

from drift.config import PolicySettings, TrainerSettings
from drift.disk import atomic_write
from drift.errors import DataError
from drift.policy.model import Policy
from drift.records import PreferencePair, read_jsonl, stable_hash
from drift.rundir.fingerprints import code_version
from drift.training.reference import ReferenceLogps
from drift.training.tokens import TokenPair, nothing_left, partner, token_pairs, with_reply_of

_PARTS = ("prompt", "chosen", "rejected", "informed")
_NUMBERS = ("weight", "noise", "ref_chosen", "ref_rejected", "ref_mismatched")
ROW = np.dtype(
    [("start", "<i8"), *((n, "<i4") for n in _PARTS), *((n, "<f8") for n in _NUMBERS), ("history", "<f8", 4)]
)
"""One pair: where its tokens begin, how many each part has, and the numbers of a TokenPair."""
_ROWS, _TOKENS, _ABOUT = "pairs.rows", "pairs.tokens", "pairs.json"
_LONGEST_WAIT = timedelta(days=2)


class PairsFile(Sequence[TokenPair]):
    """Each pair is read when it is asked for. `rows`: of type ROW [P].

    `kl_batch_size`: as of `load_pairs`; the replies of other rows are cut to `max_length`, with the prompt.
    """

    def __init__(self, folder: Path, kl_batch_size: int | None, max_length: int):
        self.rows = np.memmap(folder / _ROWS, ROW, "r")
        self._tokens = np.memmap(folder / _TOKENS, "<i4", "r")
        self._kl_batch_size, self._max_length = kl_batch_size, max_length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TokenPair:  # pyright: ignore[reportIncompatibleMethodOverride], no slices
        pair = self._alone(index)
        if self._kl_batch_size is None:
            return pair
        return with_reply_of(pair, self._alone(partner(index, len(self), self._kl_batch_size)), self._max_length)

    def _alone(self, index: int) -> TokenPair:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = self.rows[index]
        at, parts = int(row["start"]), list[tuple[int, ...]]()
        for part in _PARTS:
            parts.append(tuple(self._tokens[at : at + int(row[part])].tolist()))
            at += int(row[part])
        first, second, third, fourth = row["history"].tolist()
        return TokenPair(
            *parts[:3],
            weight=float(row["weight"]),
            noise=float(row["noise"]),
            ref_chosen_logps=float(row["ref_chosen"]),
            ref_rejected_logps=float(row["ref_rejected"]),
            history=(first, second, third, fourth),
            ref_mismatched_logps=float(row["ref_mismatched"]),
            informed=parts[3],
        )


@dataclass(frozen=True, slots=True)
class PreparedPairs:
    """`counts`: of tokenising. `policies`: whose log-probs were measured, the reference first (`ReferenceLogps`)."""

    pairs: PairsFile
    counts: Mapping[str, int]
    policies: Sequence[str]


def prepare_pairs(
    folder: Path,
    policy: Policy,
    path: Path,
    reference: Path,
    settings: TrainerSettings,
    policy_settings: PolicySettings,
) -> PreparedPairs:
    """The pairs of the file `path` with their log-probs in `reference`, as files in `folder`; all processes call it.

    Raises NothingToTrainOn if no pair is left, DataError if the loss cannot learn from the pairs, or if the reference
    is of another tokenizer or other pairs. Whose weights it is of is the caller's to check (`policies`).
    """
    if PartialState().is_main_process:
        hashes = (_sha256(path), _sha256(reference), policy.policy_id, code_version())
        key = stable_hash(hashes, settings.model_dump(), policy_settings.model_dump())
        if not _is_written(folder, key):
            counts, policies = _write(folder, policy, path, reference, settings)
            about = {"key": key, "counts": counts, "policies": policies}
            atomic_write(folder / _ABOUT, orjson.dumps(about))
    if PartialState().num_processes > 1:
        # a group of its own, since the others may wait for longer than an exchange of gradients may take
        waiting: Any = torch.distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
        torch.distributed.barrier(waiting)
        torch.distributed.destroy_process_group(waiting)
    about = orjson.loads((folder / _ABOUT).read_bytes())
    return PreparedPairs(_opened(folder, policy, settings), about["counts"], about["policies"])


def _opened(folder: Path, policy: Policy, settings: TrainerSettings) -> PairsFile:
    return PairsFile(folder, settings.kl_batch_size, min(settings.max_length, policy.context_length))


def _is_written(folder: Path, key: str) -> bool:
    file = folder / _ABOUT
    return file.exists() and orjson.loads(file.read_bytes())["key"] == key


def _write(
    folder: Path, policy: Policy, path: Path, reference: Path, settings: TrainerSettings
) -> tuple[dict[str, int], tuple[str, ...]]:
    (folder / _ABOUT).unlink(missing_ok=True)
    tally: Counter[str] = Counter()
    records = read_jsonl(path, PreferencePair)
    if not write_tokens(folder, token_pairs(policy, records, settings.max_prompt_length, settings.max_length, tally)):
        raise nothing_left(path, tally)
    pairs = _opened(folder, policy, settings)
    _check_noise(path, pairs.rows, settings)
    _check_sides(path, pairs.rows, settings)
    measured = ReferenceLogps.open(reference, policy, pairs)
    _add_logps(np.memmap(folder / _ROWS, ROW, "r+"), pairs, measured, settings)
    return dict(tally), measured.policies


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


def write_tokens(folder: Path, pairs: Iterable[TokenPair]) -> int:
    """Write the pairs one by one, without log-probs of the reference; returns the number of their tokens."""
    start = 0
    with (folder / _ROWS).open("wb") as rows, (folder / _TOKENS).open("wb") as tokens:
        for pair in pairs:
            parts = (pair.prompt, pair.chosen, pair.rejected, pair.informed)
            numbers = (pair.weight, pair.noise, nan, nan, nan, pair.history)
            rows.write(np.array((start, *map(len, parts), *numbers), ROW).tobytes())
            for part in parts:
                tokens.write(np.array(part, "<i4").tobytes())
                start += len(part)
    return start


def _add_logps(rows: np.memmap, pairs: PairsFile, measured: ReferenceLogps, settings: TrainerSettings) -> None:
    for row, values in zip(rows, measured.with_history(pairs, settings.diagnostics), strict=True):
        (row["ref_chosen"], row["ref_rejected"], mismatched), history = values
        if settings.kl_batch_size is not None:
            row["ref_mismatched"] = mismatched
        if history:
            row["history"] = history
    rows.flush()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
