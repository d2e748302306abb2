"""The feedback reward of a policy that is trained as an adapter is one too: kept, loaded and measured as such."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from drift.config import FeedbackRewardSettings, LabelSettings, LoraSettings, PolicySettings, WarmStartSettings
from drift.errors import PrerequisiteError
from drift.policy.adapter import with_adapter
from drift.policy.model import identified, load_policy, save_policy
from drift.records import ChatMessage, Conversation, FeedbackLabel, Message, ReplyToScore
from drift.scoring.classifier import check_architecture, classifier_of, head_in, load_adapted
from drift.scoring.feedback_reward import JudgedTurnSettings, fit_feedback_reward, judged_turns, quality_of
from drift.scoring.reward_model import RewardModelScorer, check_reward_model
from drift.store import Store

LORA = PolicySettings(lora=LoraSettings(r=4, alpha=8))
IDS = torch.tensor([[5, 60, 7, 80, 9, 100]])
REPLIES = [ReplyToScore((ChatMessage("user", f"question {n}"),), word) for n in range(3) for word in ("yes", "nah")]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Users like `yes` and dislike `nah`, whatever their length."""
    store, labels = Store(tmp_path_factory.mktemp("store")), []
    for n in range(120):
        for liked in (True, False):
            reply = Message("assistant", " ".join(["yes" if liked else "nah"] * (1 + n % 3)))
            messages = (Message("user", f"question {n}"), reply, Message("user", "hm"))
            store.add([Conversation(f"c{n}{liked}", "test", None, messages, "train")])
            labels.append(FeedbackLabel(f"c{n}{liked}", 1, 2, "SAT" if liked else "DSAT", "embedded", "1"))
    store.add_labels(labels)
    return store


WHICH = JudgedTurnSettings.of(LabelSettings(), WarmStartSettings())


def all_better(scorer: RewardModelScorer) -> bool:
    """Each liked reply has a higher score than the disliked one to the same request."""
    scores = scorer.score_all(REPLIES)
    assert None not in scores
    return all((good or 0.0) > (bad or 0.0) for good, bad in zip(scores[::2], scores[1::2], strict=True))


def fit(out: Path, store: Store, start: Path, policy: PolicySettings = LORA, epochs: int = 4) -> dict:
    settings = FeedbackRewardSettings(epochs=epochs, learning_rate=1e-2)
    return dict(fit_feedback_reward(out, store, start, settings, policy, 500, 1, WHICH))


@pytest.fixture(scope="module")
def adapter(tiny_policy, tmp_path_factory) -> Path:
    """A policy that was trained as an adapter: its weights are no longer those of a new one."""
    folder = tmp_path_factory.mktemp("adapter")
    policy = load_policy(tiny_policy, PolicySettings())
    model: Any = with_adapter(policy, LORA, 1)
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    save_policy(identified(model, policy.chat), folder)
    return folder


@pytest.fixture(scope="module")
def fitted(adapter, store, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("fitted") / "reward"
    return out, fit(out, store, adapter)


def test_the_adapter_and_the_head_are_trained_and_kept_and_nothing_else(fitted, adapter):
    out, counts = fitted
    assert counts["auroc"] > 0.9
    settings = json.loads((out / "adapter_config.json").read_text())
    before = json.loads((adapter / "adapter_config.json").read_text())
    assert settings["task_type"] == "SEQ_CLS"
    assert [settings[name] for name in ("r", "lora_alpha", "base_model_name_or_path")] == [
        before[name] for name in ("r", "lora_alpha", "base_model_name_or_path")
    ]
    assert set(settings["target_modules"]) == set(before["target_modules"])
    kept, start = load_file(out / "adapter_model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    assert kept.keys() - start.keys() == {"base_model.model.score.weight"}
    assert counts["trained_weights"] == sum(weight.numel() for weight in kept.values())
    assert not any(torch.equal(kept[name], weight) for name, weight in start.items())
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize(("named", "rate"), [(None, 1.5e-4), (1e-3, 1e-3)])
def test_an_adapter_has_five_times_the_rate(adapter, store, tmp_path, monkeypatch, named, rate):
    rates: list[float] = []
    begin = torch.optim.AdamW.__init__

    def note(self, weights, lr, **more):
        rates.append(lr)
        begin(self, weights, lr=1e-2, **more)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", note)
    settings = FeedbackRewardSettings(epochs=4, learning_rate=named)
    fit_feedback_reward(tmp_path / "reward", store, adapter, settings, LORA, 500, 1, WHICH)
    assert rates == [pytest.approx(rate)]


def test_it_begins_as_the_policy(adapter):
    policy: Any = load_policy(adapter, LORA)
    with torch.inference_mode():
        wanted = policy.model.get_base_model().model(IDS).last_hidden_state
        classifier: Any = classifier_of(policy, LORA, 1)
        found = classifier.get_base_model().model(IDS).last_hidden_state
    assert torch.equal(wanted, found)
    trained = {name for name, weight in classifier.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or name.endswith("score.modules_to_save.default.weight") for name in trained)


def test_a_head_of_several_parts_is_made_whole_or_refused(tiny_policy):
    chat = load_policy(tiny_policy, PolicySettings()).chat
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = transformers.ModernBertDecoderConfig(vocab_size=259, **tokens, **sizes)
    for settings in (PolicySettings(), LORA):
        policy = identified(transformers.AutoModelForCausalLM.from_config(config), chat)
        if settings is LORA:
            with pytest.raises(PrerequisiteError, match="as an adapter, because its head has several parts"):
                classifier_of(policy, settings, 1)
        else:
            whole: Any = classifier_of(policy, settings, 1)
            assert not any(weight.is_meta for weight in whole.parameters())
            assert 0 < whole.classifier.weight.std() < 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_scores_as_it_was_measured(adapter, store, tmp_path, dtype):
    policy = LORA.model_copy(update={"dtype": dtype})
    counts = fit(tmp_path / "reward", store, adapter, policy, epochs=3)
    scorer = RewardModelScorer(str(tmp_path / "reward"), dtype, 500, form=policy)
    assert all_better(scorer)
    held = [turn for turn in judged_turns(store, WHICH, Counter()) if turn.held_out]
    scores = scorer.score_all([ReplyToScore(turn.prompt, turn.reply.content, reply=turn.reply) for turn in held])
    quality = quality_of(held, np.array(scores, dtype=np.float64))
    assert quality.auroc == pytest.approx(counts["auroc"], abs=1e-3)
    assert quality.calibration_error == pytest.approx(counts["calibration_error"], abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_one_gives_the_same_scores(adapter, tmp_path, dtype):
    policy = LORA.model_copy(update={"dtype": dtype})
    model: Any = classifier_of(load_policy(adapter, policy), policy, 1)
    head_in(model, getattr(torch, dtype))
    model.save_pretrained(str(tmp_path))
    loaded: Any = load_adapted(tmp_path, dtype, False, None)
    with torch.inference_mode():
        before, after = (
            each.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits for each in (model, loaded)
        )
    assert torch.equal(before, after)
    layers = {weight.dtype for name, weight in loaded.named_parameters() if "lora_" not in name}
    assert layers == {getattr(torch, dtype)}


def test_the_same_seed_gives_the_same_adapter(adapter, store, fitted, tmp_path):
    fit(tmp_path / "again", store, adapter)
    name = "adapter_model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (fitted[0] / name).read_bytes()


def test_a_whole_model_gets_a_new_adapter_where_the_policy_has_one(tiny_policy, store, tmp_path):
    counts = fit(tmp_path / "reward", store, tiny_policy, epochs=4)
    settings = json.loads((tmp_path / "reward/adapter_config.json").read_text())
    assert (settings["r"], settings["task_type"]) == (4, "SEQ_CLS")
    assert settings["base_model_name_or_path"] == str(tiny_policy)
    whole = fit(tmp_path / "whole", store, tiny_policy, PolicySettings(), epochs=2)
    assert whole["trained_weights"] > 3 * counts["trained_weights"]
    assert not (tmp_path / "whole/adapter_config.json").exists()


def test_an_adapter_on_a_gguf_file_is_read_as_it_was_trained(store, tmp_path, write_gguf):
    file = write_gguf(tmp_path / "base.gguf")
    fit(tmp_path / "reward", store, file, epochs=4)
    assert all_better(RewardModelScorer(str(tmp_path / "reward"), "float32", 500))


def test_an_adapter_that_is_no_reward_is_refused(adapter, fitted, tmp_path):
    with pytest.raises(PrerequisiteError, match=r"has 0 outputs and a chat template; a reward model needs one output"):
        check_reward_model(str(adapter))
    two = shutil.copytree(fitted[0], tmp_path / "two")
    weights = load_file(two / "adapter_model.safetensors")
    weights["base_model.model.score.weight"] = torch.zeros(2, 32)
    save_file(weights, two / "adapter_model.safetensors")
    with pytest.raises(PrerequisiteError, match=r"two: has 2 outputs"):
        RewardModelScorer(str(two), "float32", 500)
    for damage in (lambda file: file.write_bytes(b"cut"), Path.unlink):
        damage(two / "adapter_model.safetensors")
        with pytest.raises(PrerequisiteError, match=r"two: cannot be loaded as a reward model"):
            check_reward_model(str(two))


def test_an_architecture_is_checked_by_its_layers(tmp_path, byte_tokenizer):
    """A classifier of transformers reads the layers of the policy, or the run ends before any work."""
    text = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
            "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 2}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    check_architecture(str(tmp_path))
    classifier = classifier_of(load_policy(tmp_path, LORA), LORA, 1)
    adapted = {name for name, weight in classifier.named_parameters() if "lora_" in name}
    assert adapted
    assert all(".language_model." in name for name in adapted)
