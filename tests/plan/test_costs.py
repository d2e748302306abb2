"""The constants are those of the measurements, and the costs those of a calculation by hand."""

import json
import re
from pathlib import Path

import pytest

from drift.config import load_config
from drift.pairs.stages import find_prompts
from drift.plan import CONSTANTS, cost_table
from drift.plan.costs import ModelCosts, data_cost, in_bytes
from drift.records import PromptItem, read_jsonl
from drift.run import collect
from drift.rundir import RunDir, load_run

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
DOCS = Path(__file__).parents[2] / "docs"


def measured(name: str) -> dict:
    return json.loads((RESULTS / name).read_text().splitlines()[0])


def test_measured_constants_are_those_of_the_files_that_they_name():
    ingest, traffic = measured("bench_ingest_1m.json"), measured("storage_traffic.json")["bytes_per_byte_of_logs"]
    seconds = {name: step["cpu_seconds"] / ingest["conversations"] for name, step in ingest["steps"].items()}
    train, sample = measured("train_installed.json"), measured("sample.json")
    tokens, weights = train["tokens_per_step"][0], 42_488_320  # of that shape: hidden 512, 8 layers, vocabulary 16384
    expected = {
        "log bytes": ingest["megabytes"] * 1e6 / ingest["conversations"],
        "ingestion": seconds["ingest"],
        "ingestion, redacted": seconds["ingest_redacted"],
        "near-duplicates": seconds["near_duplicates"],
        "labels": seconds["labels"],
        "pairs": seconds["pairs"],
        "CPU core: forward": tokens * weights / train["reference_pass"],
        "CPU core: training": tokens * weights / (train["ours"]["median"] - train["reference_pass"]),
        "CPU core: sampling": sample["tokens_per_cpu_second"]["drift"] * weights,
    }
    for step, ways in traffic.items():
        expected |= {f"{step.replace('_', '-')}: {way}": amount for way, amount in ways.items()}
    assert {name: CONSTANTS[name].value for name in expected} == pytest.approx(expected)
    rest = {constant.source.split(":")[0].split(",")[0] for name, constant in CONSTANTS.items() if name not in expected}
    assert rest == {"assumed", "measured", "the splits of ingestion"}  # measured: the funnel in the README


def test_the_funnel_of_real_chats_is_the_readmes():
    text = (DOCS.parent / "README.md").read_text()
    assert "581 real chats" in text
    assert "rows 1583, NEUTRAL 1320, DSAT 174, SAT 56" in text
    assert "prompts.jsonl             rows 124" in text
    assert "warm-start/pairs.jsonl         rows 8" in text


def test_the_funnel_in_the_readme_is_what_a_run_prints_today(test_data, tmp_path):
    cfg = load_config(DOCS.parent / "configs/real_logs.yaml")
    cfg = cfg.model_copy(update={"logs": (str(test_data / "logs" / "sharegpt_real.json"),)})
    with RunDir.open(tmp_path / "run", "name: real\n", cfg.seed) as run:
        store = collect(cfg, run)
        prompts = run.stage("data/prompts.jsonl", find_prompts, store=store, settings=cfg.labels, split="train")
        counts = {stage.name: stage.counts for stage in load_run(run.path).stages}
    assert sum(1 for _ in read_jsonl(prompts, PromptItem)) == 124
    text = (DOCS.parent / "README.md").read_text()
    for name, of_stage in counts.items():
        (shown,) = re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)
        assert [int(number) for number in re.findall(r"\d+", shown)] == list(of_stage.values()), shown


def test_a_million_conversations_cost_what_was_measured():
    cost = data_cost("ingestion", 1e6, redacted=True)
    assert cost.core_hours == pytest.approx(201.4833 / 3600)
    assert cost.read == pytest.approx(1e6 * 4035.1 * 2.04)
    assert cost.written == pytest.approx(1e6 * 4035.1 * 1.449)
    assert data_cost("ingestion", 1e6).core_hours == pytest.approx(111.8846 / 3600)


def test_gpu_hours_of_a_million_prompts():
    """The cost model by hand: 2 or 6 FLOP per weight and token at 395.6 TFLOP/s, 300 new tokens at 8,000 and 700/s."""
    small, large = ModelCosts(7e9), ModelCosts(70e9)
    assert small.forward(1300e6).gpu_hours == pytest.approx(2 * 7e9 * 1300e6 / 395.6e12 / 3600)  # 12.8
    assert small.training(1300e6, 0).gpu_hours == pytest.approx(6 * 7e9 * 1300e6 / 395.6e12 / 3600)  # 38.3
    assert small.sampling(0, 300e6).gpu_hours == pytest.approx(300e6 / 8000 / 3600)
    assert large.sampling(0, 300e6).gpu_hours == pytest.approx(300e6 / 700 / 3600)
    prompts = small.sampling(1200e6, 0).gpu_hours
    assert prompts == pytest.approx(2 * 7e9 * 1200e6 / 395.6e12 / 3600)


def test_adapters_and_checkpointing_change_the_work_of_training():
    plain = ModelCosts(1e9).training(1e6, 2)
    assert plain.written == 4e9 * (1 + 3 * 2)
    assert ModelCosts(1e9, lora=True).training(1e6, 2).gpu_hours == pytest.approx((plain.gpu_hours or 0) * 4 / 6)
    assert ModelCosts(1e9, checkpointing=True).training(1e6, 2).gpu_hours == pytest.approx(
        (plain.gpu_hours or 0) * 8 / 6
    )


def test_hours_of_a_model_of_unknown_size_are_unknown_and_stay_so_in_a_sum():
    unknown = ModelCosts(None).forward(1e6)
    assert unknown.gpu_hours is None
    assert unknown.plus(data_cost("labels", 10)).gpu_hours is None
    assert unknown.times(3).cpu_hours is None


def test_bytes_for_people():
    assert [in_bytes(count) for count in (12, 4_200, 5.5e6, 33e9, 4.2e12)] == [
        *("12 B", "4.2 kB", "5.5 MB", "33 GB", "4.2 TB")
    ]


def test_the_table_in_the_docs_is_the_models():
    assert cost_table() in (DOCS / "cluster.md").read_text()
