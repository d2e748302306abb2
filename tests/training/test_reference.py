"""The reference pass gives every pair its own log-probs in order, and its file is of these weights and pairs alone."""

import pytest
import torch

from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.errors import DataError
from drift.policy.model import load_policy, save_policy
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.rundir import RunDir
from drift.training.reference import ReferenceLogps, ReferenceSettings, logps_of, measure_reference
from drift.training.tokens import TokenPair, load_pairs


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_policy(tiny_policy, PolicySettings())


def test_any_grouping_gives_the_same_in_the_order_of_the_pairs(policy):
    pairs = [TokenPair(tuple(range(10, 12 + n % 5)), (20 + n, 30), (40 + n,)) for n in range(11)]
    small, large = (logps_of(policy, pairs, budget, torch.float32) for budget in (2, 1000))
    for pair, one, other in zip(pairs, small, large, strict=True):
        assert (len(one.chosen), len(one.rejected)) == (len(pair.chosen), len(pair.rejected))
        assert torch.allclose(one.chosen, other.chosen, atol=1e-5)
        assert torch.allclose(one.rejected, other.rejected, atol=1e-5)
    assert len({round(float(found.chosen.sum()), 4) for found in small}) > 5


@pytest.fixture(scope="module")
def written(tiny_policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    prompts = [(ChatMessage("user", f"question {n}"),) for n in range(4)]
    replies = [(ChatMessage("assistant", text),) for text in ("good", "no idea")]
    rows = [PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompts[n], *replies) for n in range(4)]
    write_jsonl(folder / "pairs.jsonl", rows)
    counts = measure_reference(
        folder / "reference.safetensors",
        (tiny_policy, tiny_policy),
        folder / "pairs.jsonl",
        ReferenceSettings.of(TrainingSettings(), PolicySettings()),
    )
    assert (counts["pairs"], counts["policies"]) == (4, 1)
    return folder


def test_a_file_gives_back_what_was_measured(policy, written):
    pairs, _ = load_pairs(policy, written / "pairs.jsonl", 1024, 2048)
    reference = ReferenceLogps.open(written / "reference.safetensors", policy, pairs)
    assert reference.policies == (policy.policy_id, policy.policy_id)
    told = logps_of(policy, pairs, 99, torch.float32)
    for found, expected in zip(reference.logps(policy.policy_id, pairs), told, strict=True):
        assert torch.allclose(found.chosen, expected.chosen, atol=1e-5)
        assert torch.allclose(found.rejected, expected.rejected, atol=1e-5)
    sums, history = list(reference.with_history(pairs, True))[3]
    assert sums[0] == pytest.approx(float(told[3].chosen.sum()), rel=1e-5)
    assert history == pytest.approx(sums[:2] * 2)


def test_a_file_of_anything_else_is_refused_by_name(tiny_policy, policy, written):
    path = written / "reference.safetensors"
    pairs, _ = load_pairs(policy, written / "pairs.jsonl", 1024, 2048)
    with pytest.raises(DataError, match=r"do not match the weights \(they are of .*, expected abc\)\. Delete it"):
        ReferenceLogps.open(path, policy, pairs).logps("abc", pairs)
    with pytest.raises(DataError, match="reference log-probs do not match the pairs"):
        ReferenceLogps.open(path, policy, pairs[1:])
    other = load_policy(tiny_policy, PolicySettings())
    other.tokenizer.chat_template = "{{ messages }}"
    with pytest.raises(DataError, match="reference log-probs do not match the tokenizer"):
        ReferenceLogps.open(path, other, pairs)
    (written / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.safetensors: not a file of reference log-probs"):
        ReferenceLogps.open(written / "broken.safetensors", policy, pairs)


def test_only_what_changes_the_log_probs_has_them_measured_again(tiny_policy, written, tmp_path):
    def events(policy: PolicySettings, **changes) -> list[str]:
        heard: list[str] = []
        settings = ReferenceSettings.of(TrainingSettings(**changes), policy)
        with RunDir.open(tmp_path / "run", "", 1, lambda name, event, counts: heard.append(event)) as run:
            pairs = written / "pairs.jsonl"
            run.stage("reference.safetensors", measure_reference, (tiny_policy,), pairs, settings)
        return heard

    plain = PolicySettings()
    assert events(plain) == ["running", "done"]
    same = {"loss": "ipo", "learning_rate": 1e-3, "epochs": 4, "micro_batch_tokens": 64, "gradient_checkpointing": True}
    assert events(plain, **same) == ["reused"]
    assert events(PolicySettings(lora=LoraSettings(r=4))) == ["reused"]
    assert events(plain, max_length=1024) == ["running", "done"]
    assert events(PolicySettings(dtype="bfloat16"), max_length=1024) == ["running", "done"]


def test_weights_that_overflow_are_named(tiny_policy, written, tmp_path):
    large = load_policy(tiny_policy, PolicySettings())
    with torch.no_grad():
        large.model.get_submodule("model.norm").weight.fill_(3e38)
    save_policy(large, tmp_path / "large")
    with pytest.raises(DataError, match=r"log-probs of 4 of 4 pairs are NaN or infinite in float32; check its weights"):
        measure_reference(
            tmp_path / "out.safetensors",
            (tmp_path / "large",),
            written / "pairs.jsonl",
            ReferenceSettings.of(TrainingSettings(), PolicySettings()),
        )
