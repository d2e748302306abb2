"""Self-distillation from the follow-up against a plain implementation, and the rows that it learns from."""

import io
from dataclasses import replace

import pytest
import torch

from drift.config import PolicySettings, TrainingSettings
from drift.policy.guided import HINDSIGHT
from drift.policy.model import load_policy
from drift.records import ChatMessage, PreferencePair, read_jsonl, write_jsonl
from drift.training.batch import StepCollator
from drift.training.reference import logps_of
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair, tokenise
from drift.training.trainer import PreferenceTrainer, training_arguments


def row(n: int) -> PreferencePair:
    prompt = (ChatMessage("user", "hi " * (n + 1)), ChatMessage("assistant", "yes?"), ChatMessage("user", f"then {n}"))
    reply = (ChatMessage("assistant", f"well {n} " + "and more " * (n % 3)),)
    ask = prompt if n % 2 else prompt[:1]
    follow_up = ChatMessage("user", "no, shorter " * (n % 2 + 1))
    return PreferencePair(str(n), str(n), "c", 1, "follow_up", 0, "logs", ask, reply, (), follow_up=follow_up)


ROWS = [row(n) for n in range(6)]


def trainer_for(folder, tmp_path, tokens, packed: bool, **changes) -> PreferenceTrainer:
    settings = TrainingSettings(loss="self_distillation", batch_size=6, **changes)
    model = load_policy(folder, PolicySettings()).model
    packing = choose_packing(model)
    if not packed:
        model = load_policy(folder, PolicySettings()).model
    collator = StepCollator(0, settings.micro_batch_tokens, packed, packing.head if packed else "model")
    arguments = training_arguments(settings, 1, tmp_path)
    return PreferenceTrainer(model, tokens, settings, arguments, collator, torch.float32, False, io.BytesIO())


def log_probs(model, prompt: tuple[int, ...], reply: tuple[int, ...]) -> torch.Tensor:
    ids = torch.tensor([[*prompt, *reply]])
    found = model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])[:, 0]
    return found[len(prompt) - 1 :]


def plain(model, tokens: list[TokenPair], clip: float | None) -> torch.Tensor:
    """One sequence at a time: mean over replies of -1/T sum_t A_t log pi(y_t | x, y_<t)."""
    losses = []
    for pair in tokens:
        own = log_probs(model, pair.prompt, pair.chosen)
        with torch.no_grad():
            signal = log_probs(model, pair.informed, pair.chosen) - own
        if clip is not None:
            signal = signal.clamp(-clip, clip)
        losses.append(-(signal * own).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("packed", "changes"),
    [(True, {}), (True, {"micro_batch_tokens": 150, "signal_clip": 0.05}), (False, {"micro_batch_tokens": 400})],
)
def test_loss_and_gradient_are_those_of_a_plain_implementation(tiny_policy, tmp_path, packed, changes):
    policy = load_policy(tiny_policy, PolicySettings())
    tokens, _ = tokenise(policy, ROWS, 512, 512)
    packing = choose_packing(load_policy(tiny_policy, PolicySettings()).model)
    assert packing.shared
    known = [
        replace(pair, ref_chosen_logps=float(found.chosen.sum()), ref_rejected_logps=0.0)
        for pair, found in zip(tokens, logps_of(policy, tokens, 1000, torch.float32), strict=True)
    ]
    trainer = trainer_for(tiny_policy, tmp_path, known, packed, **changes)
    loss = trainer.training_step(trainer.model, trainer.data_collator(known))
    model = load_policy(tiny_policy, PolicySettings()).model
    expected = plain(model, tokens, changes.get("signal_clip"))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)
    ours, theirs = (torch.cat([w.grad.flatten() for w in m.parameters()]) for m in (trainer.model, model))
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-5


def test_the_follow_up_stands_at_the_end_of_the_request_and_the_reply_is_left_out(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    (pair,), counts = tokenise(policy, ROWS[:1], 512, 512)
    text = policy.tokenizer.decode(list(pair.informed))
    assert f"hi \n\n<feedback>\nno, shorter\n</feedback>\n{HINDSIGHT}<|im_end|>" in text
    assert "well" not in text
    assert not any(counts.values())
    none, counts = tokenise(policy, ROWS[:1], len(pair.informed) - 1, 512)
    assert (none, counts["dropped.prompt_too_long"]) == ([], 1)
    (cut,), _ = tokenise(policy, ROWS[:1], 512, len(pair.informed) + 3)
    assert cut.chosen == pair.chosen[:3]


def test_a_row_is_written_with_its_follow_up_and_others_as_before(tmp_path):
    file = tmp_path / "pairs.jsonl"
    write_jsonl(file, [ROWS[0], replace(ROWS[0], follow_up=None)])
    first, second = file.read_text().splitlines()
    assert "follow_up" in first.replace('"recipe":"follow_up"', "")
    assert "follow_up" not in second.replace('"recipe":"follow_up"', "")
    assert list(read_jsonl(file, PreferencePair)) == [ROWS[0], replace(ROWS[0], follow_up=None)]
