"""A Hugging Face sequence classifier with one output, or an adapter that makes one: the reward of a conversation that
ends in the reply.

With an engine that has room for several models, each of its workers loads the classifier once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from drift.config import PolicySettings
from drift.engine import Engine, Local
from drift.errors import PrerequisiteError
from drift.policy.chat import ChatFormat, encode_conversation
from drift.policy.checks import positions, report_positions
from drift.policy.model import EVERY_GPU, cpu_threads, over_gpus, place, weights_id
from drift.policy.source import is_adapter
from drift.policy.spread import check_same_weights
from drift.progress import report_progress
from drift.records import Reason, ReplyToScore
from drift.scoring.classifier import load_adapted, outputs_of_adapter

TOKENS_PER_BATCH = 16384


class RewardModelScorer:
    """Raises PrerequisiteError unless `source` is a sequence classifier with one output and a chat template.

    `form`: whose template arguments, date and thinking mode the chats are written in, as where it learned from a
    policy's chats; None: as the template has it. An adapter that learned on a base in 4 bits reads it so again.
    """

    def __init__(
        self,
        source: str,
        dtype: str,
        max_length: int,
        engine: Engine | None = None,
        form: PolicySettings | None = None,
    ) -> None:
        tokenizer = check_reward_model(source)
        self.chat = ChatFormat.of(tokenizer, form) if form else ChatFormat(tokenizer)
        model = _load(source, dtype, in_4_bits=bool(form and form.lora and form.lora.quantize))
        report_positions(model.config)
        self.max_length = min(max_length, positions(model.config))
        self._alone = model.config.get_text_config().pad_token_id is None
        engine = engine or Local()
        self._each = engine.each
        if engine.workers > 1:
            self._work = partial(
                _rewards_in_worker, SpreadReward(source, dtype, weights_id(model), torch.get_num_threads())
            )
        else:
            place(model, None)
            self._work = partial(_rewards, model.eval())

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        """Rewards; None for a conversation over `max_length` tokens, which could only be judged in part, and for one
        that the template does not show."""
        rewards: list[float | None] = [None] * len(replies)
        ids = {row: self._ids(reply) for row, reply in enumerate(replies)}
        shown = {row: tokens for row, tokens in ids.items() if not isinstance(tokens, Reason)}
        fitting = {row: tokens for row, tokens in shown.items() if len(tokens) <= self.max_length}
        batches = _batches({row: len(tokens) for row, tokens in fitting.items()}, self._alone)
        pieces = [RewardPiece(f"batch {n} of rewards", [fitting[row] for row in b]) for n, b in enumerate(batches)]
        done = 0
        for number, batch_rewards in self._each(self._work, pieces):
            for row, reward in zip(batches[number], batch_rewards, strict=True):
                rewards[row] = reward
            done += len(batch_rewards)
            report_progress(done, len(fitting))
        return rewards

    def _ids(self, reply: ReplyToScore) -> list[int] | Reason:
        ids = encode_conversation(self.chat, reply.prompt, reply.message, reply.tools)
        return ids if isinstance(ids, Reason) else list(ids)


def check_reward_model(source: str) -> PreTrainedTokenizerBase:
    """Its tokenizer, without loading the weights. Raises PrerequisiteError as RewardModelScorer."""
    with _loading(source):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        outputs = (
            outputs_of_adapter(Path(source).expanduser())
            if is_adapter(source)
            else AutoConfig.from_pretrained(source, trust_remote_code=False).num_labels
        )
    if outputs != 1 or not tokenizer.chat_template:
        raise PrerequisiteError(
            f"{source}: has {outputs} outputs and {'a' if tokenizer.chat_template else 'no'} chat template; a reward "
            "model needs one output and a template. Set recipe.scorer.model (or --reward-model) to another one."
        )
    return tokenizer


@dataclass(frozen=True, slots=True)
class RewardPiece:
    """A batch. `rows`: ids of one length, since the classifier reads the last token, which must not be padding."""

    name: str
    rows: Sequence[Sequence[int]]


@torch.inference_mode()
def _rewards(model: PreTrainedModel | PeftModel, piece: RewardPiece) -> list[float]:
    inputs = torch.tensor(piece.rows, device=model.device)
    return model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits[:, 0].float().tolist()


@dataclass(frozen=True, slots=True)
class SpreadReward:
    """What a worker needs to load the classifier. `weights`: their id. `threads`: as in `SpreadPolicy`."""

    source: str
    dtype: str
    weights: str
    threads: int


def _rewards_in_worker(spread: SpreadReward, piece: RewardPiece) -> list[float]:
    with cpu_threads(spread.threads):
        return _rewards(_loaded(spread), piece)


@lru_cache(maxsize=1)
def _loaded(spread: SpreadReward) -> PreTrainedModel | PeftModel:
    """In a worker. Raises PrerequisiteError if it has other weights under this name, or none."""
    model = _load(spread.source, spread.dtype, EVERY_GPU)
    place(model, EVERY_GPU)
    check_same_weights(spread.source, weights_id(model), spread.weights)
    return model.eval()


def _load(source: str, dtype: str, device: str | None = None, in_4_bits: bool = False) -> PreTrainedModel | PeftModel:
    if is_adapter(source):
        with _loading(source):
            return load_adapted(Path(source).expanduser(), dtype, in_4_bits, device)
    placed = over_gpus(device)
    with _loading(source):
        return AutoModelForSequenceClassification.from_pretrained(
            source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, **placed
        )


@contextmanager
def _loading(source: str) -> Iterator[None]:
    """Raises PrerequisiteError if what is loaded in the block is missing or damaged."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise PrerequisiteError(
            f"{source}: cannot be loaded as a reward model ({' '.join(str(error).split())[:200]}). Give "
            "recipe.scorer.model (or --reward-model) the folder or id of a sequence classifier."
        ) from None


def _batches(lengths: dict[int, int], alone: bool) -> list[list[int]]:
    """Rows of exactly one length each, within TOKENS_PER_BATCH. `alone`: one row each; a classifier without a padding
    token refuses more."""
    batches: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: -lengths[row]):
        length = lengths[row]
        fits = batches and lengths[batches[-1][0]] == length and (len(batches[-1]) + 1) * length <= TOKENS_PER_BATCH
        if fits and not alone:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
