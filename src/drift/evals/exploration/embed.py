"""Replies as vectors: hidden states of a policy, or a sentence-transformers model in a folder."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from drift.config import PolicySettings
from drift.errors import PrerequisiteError
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.chat.template import token_ids
from drift.policy.model import load_policy
from drift.records import ChatMessage, Reason

MAX_LENGTH = 2048


def embed(source: str, prompts: Sequence[Sequence[ChatMessage]], replies: Sequence[str], dtype: str) -> np.ndarray:
    """float32 [n, D], L2-normalised; D is the model's. `source`: a policy, or a folder with modules.json.

    Raises PrerequisiteError if the model does not exist or its package is missing.
    """
    if (Path(source) / "modules.json").is_file():
        vectors = _sentences(source, replies)
    else:
        vectors = _hidden_states(source, prompts, replies, dtype)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _sentences(folder: str, replies: Sequence[str]) -> np.ndarray:
    try:
        package = import_module("sentence_transformers")
    except ModuleNotFoundError:
        raise PrerequisiteError(
            f"{folder}: a sentence-transformers model needs its package: pip install sentence-transformers"
        ) from None
    model = package.SentenceTransformer(folder, trust_remote_code=False)
    return np.asarray(model.encode(list(replies), show_progress_bar=False), dtype=np.float32)


@torch.inference_mode()
def _hidden_states(
    source: str, prompts: Sequence[Sequence[ChatMessage]], replies: Sequence[str], dtype: str
) -> np.ndarray:
    """The last layer's states after the prompt, averaged over the reply's tokens including its end token."""
    policy = load_policy(source, PolicySettings(dtype=dtype))  # pyright: ignore[reportArgumentType]
    vectors = []
    for prompt, reply in zip(prompts, replies, strict=True):
        answer = encode_completion(policy.chat, prompt, ChatMessage("assistant", reply), "stop")
        completion = (token_ids(policy.tokenizer, reply) if isinstance(answer, Reason) else answer)[: MAX_LENGTH // 2]
        room = min(MAX_LENGTH, policy.context_length) - len(completion)
        encoded = encode_prompt(policy.chat, prompt, room)
        ids = torch.tensor([[*(() if isinstance(encoded, Reason) else encoded.ids), *completion]], device=policy.device)
        states = policy.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[-1]
        vectors.append(states[0, -len(completion) :].float().mean(dim=0).cpu().numpy())
    return np.stack(vectors)
