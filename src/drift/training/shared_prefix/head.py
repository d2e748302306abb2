"""The head in chunks: under gradient checkpointing its logits would be the largest thing that a step keeps.

The model's own forward runs as always, but its head is handed no rows; it keeps what it was about to be given. A model
that does more to its logits than its head (scales or caps them) is told apart by the probe and keeps the whole head.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from drift.policy.padded import token_logps

CHUNK = 1024
"""Rows whose logits are there at once."""


def chunked_logps(model: nn.Module, forward: Callable[[], Tensor], targets: Tensor) -> Tensor:
    """Log-probs of the targets, float32 [T], from the hidden states that `forward` would give its head: [1, T, H]."""
    inner: nn.Module = getattr(model, "module", model)  # several processes wrap the model
    head: nn.Module = inner.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    caught: list[Tensor] = []

    def hand_over(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        caught.append(inputs[0])
        return (inputs[0][:, :0], *inputs[1:])

    handle = head.register_forward_pre_hook(hand_over)
    try:
        forward()
    finally:
        handle.remove()
    chunks = zip(caught[0][0].split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([_checkpointed(head, hidden, wanted) for hidden, wanted in chunks])


def _checkpointed(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    def logps(rows: Tensor) -> Tensor:
        return token_logps(head(rows), targets)

    return checkpoint(logps, hidden, use_reentrant=False)  # pyright: ignore[reportReturnType]
