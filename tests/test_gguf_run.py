"""A run that starts from a GGUF file: one unpacked model in the run, and everything after it as for any folder."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from drift.config import Config, PolicySettings
from drift.errors import PrerequisiteError
from drift.evals.replies import policy_source
from drift.lineage import trace
from drift.policy.model import load_policy
from drift.records import PreferencePair, read_jsonl
from drift.report.export import export_run
from drift.run import run_config
from drift.rundir import load_run
from small_runs import settings, write_logs

FLOAT = PolicySettings()


def config(folder: Path, model: Path, chats: int = 40, lora: dict | None = None, **changes) -> Config:
    """Of one iteration."""
    policy = {"model": str(model), "lora": lora}
    return settings(write_logs(folder, chats), model, **{"iterations": 1, "policy": policy, **changes})


def test_a_run_from_a_gguf_file(write_gguf, tmp_path):
    file = write_gguf(tmp_path / "m.gguf", "Q8_0")
    cfg, run = config(tmp_path, file), tmp_path / "run"
    run_config(cfg, run)
    base = load_policy(run / "base/model", FLOAT)
    assert base.policy_id == load_policy(file, FLOAT).policy_id
    pairs = list(read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair))
    assert {pair.policy_id for pair in pairs} == {load_policy(run / "warm-start/policy", FLOAT).policy_id}
    assert load_policy(run / "iteration-1/policy", FLOAT).policy_id != base.policy_id
    assert trace(run, pairs[0].pair_id).policies[0] == "iteration-1/policy"
    warm = next(iter(read_jsonl(run / "warm-start/pairs.jsonl", PreferencePair)))
    assert "base/model" not in trace(run, warm.pair_id).policies

    events = []
    run_config(cfg, run, on_stage=lambda name, event, counts: events.append((name, event)))
    assert {event for _, event in events} == {"reused"}

    export_run(run, tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["model", "pairs.jsonl", "report.html"]
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export/model")
    assert not hasattr(exported.config, "quantization_config")
    assert AutoTokenizer.from_pretrained(tmp_path / "export/model").chat_template == base.tokenizer.chat_template

    write_gguf(file, "Q4_0")  # another content behind the same name
    events.clear()

    def until_the_next_stage(name: str, event: str, _: object) -> None:
        events.append((name, event))
        if event == "running" and ("base/model", "done") in events:
            raise KeyboardInterrupt  # the unpacked model is new, and so is what reads it

    with pytest.raises(KeyboardInterrupt):
        run_config(cfg, run, on_stage=until_the_next_stage)
    redone = [name for name, event in events if event == "running"]
    assert (redone[0], redone[1].partition("/")[0]) == ("base/model", "warm-start")


@pytest.mark.slow
def test_an_adapter_on_a_gguf_file_is_whole_where_it_goes(write_gguf, tmp_path):
    cfg = config(tmp_path, write_gguf(tmp_path / "m.gguf", "Q8_0"), lora={"r": 2, "alpha": 4})
    run_config(cfg, tmp_path / "run")
    adapter = json.loads((tmp_path / "run/policy/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str((tmp_path / "run/base/model").resolve())
    trained = load_policy(policy_source(str(tmp_path / "run")), FLOAT)

    export_run(tmp_path / "run", tmp_path / "export")
    shutil.move(tmp_path / "export", tmp_path / "shipped")
    shutil.move(tmp_path / "run", tmp_path / "archived")
    for folder in ("shipped/model", "archived/policy", "archived/iteration-1/policy"):
        assert load_policy(tmp_path / folder, FLOAT).policy_id == trained.policy_id
    shutil.rmtree(tmp_path / "shipped/base")
    with pytest.raises(PrerequisiteError, match=r"the adapter's base model .* is gone. Put it there again"):
        load_policy(tmp_path / "shipped/model", FLOAT)


@pytest.mark.slow
def test_an_export_names_the_base_that_it_holds(write_gguf, tmp_path):
    cfg = config(tmp_path, write_gguf(tmp_path / "m.gguf", "Q8_0"), lora={"r": 2, "alpha": 4})
    run_config(cfg, tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "export")
    shutil.rmtree(tmp_path / "run")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export/model")  # transformers follows the adapter's name
    assert loaded.num_parameters() > 0


@pytest.mark.slow
def test_a_real_model_goes_through_the_loop(smollm2, tmp_path):
    """SmolLM2-135M-Instruct: real chat template, 49,152 tokens, bfloat16; about 2 CPU minutes."""
    stage = {"learning_rate": 1e-6, "warmup_ratio": 0.0, "batch_size": 8, "max_length": 256, "max_prompt_length": 160}
    cfg = config(
        tmp_path,
        smollm2,
        chats=10,
        policy={"model": str(smollm2), "dtype": "bfloat16"},
        sampling={"max_new_tokens": 12, "max_prompt_length": 160},
        training=stage,
        warm_start={**stage, "epochs": 0},
        evaluation={"max_prompts": 2, "max_length": 256},
    )
    done = run_config(cfg, tmp_path / "run")
    assert done.counts["pairs of iteration 1"] > 0
    counts = {stage.name: stage.counts for stage in load_run(tmp_path / "run").stages}
    assert counts["base/model"]["parameters"] == 134_515_008
    assert counts["iteration-1/policy"]["first_loss"] == pytest.approx(math.log(2), abs=0.01)
    base, trained = (
        load_policy(tmp_path / "run" / name, FLOAT)  # an update is smaller than the steps of bfloat16
        for name in ("base/model", "iteration-1/policy")
    )
    assert base.policy_id != trained.policy_id
    assert trained.context_length == 8192
    assert trained.tokenizer.convert_ids_to_tokens(sorted(trained.stop_ids)) == ["<|im_end|>"]
    question: Any = trained.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    reply: Any = base.model.generate(**question, max_new_tokens=12, do_sample=False)  # pyright: ignore[reportCallIssue]
    assert "Paris" in base.tokenizer.decode(reply[0, question["input_ids"].shape[1] :])
