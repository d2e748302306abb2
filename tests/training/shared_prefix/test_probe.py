"""On every architecture the log-probs are those of one sequence at a time, whichever path the probe chooses."""

import copy

import pytest
import torch

from architectures import EITHER, PLAIN, SHARED, build
from drift.training.batch import StepCollator, per_token_logps
from drift.training.shared_prefix import ATTENTION, choose_packing
from drift.training.tokens import TokenPair


def ids(count: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 128, (count,)).tolist())


def pairs() -> list[TokenPair]:
    torch.manual_seed(1)
    return [TokenPair(ids(p), ids(c), ids(r)) for p, c, r in ((20, 9, 12), (3, 15, 1), (11, 1, 7))]


@torch.no_grad()
def one_at_a_time(model: torch.nn.Module, pair: TokenPair) -> torch.Tensor:
    """The model asked plainly: no padding, no position ids, the whole head."""
    found = []
    for reply in (pair.chosen, pair.rejected):
        row = torch.tensor([[*pair.prompt, *reply]])
        logps = model(row).logits[0].float().log_softmax(-1)[:-1].gather(-1, row[0, 1:, None])
        found.append(logps[len(pair.prompt) - 1 :, 0])
    return torch.cat(found)


def check(settings: tuple[str, dict]) -> bool:
    """Returns whether the packed row was chosen."""
    model = build(*settings)
    told = [one_at_a_time(copy.deepcopy(model), pair) for pair in pairs()]
    before = model.config._attn_implementation
    packing = choose_packing(model)
    assert model.config._attn_implementation == (ATTENTION if packing.shared else before)
    assert not model.training
    batches = StepCollator(0, 10_000, packing.shared)(pairs())
    with torch.no_grad():
        found = torch.cat([per_token_logps(model, batch, torch.float32) for batch in batches])
    order = sorted(range(3), key=lambda row: -pairs()[row].length)
    assert torch.allclose(found, torch.cat([told[row] for row in order]), atol=2e-4), packing.why
    assert "\n" not in packing.why
    if packing.head == "kept":
        (batch,) = StepCollator(0, 10_000, True, "again")(pairs())
        assert torch.allclose(per_token_logps(model, batch, torch.float32), found, atol=1e-5)
        assert not any(hasattr(model.config, name) for name in ("logit_scale", "logits_scaling"))
    return packing.shared


@pytest.mark.parametrize("settings", SHARED.values(), ids=SHARED)
def test_the_packed_row_is_exact_and_chosen(settings):
    assert check(settings)


@pytest.mark.parametrize("settings", PLAIN.values(), ids=PLAIN)
def test_the_padded_path_is_taken_where_the_packed_row_is_not_exact(settings):
    assert not check(settings)


@pytest.mark.parametrize("settings", EITHER.values(), ids=EITHER)
def test_nothing_is_wrong_either_way(settings):
    check(settings)
