"""A Hugging Face sequence classifier with one output: the reward of a conversation that ends in the reply."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from drift.errors import PrerequisiteError
from drift.policy.chat import ChatFormat, encode_conversation
from drift.records import ChatMessage, Reason, ReplyToScore

TOKENS_PER_BATCH = 16384


class RewardModelScorer:
    """Raises PrerequisiteError unless `source` is a sequence classifier with one output and a chat template."""

    def __init__(self, source: str, dtype: str, max_length: int) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            self.model = AutoModelForSequenceClassification.from_pretrained(
                source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise PrerequisiteError(
                f"{source}: cannot be loaded as a reward model ({' '.join(str(error).split())[:200]}). Give "
                "recipe.scorer.model (or --reward-model) the folder or id of a sequence classifier."
            ) from None
        if self.model.config.num_labels != 1 or not self.tokenizer.chat_template:
            raise PrerequisiteError(
                f"{source}: has {self.model.config.num_labels} outputs and "
                f"{'a' if self.tokenizer.chat_template else 'no'} chat template; a reward model needs one output and "
                "a template. Set recipe.scorer.model (or --reward-model) to another one."
            )
        self.chat = ChatFormat(self.tokenizer)
        self.max_length = max_length
        torch.nn.Module.to(self.model.eval(), "cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        """Rewards; None for a conversation over `max_length` tokens, which could only be judged in part, and for one
        that the template does not show."""
        rewards: list[float | None] = [None] * len(replies)
        ids = {row: self._ids(reply) for row, reply in enumerate(replies)}
        shown = {row: tokens for row, tokens in ids.items() if not isinstance(tokens, Reason)}
        fitting = {row: tokens for row, tokens in shown.items() if len(tokens) <= self.max_length}
        for batch in _batches({row: len(tokens) for row, tokens in fitting.items()}):
            for row, reward in zip(batch, self._rewards([fitting[row] for row in batch]), strict=True):
                rewards[row] = reward
        return rewards

    def _ids(self, reply: ReplyToScore) -> list[int] | Reason:
        answer = ChatMessage("assistant", reply.text)
        ids = encode_conversation(self.chat, reply.prompt, answer, reply.tools)
        return ids if isinstance(ids, Reason) else list(ids)

    def _rewards(self, rows: list[list[int]]) -> list[float]:
        """`rows` have one length: the classifier reads the last token, which must not be padding."""
        inputs = torch.tensor(rows, device=self.model.device)
        return self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits[:, 0].float().tolist()


def _batches(lengths: dict[int, int]) -> list[list[int]]:
    """Rows of exactly one length each, within TOKENS_PER_BATCH."""
    batches: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: -lengths[row]):
        length = lengths[row]
        if batches and lengths[batches[-1][0]] == length and (len(batches[-1]) + 1) * length <= TOKENS_PER_BATCH:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
