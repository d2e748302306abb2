"""A Hugging Face sequence classifier with one output: the reward of a conversation that ends in the reply."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from drift.errors import PrerequisiteError
from drift.policy.chat import render
from drift.records import ChatMessage
from drift.scoring.scorers import ReplyToScore

BATCH_TOKENS = 16384


class RewardModelScorer:
    """Raises PrerequisiteError if `source` is no sequence classifier with one output and a chat template."""

    def __init__(self, source: str, dtype: str, max_length: int) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            self.model = AutoModelForSequenceClassification.from_pretrained(
                source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise PrerequisiteError(
                f"{source}: no reward model that can be loaded ({' '.join(str(error).split())[:200]}). Give "
                "recipe.scorer.model the folder or id of a sequence classifier."
            ) from None
        if self.model.config.num_labels != 1 or not self.tokenizer.chat_template:
            raise PrerequisiteError(
                f"{source}: has {self.model.config.num_labels} outputs and "
                f"{'a' if self.tokenizer.chat_template else 'no'} chat template; a reward model has one output and one "
                "template. Give recipe.scorer.model another."
            )
        self.max_length = max_length
        torch.nn.Module.to(self.model.eval(), "cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        """Rewards; None for a conversation over `max_length` tokens, which would be judged by a part of it."""
        found: list[float | None] = [None] * len(replies)
        ids = {row: self._ids(reply) for row, reply in enumerate(replies)}
        fitting = {row: tokens for row, tokens in ids.items() if len(tokens) <= self.max_length}
        for batch in _batches({row: len(tokens) for row, tokens in fitting.items()}):
            for row, reward in zip(batch, self._rewards([fitting[row] for row in batch]), strict=True):
                found[row] = reward
        return found

    def _ids(self, reply: ReplyToScore) -> list[int]:
        chat = [*reply.prompt, ChatMessage("assistant", reply.text)]
        text = render(self.tokenizer, chat, generation_prompt=False)
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _rewards(self, rows: list[list[int]]) -> list[float]:
        """Rows of one length together: the classifier reads the last token, and padding would have to be told apart."""
        inputs = torch.tensor(rows, device=self.model.device)
        return self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits[:, 0].float().tolist()


def _batches(lengths: dict[int, int]) -> list[list[int]]:
    """Rows of exactly one length each, within BATCH_TOKENS."""
    batches: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: -lengths[row]):
        length = lengths[row]
        if batches and lengths[batches[-1][0]] == length and (len(batches[-1]) + 1) * length <= BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
