"""KTO: the loss by hand, the trainer against TRL's KTOTrainer on the same replies, and its guards."""

import copy
import io
import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from drift.config import PolicySettings, TrainingSettings
from drift.errors import DataError
from drift.policy.model import load_policy, save_policy
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training.batch import StepCollator, summed_logps
from drift.training.loss import LossScalars, PairTensors, kto, preference_loss
from drift.training.reference import ReferenceLogps, ReferenceSettings, measure_reference
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair, load_pairs, tokenise, with_mismatched
from drift.training.train import train
from drift.training.trainer import PreferenceTrainer, training_arguments

NEWLINE_BEFORE = (
    "{% for message in messages %}{{ '' if loop.first else '\\n' }}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n' }}<|im_start|>assistant\n{% endif %}"
)


def settings_for(**changes) -> TrainingSettings:
    base = {"loss": "kto", "optimizer": "rmsprop", "learning_rate": 1e-3, "batch_size": 6, "rpo_alpha": 0.0}
    return TrainingSettings(**{**base, "warmup_ratio": 0.0, **changes})


def said(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("assistant", text),)


def reply(n: int, liked: bool) -> PreferencePair:
    ask = (ChatMessage("user", "hi " * (n % 4 + 1)), ChatMessage("assistant", "yes?"), ChatMessage("user", f"then {n}"))
    text = said(f"good {n} " + "and more " * (n % 3)) if liked else said("bad" * (1 + n % 4))
    sides = (text, ()) if liked else ((), text)
    return PreferencePair(str(n), str(n), "c", 1, "unpaired", 0, "logs", ask[:1] if n % 2 else ask, *sides)


REPLIES = [reply(n, liked=n % 3 != 1) for n in range(15)]  # 10 liked, 5 disliked


def shifted(folder, out, seed: int = 1):
    """The tiny policy with other weights, as a reference that is not the start."""
    policy = load_policy(folder, PolicySettings())
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    save_policy(policy, out)
    return out


def trainer_for(folder, reference, settings, tmp_path, rows=REPLIES, padded=False) -> PreferenceTrainer:
    """As `train` makes it, from files."""
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    file = tmp_path / "reference.safetensors"
    measure_reference(file, (reference,), tmp_path / "pairs.jsonl", ReferenceSettings.of(settings, PolicySettings()))
    policy = load_policy(folder, PolicySettings())
    tokens, _ = load_pairs(policy, tmp_path / "pairs.jsonl", 512, 512, settings.kl_batch_size)
    measured = ReferenceLogps.open(file, policy, tokens).with_history(tokens, False)
    tokens = [
        replace(pair, ref_chosen_logps=chosen, ref_rejected_logps=rejected, ref_mismatched_logps=mismatched)
        for pair, ((chosen, rejected, mismatched), _) in zip(tokens, measured, strict=True)
    ]
    packing = choose_packing(policy.model)
    model = load_policy(folder, PolicySettings()).model if padded else policy.model
    collator = StepCollator(
        0, settings.micro_batch_tokens, packing.shared and not padded, "model" if padded else packing.head
    )
    arguments = training_arguments(settings, 1, tmp_path)
    return PreferenceTrainer(model, tokens, settings, arguments, collator, torch.float32, False, io.BytesIO())


def trl_trainer(folder, reference, settings, tmp_path):
    """TRL's trainer on the same messages, tokenised by itself, with its own reference model in memory."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    policy = load_policy(folder, PolicySettings())
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.chat_template = NEWLINE_BEFORE  # TRL would train on the newline that follows the end token
    theirs = {**training_arguments(settings, 1, tmp_path).to_dict(), "bf16": False, "max_length": None}
    theirs |= {"beta": settings.beta, "train_sampling_strategy": "sequential"}
    theirs |= {"desirable_weight": settings.desirable_weight or 1.0}
    theirs |= {"undesirable_weight": settings.undesirable_weight or 1.0}
    rows = [
        {
            "prompt": [asdict(message) for message in row.prompt],
            "completion": [asdict(message) for message in row.chosen or row.rejected],
            "label": bool(row.chosen),
        }
        for row in REPLIES
    ]
    model = load_policy(reference, PolicySettings()).model
    return KTOTrainer(
        policy.model, model, KTOConfig(**theirs), train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )


def gradient(model) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


def assert_a_step_is_trls(ours: PreferenceTrainer, theirs, count: int = 6) -> float:
    """Returns z0."""
    our_loss = ours.training_step(ours.model, ours.data_collator(list(ours.train_dataset)[:count]))
    rows = [dict(theirs.train_dataset[row]) for row in range(count)]
    their_loss = theirs.compute_loss(theirs.model.train(), theirs.data_collator(rows))
    their_loss.backward()
    assert our_loss.item() == pytest.approx(their_loss.item(), rel=2e-5)
    expected = gradient(theirs.model)
    assert float((gradient(ours.model) - expected).norm() / expected.norm()) < 2e-5
    kl = ours._step_metrics["kl"]
    assert kl == pytest.approx(theirs._metrics["train"].pop("kl")[-1], rel=2e-5)
    ours.model.zero_grad()
    theirs.model.zero_grad()
    return kl


@pytest.mark.parametrize(
    ("changes", "padded"),
    [
        ({}, False),
        ({"micro_batch_tokens": 100}, False),
        ({"micro_batch_tokens": 100}, True),
        ({"beta": 1.0, "desirable_weight": 0.5, "undesirable_weight": 1.75}, False),
    ],
)
def test_loss_gradient_and_z0_are_trls(tiny_policy, tmp_path, changes, padded):
    settings = settings_for(**changes)
    other = shifted(tiny_policy, tmp_path / "other")
    ours = trainer_for(tiny_policy, other, settings, tmp_path, padded=padded)
    theirs = trl_trainer(tiny_policy, other, settings, tmp_path)
    for mine, row in zip(ours.train_dataset, theirs.train_dataset, strict=True):
        ids = (row["prompt_ids"], row["completion_ids"], row["KL_completion_ids"], row["label"])
        assert ids == (list(mine.prompt), list(mine.chosen or mine.rejected), list(mine.mismatched), bool(mine.chosen))
    first = assert_a_step_is_trls(ours, theirs)
    # the other way round, the mismatched replies have moved down: z0 is clamped at 0
    ours = trainer_for(other, tiny_policy, settings, tmp_path, padded=padded)
    second = assert_a_step_is_trls(ours, trl_trainer(other, tiny_policy, settings, tmp_path))
    assert sorted([first == 0, second == 0]) == [False, True]


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw_torch"])
def test_six_steps_are_trls(tiny_policy, tmp_path, optimizer):
    settings = settings_for(optimizer=optimizer, epochs=2, desirable_weight=1.0, undesirable_weight=2.0)
    other = shifted(tiny_policy, tmp_path / "other")
    ours = trainer_for(tiny_policy, other, settings, tmp_path)
    theirs = trl_trainer(tiny_policy, other, settings, tmp_path)
    ours.train()
    theirs.train()
    logged = [row for row in theirs.state.log_history if "loss" in row]
    assert len(ours.rows) == len(logged) == 6
    for mine, row in zip(ours.rows, logged, strict=True):
        for name in ("loss", "grad_norm", "kl", "rewards/margins", "rewards/chosen", "logps/rejected"):
            assert mine[name] == pytest.approx(row[name], rel=5e-5, abs=5e-5), name
    assert ours.rows[-1]["loss"] < ours.rows[0]["loss"]


def tensors(kl: float) -> PairTensors:
    """A liked reply with r+ = 2 and a disliked one with r- = -3; the missing sides are 0."""
    rows = ([-10.0, 0.0], [0.0, -20.0], [-12.0, 0.0], [0.0, -17.0], [2.0, 0.0], [0.0, 4.0], [0.0, 0.0])
    return PairTensors(*map(torch.tensor, rows), torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.0]), torch.tensor(kl))


def test_kto_by_hand():
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    scalars = LossScalars(0.5, desirable_weight=1.5, undesirable_weight=2.0)
    expected = [1.5 * (1 - sigmoid(0.5 * (2 - 1))), 2.0 * (1 - sigmoid(0.5 * (1 + 3)))]
    assert kto(tensors(1.0), scalars).tolist() == pytest.approx(expected)
    result = preference_loss("kto", tensors(1.0), scalars)
    assert result.loss.item() == pytest.approx(sum(expected) / 2)
    assert result.chosen_rewards.tolist() == [1.0, 0.0]
    assert result.rejected_rewards.tolist() == [0.0, -1.5]
    at_start = preference_loss("kto", tensors(0.0)._replace(chosen=torch.tensor([-12.0, 0.0])), scalars)
    assert at_start.sigmoid_terms[0].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("count", "batch_size", "partners"),
    [(5, 3, [2, 0, 1, 4, 3]), (4, 3, [2, 0, 1, 2]), (3, 8, [2, 0, 1]), (3, 1, [2, 0, 1]), (1, 4, [0])],
)
def test_the_rows_of_a_batch_exchange_their_replies(count, batch_size, partners):
    rows = [TokenPair((1, 2), (10 + n, 3) if n % 2 else (), () if n % 2 else (10 + n,)) for n in range(count)]
    found = with_mismatched(rows, batch_size, 3)
    assert [row.mismatched for row in found] == [(10 + n,) for n in partners]  # one token is left for the reply
    assert [replace(row, mismatched=()) for row in found] == rows


def test_a_disliked_reply_alone_has_the_log_probs_and_the_end_of_its_pair(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    (alone,), counts = tokenise(policy, [REPLIES[1]], 512, 512)
    (pair,), _ = tokenise(policy, [replace(REPLIES[1], chosen=said("good"))], 512, 512)
    assert (alone.prompt, alone.chosen, alone.rejected) == (pair.prompt, (), pair.rejected)
    assert counts == {"shortened_prompts": 0, "cut_chosen": 0, "unfinished_rejected": 0, "cut_rejected": 0}
    (cut,), counts = tokenise(policy, [replace(REPLIES[1], rejected_finish="length")], 512, 512)
    assert (cut.rejected, counts["unfinished_rejected"]) == (pair.rejected[:-1], 1)
    none, counts = tokenise(policy, [replace(REPLIES[1], rejected=said(""))], 512, 512)
    assert (none, counts["dropped.empty_rejected"]) == ([], 1)
    assert choose_packing(policy.model).shared
    padded = load_policy(tiny_policy, PolicySettings()).model
    for model, shared in ((policy.model, True), (padded, False)):
        one, two = (
            summed_logps(model, StepCollator(0, 1000, shared)([row])[0], torch.float32)[0] for row in (alone, pair)
        )
        assert one.tolist() == pytest.approx([0.0, two[1].item()], abs=1e-4)


def trained(tiny_policy, tmp_path, rows, **changes) -> dict:
    path, settings = tmp_path / "pairs.jsonl", settings_for(optimizer="adamw_torch", epochs=4, **changes)
    write_jsonl(path, rows)
    file = tmp_path / "reference.safetensors"
    measure_reference(file, (tiny_policy,), path, ReferenceSettings.of(settings, PolicySettings()))
    return train(tmp_path / "run/policy", tiny_policy, file, path, settings, PolicySettings(), 1)


def test_training_parts_the_liked_from_the_disliked(tiny_policy, tmp_path):
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        counts = trained(tiny_policy, tmp_path, REPLIES, learning_rate=3e-3, batch_size=5)
    assert "10 liked replies weigh 1 each, 5 disliked ones 2" in notes
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert (counts["pairs"], counts["steps"], len(rows)) == (15, 12, 12)
    # at its own reference z0 is 0 and every term is one half
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert sum(row["loss"] for row in rows[:1]) == pytest.approx(sum([1, 2, 1, 1, 2]) / 5 / 2, abs=1e-4)
    assert rows[-1]["rewards/margins"] > 0.5 > rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert rows[-1]["rewards/accuracies"] == 1.0
    assert counts["last_margin"] == rows[-1]["rewards/margins"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "10 liked replies weigh 1 each, 5 disliked ones 2"),
        ({"undesirable_weight": 1.0}, "10 liked replies weigh 0.5 each, 5 disliked ones 1"),
        ({"desirable_weight": 3.0}, "10 liked replies weigh 3 each, 5 disliked ones 6"),
        ({"desirable_weight": 1.0, "undesirable_weight": 1.0}, "10 liked replies weigh 1 each, 5 disliked ones 1"),
    ],
)
def test_weights_that_are_unset_balance_the_kinds(tiny_policy, tmp_path, changes, told):
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        trained(tiny_policy, tmp_path, REPLIES, batch_size=15, **changes)
    assert told in notes


def test_a_step_with_one_kind_alone_leaves_the_others_names_out(tiny_policy, tmp_path):
    rows = sorted(REPLIES, key=lambda row: not row.chosen)
    counts = trained(tiny_policy, tmp_path, rows, batch_size=5)
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {"rewards/chosen", "logps/chosen", "kl"} <= metrics[0].keys()
    assert not {"rewards/rejected", "logps/rejected", "rewards/margins"} & metrics[0].keys()
    assert "rewards/chosen" not in metrics[2]
    assert "last_margin" not in counts


@pytest.mark.parametrize(
    ("rows", "changes", "told"),
    [
        (REPLIES[:1], {}, r"1 liked and 0 disliked replies; loss=kto needs both kinds"),
        (REPLIES[1:2], {}, r"0 liked and 1 disliked replies; loss=kto needs both kinds"),
        ([replace(REPLIES[0], rejected=said("no")), REPLIES[1]], {}, r"1 of 2 rows are pairs; loss=kto learns from"),
        (REPLIES, {"loss": "sigmoid"}, r"5 of 15 pairs have no chosen reply; loss=sigmoid needs one, only loss=kto"),
        (REPLIES, {"loss": "sft"}, r"5 of 15 pairs have no chosen reply; loss=sft needs one"),
    ],
)
def test_rows_that_the_loss_cannot_learn_from_are_refused(tiny_policy, tmp_path, rows, changes, told):
    with pytest.raises(DataError, match=rf"pairs\.jsonl: {told}"):
        trained(tiny_policy, tmp_path, rows, **changes)


def test_only_kto_measures_mismatched_replies_and_their_batch_is_part_of_the_key(tiny_policy, tmp_path):
    def measured(**changes) -> ReferenceSettings:
        return ReferenceSettings.of(settings_for(**changes), PolicySettings())

    plain = measured(loss="sft")
    assert plain.model_dump_json() == measured(loss="sft", batch_size=8).model_dump_json()
    assert measured().model_dump()["kl_batch_size"] == 6
    write_jsonl(tmp_path / "pairs.jsonl", REPLIES)
    file = tmp_path / "reference.safetensors"
    measure_reference(file, (tiny_policy,), tmp_path / "pairs.jsonl", measured())
    policy = load_policy(tiny_policy, PolicySettings())
    tokens, _ = load_pairs(policy, tmp_path / "pairs.jsonl", 1024, 2048, 6)
    kinds = {name.split("/")[1]: len(values) for name, values in load_file(file).items()}
    assert kinds == {
        side: sum(len(getattr(row, side)) for row in tokens) for side in ("chosen", "rejected", "mismatched")
    }
    others, _ = load_pairs(policy, tmp_path / "pairs.jsonl", 1024, 2048, 4)
    with pytest.raises(DataError, match="do not match the pairs"):
        ReferenceLogps.open(file, policy, others)
