"""The training stage: files in, a policy folder and metrics out."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.errors import DataError, DriftError
from drift.policy.model import load_policy
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.tokens import nothing_left
from drift.training.train import train

SETTINGS = TrainingSettings(learning_rate=3e-3, optimizer="adamw_torch", batch_size=4, epochs=2)
TRL_KEYS = {"loss", "grad_norm", "learning_rate", "step", "epoch", "logps/chosen", "logps/rejected"} | {
    f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")
}


def pair(n: int, chosen: str = "good answer") -> PreferencePair:
    prompt = (ChatMessage("user", f"question {n}"),)
    replies = [(ChatMessage("assistant", text),) for text in (chosen, "no idea")]
    return PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompt, replies[0], replies[1])


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [pair(n) for n in range(10)])
    return path


def train_on(out, start, reference, pairs, settings, policy, seed):
    """The reference's log-probs, then the training, as the loop has them."""
    path = out.parent / "reference.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    measure_reference(path, (reference,), pairs, ReferenceSettings.of(settings, policy))
    return train(out, start, path, pairs, settings, policy, seed)


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_widens_the_margin_and_writes_everything(tiny_policy, pairs, tmp_path, capfd):
    steps: list[tuple[int, int]] = []
    out = tmp_path / "run" / "policy"
    with listening(lambda done, total, _: steps.append((done, total))):
        counts = train_on(out, tiny_policy, str(tiny_policy), pairs, SETTINGS, PolicySettings(), 1)
    rows = metrics(out.parent)
    assert (counts["pairs"], counts["steps"], len(rows)) == (10, 6, 6)
    assert set(rows[0]) == TRL_KEYS
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["rewards/margins"] > 0.5 > rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert counts["last_loss"] == rows[-1]["loss"] < counts["first_loss"]
    assert steps == [(10, 10)] + [(n, 6) for n in range(1, 7)]
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float32
    assert load_policy(out, PolicySettings()).policy_id != load_policy(tiny_policy, PolicySettings()).policy_id
    assert capfd.readouterr() == ("", "")


def test_the_same_seed_gives_the_same_policy(tiny_policy, pairs, tmp_path):
    def trained(name: str, seed: int) -> str:
        train_on(tmp_path / name / "policy", tiny_policy, tiny_policy, pairs, SETTINGS, PolicySettings(), seed)
        return load_policy(tmp_path / name / "policy", PolicySettings()).policy_id

    assert trained("a", 1) == trained("b", 1) != trained("c", 2)


def test_another_reference_than_the_start(tiny_policy, pairs, tmp_path):
    first = tmp_path / "1" / "policy"
    second = tmp_path / "2" / "policy"
    train_on(first, tiny_policy, tiny_policy, pairs, SETTINGS, PolicySettings(), 1)
    of_the_warm_start = SETTINGS.model_copy(update={"reference": "warm_start"})
    train_on(second, first, tiny_policy, pairs, of_the_warm_start, PolicySettings(), 1)
    assert metrics(second.parent)[0]["rewards/margins"] > 0.5  # counted from the old reference
    train_on(second, first, first, pairs, SETTINGS, PolicySettings(), 1)
    assert metrics(second.parent)[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)


def test_log_probs_of_other_weights_are_refused(tiny_policy, pairs, tmp_path):
    first, out, file = tmp_path / "1" / "policy", tmp_path / "2" / "policy", tmp_path / "2" / "reference.safetensors"
    train_on(first, tiny_policy, tiny_policy, pairs, SETTINGS, PolicySettings(), 1)
    ids = [load_policy(source, PolicySettings()).policy_id for source in (tiny_policy, first)]
    differ = rf"2/reference\.safetensors: .* match the weights .*of {ids[0]}, expected {ids[1]}\)\. If policy"
    with pytest.raises(DataError, match=differ):
        train_on(out, first, tiny_policy, pairs, SETTINGS, PolicySettings(), 1)
    with pytest.raises(DataError, match=differ):  # with the tokens of the first attempt still in the work folder
        train(out, first, file, pairs, SETTINGS, PolicySettings(), 1)
    assert not out.exists()

    # with the diagnostics, what is measured as the iteration's start is the start too, whatever the reference is
    settings = SETTINGS.model_copy(update={"reference": "warm_start", "diagnostics": True})
    for start_in_file, passes in ((first, True), (tiny_policy, False)):
        policies = (tiny_policy, start_in_file, tiny_policy)
        measure_reference(file, policies, pairs, ReferenceSettings.of(settings, PolicySettings()))
        with nullcontext() if passes else pytest.raises(DataError, match="do not match the weights"):
            train(out, first, file, pairs, settings, PolicySettings(), 1)


def test_a_reference_file_with_a_number_off_is_not_at_ln_2(tiny_policy, pairs, tmp_path):
    out, file = tmp_path / "run" / "policy", tmp_path / "run" / "reference.safetensors"
    train_on(out, tiny_policy, tiny_policy, pairs, SETTINGS, PolicySettings(), 1)
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    (name,) = (name for name in tensors if name.endswith("/chosen"))
    tensors[name][0] += 0.01
    save_file(tensors, file, metadata)
    with pytest.raises(DriftError, match=r"training step 0: a pair's sigmoid term is off ln 2 by 0\.0005"):
        train(out, tiny_policy, file, pairs, SETTINGS.model_copy(update={"batch_size": 10}), PolicySettings(), 1)


def test_an_adapter_is_trained_saved_and_trained_on(tiny_policy, pairs, tmp_path):
    settings = PolicySettings(lora=LoraSettings(r=4, alpha=8))
    first = tmp_path / "1" / "policy"
    second = tmp_path / "2" / "policy"
    train_on(first, tiny_policy, tiny_policy, pairs, SETTINGS, settings, 1)
    assert not (first / "model.safetensors").exists()
    train_on(second, first, first, pairs, SETTINGS, settings, 1)
    assert metrics(first.parent)[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert metrics(second.parent)[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert metrics(second.parent)[0]["logps/chosen"] > metrics(first.parent)[0]["logps/chosen"]
    before, after = (load_policy(folder, settings).model.state_dict() for folder in (first, second))
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    ids = torch.tensor([[5, 6, 7]])
    plain = AutoModelForCausalLM.from_pretrained(second)
    assert torch.allclose(plain(ids).logits, load_policy(second, settings).model(ids).logits, atol=1e-5)


def test_small_updates_survive_in_bfloat16(tiny_policy, pairs, tmp_path):
    out = tmp_path / "run" / "policy"
    small = SETTINGS.model_copy(update={"learning_rate": 5e-7, "optimizer": "rmsprop"})
    train_on(out, tiny_policy, tiny_policy, pairs, small, PolicySettings(dtype="bfloat16"), 1)
    before, after = (load_policy(folder, PolicySettings()).model.state_dict() for folder in (tiny_policy, out))
    moved = [float((before[name] != after[name]).float().mean()) for name in after if "embed" not in name]
    assert min(moved) > 0.5


def test_tensorboard_is_told_every_metric(tiny_policy, pairs, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'drift-training[trackers]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run" / "policy"
    settings = SETTINGS.model_copy(update={"report_to": ("tensorboard",), "epochs": 1})
    train_on(out, tiny_policy, tiny_policy, pairs, settings, PolicySettings(), 1)
    events = EventAccumulator(str(out.parent / "tensorboard"))
    events.Reload()
    told = {
        tag.removeprefix("train/"): [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    for name in ("loss", "grad_norm", "rewards/margins", "logps/rejected"):
        assert told[name] == pytest.approx([row[name] for row in metrics(out.parent)], rel=1e-5, abs=1e-6)


def test_mlflow_is_told_every_metric(tiny_policy, pairs, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'drift-training[trackers]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    out = tmp_path / "run" / "policy"
    settings = SETTINGS.model_copy(update={"report_to": ("mlflow",), "epochs": 1})
    train_on(out, tiny_policy, tiny_policy, pairs, settings, PolicySettings(), 1)
    client = mlflow.MlflowClient(f"file:{tmp_path / 'mlruns'}")
    (run,) = client.search_runs(["0"])
    for name in ("loss", "grad_norm", "rewards/margins", "logps/rejected"):
        told = [metric.value for metric in client.get_metric_history(run.info.run_id, name)]
        assert told == pytest.approx([row[name] for row in metrics(out.parent)], rel=1e-5, abs=1e-6)


def test_no_pairs_left_says_why(tiny_policy, tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [pair(0, ""), pair(1, "")])
    with pytest.raises(DataError, match=r"none of 2 pairs can be trained on \(dropped.empty_chosen 2\)\. Change"):
        train_on(tmp_path / "policy", tiny_policy, tiny_policy, path, SETTINGS, PolicySettings(), 1)
    counts = {"dropped.template_hides": 2, "shortened_prompts": 1}
    assert str(nothing_left(path, counts)).endswith("Use a chat template that shows every message and tool call.")
    write_jsonl(path, [])
    with pytest.raises(DataError, match="the file is empty: not one pair was made"):
        train_on(tmp_path / "policy", tiny_policy, tiny_policy, path, SETTINGS, PolicySettings(), 1)


def test_the_anchored_loss_moves_towards_its_margin_and_no_further(tiny_policy, pairs, tmp_path):
    settings = SETTINGS.model_copy(update={"loss": "anchored", "margin": 2.0, "epochs": 12, "rpo_alpha": 0.0})
    out = tmp_path / "run" / "policy"
    train_on(out, tiny_policy, tiny_policy, pairs, settings, PolicySettings(), 1)
    last = metrics(out.parent)[-1]
    ratios = (last["rewards/chosen"] / settings.beta, last["rewards/rejected"] / settings.beta)
    assert ratios == pytest.approx((2.0, -2.0), abs=1.0)


def test_the_robust_loss_refuses_a_pair_that_says_nothing(tiny_policy, tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [replace(pair(0), noise=0.5)])
    settings = SETTINGS.model_copy(update={"loss": "robust"})
    with pytest.raises(
        DataError, match=r"pairs\.jsonl: a pair has noise 0\.5; training\.loss=robust allows 0 <= noise < 0\.5"
    ):
        train_on(tmp_path / "policy", tiny_policy, tiny_policy, path, settings, PolicySettings(), 1)
