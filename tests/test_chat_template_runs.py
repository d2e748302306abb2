"""Whole runs with other chat templates: nothing that a template refuses ends a run, and its clock stands still."""

import json
import os
import sys
from pathlib import Path

import pytest

from drift.config import Config, parse_config
from drift.policy.chat import ChatFormat, encode_prompt
from drift.records import ChatMessage, Completion, PreferencePair, read_jsonl
from drift.run import run_config
from drift.rundir import load_run
from stopping import run_until

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CASES = ("plain", "system", "assistant_first", "double_user", "midsystem", "think", "tools", "toolreply")
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLOCK = (
    "<|im_start|>system\nToday is {{ strftime_now('%d %b %Y') }}.<|im_end|>\n"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def policy(folder: Path, tokenizer) -> Path:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, initializer_range=0.2,
        pad_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_template(byte_tokenizer, template):
    import copy

    changed = copy.deepcopy(byte_tokenizer)
    changed.chat_template = template
    changed.bos_token = "<|pad|>"
    return changed


def settings(logs: Path, model: Path, **policy) -> Config:
    stage = {
        "learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 8, "max_prompt_length": 3000,
        "max_length": 3500,
    }  # fmt: skip
    return parse_config(
        {
            "name": "test",
            "logs": [str(logs)],
            "iterations": 1,
            "policy": {"model": str(model), **policy},
            "sampling": {"max_new_tokens": 8, "max_prompt_length": 3000},
            "training": stage,
            "warm_start": {**stage, "epochs": 1},
            "evaluation": {"max_prompts": 4},
        },
        "test",
    )


def chats(count: int, *before: list[dict]) -> list[dict]:
    """Chats whose reply to the last request was disliked; a fifth of them begin with each of these messages."""
    return [
        {
            "id": f"chat-{n}",
            "messages": [
                *(before[n % 5] if n % 5 < len(before) else []),
                {"role": "user", "content": f"Please add {n} and 2."},
                {"role": "assistant", "content": f"{n}2", "feedback": -1},
                {"role": "user", "content": f"No, I meant {n} + 2."},
            ],
        }
        for n in range(count)
    ]


def counts_of(run: Path) -> dict[str, dict]:
    return {stage.name: dict(stage.counts) for stage in load_run(run).stages}


def test_a_few_chats_that_the_template_refuses_do_not_end_the_run(tmp_path, byte_tokenizer):
    refused = {
        "adapted.system_folded": [{"role": "system", "content": "Be exact."}],
        "adapted.greeting_folded": [{"role": "assistant", "content": "Hello!"}],
        "adapted.merged": [{"role": "user", "content": "hi"}],
    }
    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in chats(30, *refused.values())), encoding="utf-8")
    cfg = settings(logs, policy(tmp_path / "policy", with_template(byte_tokenizer, GEMMA)))
    run_until(cfg, tmp_path / "run", "policy")
    counts = counts_of(tmp_path / "run")
    prompts = counts["data/prompts.jsonl"]["rows"]
    assert counts["iteration-1/completions.jsonl"]["completions"] == prompts
    for name in refused:
        assert 0 < counts["iteration-1/completions.jsonl"][name] < prompts, name
    assert (tmp_path / "run/policy/model.safetensors").exists()


def test_a_resumed_run_shows_the_day_on_which_it_began(tmp_path, byte_tokenizer, monkeypatch):
    """Stopped after sampling, resumed the next day: prompts, replies and weights as in a run of one day."""
    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in chats(24)), encoding="utf-8")
    cfg = settings(logs, policy(tmp_path / "policy", with_template(byte_tokenizer, CLOCK)))
    monkeypatch.setattr("drift.run.today", lambda: "2026-11-28")
    run_until(cfg, tmp_path / "whole", "policy")
    run_until(cfg, tmp_path / "resumed", "iteration-1/pairs.jsonl")
    monkeypatch.setattr("drift.run.today", lambda: "2026-11-29")
    events = run_until(cfg, tmp_path / "resumed", "policy")
    assert ("iteration-1/completions.jsonl", "reused") in events
    assert load_run(tmp_path / "resumed").state.date == "2026-11-28"
    for file in ("iteration-1/completions.jsonl", "iteration-1/policy/model.safetensors", "policy/model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "resumed" / file).read_bytes(), file

    run_until(cfg, tmp_path / "another-day", "iteration-1/policy")  # the date does make a difference
    names = ("whole", "another-day")
    first, other = ((tmp_path / name / "iteration-1/policy/model.safetensors").read_bytes() for name in names)
    assert first != other


def test_the_pinned_date_is_what_the_template_shows(byte_tokenizer):
    chat = ChatFormat(with_template(byte_tokenizer, CLOCK), date="2026-11-28")
    prompt = encode_prompt(chat, (ChatMessage("user", "hi"),), 1000)
    assert "Today is 28 Nov 2026." in chat.tokenizer.decode(list(prompt.ids))


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d %b %Y", "%B %d, %Y", "%A %-d %B %y", "%H:%M", "day %j of %Y"])
def test_every_form_of_the_date_is_pinned(byte_tokenizer, form):
    from datetime import datetime

    template = CLOCK.replace("%d %b %Y", form)
    chat = ChatFormat(with_template(byte_tokenizer, template), date="2026-02-03")
    prompt = encode_prompt(chat, (ChatMessage("user", "hi"),), 1000)
    assert f"Today is {datetime(2026, 2, 3).strftime(form)}." in chat.tokenizer.decode(list(prompt.ids))


def test_an_evaluation_of_a_run_uses_its_template_as_the_run_did(tmp_path, byte_tokenizer, monkeypatch):
    from drift.evals.replies import policy_settings

    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in chats(24)), encoding="utf-8")
    model = policy(tmp_path / "policy", with_template(byte_tokenizer, CLOCK))
    monkeypatch.setattr("drift.run.today", lambda: "2026-11-28")
    cfg = settings(logs, model, template_arguments={"a": 1}, thinking="strip")
    run_until(cfg, tmp_path / "run", "data/prompts.jsonl")
    used = policy_settings(str(tmp_path / "run"), "bfloat16")
    assert (used.dtype, used.date, used.thinking, used.template_arguments) == (
        "bfloat16", "2026-11-28", "strip", {"a": 1},
    )  # fmt: skip
    assert policy_settings(str(model), "float32").date is None


def test_the_users_date_wins(tmp_path, byte_tokenizer, monkeypatch):
    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(json.dumps(row) + "\n" for row in chats(24)), encoding="utf-8")
    model = policy(tmp_path / "policy", with_template(byte_tokenizer, CLOCK))
    monkeypatch.setattr("drift.run.today", lambda: "2026-11-28")
    run_until(settings(logs, model, date="2020-01-01"), tmp_path / "run", "data/prompts.jsonl")
    assert load_run(tmp_path / "run").state.date == "2020-01-01"


@pytest.fixture(scope="module")
def trl_policies(tmp_path_factory):
    pytest.importorskip("trl", reason="the templates are TRL's: pip install -e '.[dev]'")
    sys.path.insert(0, str(BENCHMARKS))
    import templates  # pyright: ignore[reportMissingImports]

    sources = templates.templates()
    folder = tmp_path_factory.mktemp("policies")
    yield {
        name: policy(folder / name, templates.tokenizer_for(sources[name]))
        for name in ("gemma", "qwen3", "gptoss", "deepseek_r1_distill")
    }
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
@pytest.mark.skipif("DRIFT_TEST_DATA" not in os.environ, reason="set DRIFT_TEST_DATA to the folder of the cases")
@pytest.mark.parametrize("template", ["gemma", "qwen3", "gptoss", "deepseek_r1_distill"])
@pytest.mark.parametrize("case", CASES)
def test_a_run_over_each_case_ends(tmp_path, trl_policies, test_data, template, case):
    from drift.errors import DataError

    cfg = settings(test_data / "cases" / f"train_{case}.jsonl", trl_policies[template])
    if case == "toolreply" and template in ("gemma", "deepseek_r1_distill"):
        with pytest.raises(
            DataError, match=r"dropped: .*57 template_(refuses|hides)"
        ):  # every chat has a tool's answer
            run_config(cfg, tmp_path / "run")
        return
    run_config(cfg, tmp_path / "run")
    run = tmp_path / "run"
    completions = list(read_jsonl(run / "iteration-1/completions.jsonl", Completion))
    counts = counts_of(run)
    made = counts["iteration-1/completions.jsonl"]
    dropped = sum(count for name, count in made.items() if name.startswith("dropped."))
    assert len(completions) + dropped == counts["data/prompts.jsonl"]["rows"]
    for pair in read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair):
        assert "<think>" not in pair.chosen[0].content + pair.rejected[0].content
    assert (run / "policy/model.safetensors").exists()
