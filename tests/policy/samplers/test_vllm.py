"""The vLLM backend: how the servers are started, what is asked of them, and that they are gone afterwards."""

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest

from drift.config import PolicySettings, SamplingSettings, VllmSettings, parse_config
from drift.errors import ConfigError, PrerequisiteError
from drift.policy.chat import decode
from drift.policy.model import load_policy
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.policy.samplers.vllm_server import Serving, VllmServer
from drift.policy.source import ADAPTER
from drift.progress import listening
from drift.records import ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl

STAND_IN = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).with_name('stand_in.py')))}"
PROMPTS = [
    PromptItem(f"p{n}", f"c{n}", 1, (ChatMessage("user", f"question {n}"),), "train", ChatMessage("assistant", "no"))
    for n in range(20)
]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """`stage(policy, **settings of vllm)`: the stage's rows."""
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("STAND_IN_NOTES", str(tmp_path / "notes"))

    def run(policy: Path, temperature: float = 0.7, **settings) -> list[Completion]:
        prompts, out = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl"
        write_jsonl(prompts, PROMPTS)
        vllm = VllmSettings(**settings)
        sampling = SamplingSettings(
            backend="vllm", vllm=vllm, temperature=temperature, max_new_tokens=16, max_prompt_length=256
        )
        sample(out, policy, prompts, sampling, FreshReplies(samples=2, guided_share=1.0), PolicySettings(), 1, 7)
        return list(read_jsonl(out, Completion))

    return run


def notes(tmp_path: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in (tmp_path / "notes").iterdir()]


def gone(pid: int) -> bool:
    """Ended; one that only waits to be collected has given everything back."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def test_ids_go_there_and_back_and_the_servers_end(stage, tiny_policy, tmp_path):
    policy = load_policy(tiny_policy, PolicySettings())
    rows = stage(tiny_policy, command=STAND_IN, gpus=(2, 5), arguments=("--max-num-seqs", "8"))
    assert [(row.prompt_id, row.sample) for row in rows] == [(f"p{n}", k) for n in range(20) for k in range(2)]
    for row in rows:
        assert row.token_ids is not None
        assert row.token_ids[-1] in policy.stop_ids
        assert decode(policy.tokenizer, row.token_ids) == "tant\n"[-3:]  # the prompt's own end came back
    assert {(row.policy_id, row.sampler, row.finish) for row in rows} == {(policy.policy_id, "vllm", "stop")}
    servers = notes(tmp_path)
    assert {server["gpu"] for server in servers} == {"2", "5"}
    assert all(server["asked"] > 0 for server in servers)
    assert len({seed for server in servers for seed in server["seeds"]}) == 40  # every request has one of its own
    assert all(gone(server["pid"]) for server in servers)
    told = " ".join(servers[0]["arguments"])
    assert f"--model {tiny_policy} --served-model-name policy" in told
    assert "--enable-prefix-caching --max-num-seqs 8" in told
    assert "--max-model-len 272" in told


def test_an_adapter_is_served_on_its_base(stage, tiny_policy, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = load_policy(tiny_policy, PolicySettings())
    adapter = tmp_path / "adapter"
    get_peft_model(base.model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(
        adapter
    )
    base.tokenizer.save_pretrained(adapter)
    stage(adapter, command=STAND_IN)
    told = " ".join(notes(tmp_path)[0]["arguments"])
    assert f"--model {tiny_policy} --tokenizer {adapter}" in told
    assert f"--enable-lora --max-lora-rank 8 --lora-modules policy={adapter}" in told


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ({"r": 8}, "8"),
        ({"r": 12}, "16"),
        ({"r": 24}, "32"),
        ({"r": 257}, "320"),
        ({"r": 4, "rank_pattern": {"q": 9}}, "16"),
    ],
)
def test_an_adapter_gets_the_next_rank_that_vllm_has(tmp_path, config, allowed):
    (tmp_path / ADAPTER).write_text(json.dumps({"base_model_name_or_path": "base", **config}))
    arguments = VllmServer(Serving(str(tmp_path), "float32", 512, SamplingSettings(), seed=1)).command
    assert arguments[arguments.index("--max-lora-rank") + 1] == allowed


def test_an_adapter_that_vllm_cannot_serve_is_refused_before_the_run(tmp_path):
    (tmp_path / ADAPTER).write_text(json.dumps({"base_model_name_or_path": "base", "r": 513}))
    with pytest.raises(PrerequisiteError, match="an adapter of rank 513, and vLLM serves ranks up to 512"):
        VllmServer(Serving(str(tmp_path), "float32", 512, SamplingSettings(), seed=1))
    tree = {"policy": {"lora": {"r": 513}}, "sampling": {"backend": "vllm"}}
    with pytest.raises(ConfigError, match=r"mine: policy\.lora\.r=513, and vLLM serves adapters of rank 512 or less"):
        parse_config(tree, "mine")
    tree["sampling"] = {"backend": "transformers"}
    assert parse_config(tree, "mine").policy.lora is not None


def test_a_server_that_does_not_start_is_one_line(stage, tiny_policy):
    with pytest.raises(PrerequisiteError, match="ended with status 1: ValueError: the model cannot be served") as ended:
        stage(tiny_policy, command=STAND_IN, arguments=("broken",))
    with pytest.raises(PrerequisiteError, match="pip install 'drift-training\\[vllm\\]'") as missing:
        stage(tiny_policy, command="no-such-python -m vllm")
    assert "\n" not in str(ended.value) + str(missing.value)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("DRIFT_TEST_VLLM"), reason="DRIFT_TEST_VLLM names no python that has vLLM")
@pytest.mark.parametrize("merged", [False, True])
def test_real_vllm_says_what_the_model_says(stage, tmp_path, byte_tokenizer, merged):
    """Greedy replies of a random policy with heads of 64, through both backends; also of an adapter, merged into it as
    `drift export --merge` does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from drift.policy.adapter import merge_adapter

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(
        **shape,
        vocab_size=len(byte_tokenizer),
        num_hidden_layers=2,
        max_position_embeddings=1024,
        initializer_range=0.1,
        pad_token_id=byte_tokenizer.pad_token_id,
        eos_token_id=byte_tokenizer.eos_token_id,
        bos_token_id=None,
    )
    folder = tmp_path / "policy"
    Qwen2ForCausalLM(config).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    if merged:
        base = Qwen2ForCausalLM.from_pretrained(folder)
        random = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, random).save_pretrained(tmp_path / "adapter")  # pyright: ignore[reportArgumentType]
        byte_tokenizer.save_pretrained(tmp_path / "adapter")
        folder = tmp_path / "merged"
        merge_adapter(tmp_path / "adapter", folder, "float32")
    command = f"{os.environ['DRIFT_TEST_VLLM']} -m vllm.entrypoints.openai.api_server"
    rows = stage(folder, 0.0, command=command, experimental={"seeds": False}, arguments=("--enforce-eager",))
    shutil.rmtree(tmp_path / ".completions.jsonl.partial")
    sampling = SamplingSettings(temperature=0.0, max_new_tokens=16, max_prompt_length=256)
    out = tmp_path / "ours.jsonl"
    with listening(lambda *_: None):
        fresh = FreshReplies(samples=2, guided_share=1.0)
        sample(out, folder, tmp_path / "prompts.jsonl", sampling, fresh, PolicySettings(), 1, 7)
    assert [row.token_ids for row in rows] == [row.token_ids for row in read_jsonl(out, Completion)]
