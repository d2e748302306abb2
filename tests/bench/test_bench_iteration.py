"""`drift bench iteration` on a tiny random model: both sides do the same work, and the figures are what they say."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("trl", reason="the rival is in the extra `dev`")

from drift.bench import iteration, iteration_parts
from drift.bench.iteration import Round, bench_iteration
from drift.bench.iteration_parts import ForwardWatch, Memory, SampledReplies, TrainedPairs, Weights
from drift.bench.sample import generate_replies
from drift.cli import app
from drift.cli.views import show_iteration
from drift.config import PolicySettings, SamplingSettings
from drift.errors import ConfigError, DataError, DriftError, PrerequisiteError
from drift.policy.model import load_policy
from drift.policy.samplers.transformers import generate
from drift.training.tokens import TokenPair


@pytest.fixture
def small_products(monkeypatch):
    monkeypatch.setattr(iteration_parts, "PRODUCT_SIZE", 64)


def in_this_process(work, task):
    return work(task)


def test_both_sides_train_on_the_same_pairs(tiny_policy, small_products):
    tasks = []

    def run(work, task):
        tasks.append(task)
        return work(task)

    found = bench_iteration(str(tiny_policy), 5, 6, 2, "float32", 0, run)
    assert (found.prompts, found.skipped_prompts, found.rounds) == (10, 0, 2)
    assert [task.side for task in tasks] == ["authors", "drift"] * 4
    first, second = tasks[:4], tasks[4:]
    assert first[0].prompts == first[1].prompts != second[0].prompts
    assert first[2].pairs == first[3].pairs
    assert [pair.prompt for pair in first[2].pairs] == first[0].prompts
    assert min(found.ratio, found.train_peak_share, found.sample_tokens_per_cpu_second) > 0
    assert list(found.parts) == ["sampling", "reference", "training", "update"]
    assert found.parts["update"].peak_share is None
    assert found.shapes["trained_tokens"]["drift"] < 0.75 * found.shapes["trained_tokens"]["authors"]
    assert found.ratio_spread[0] <= found.ratio <= found.ratio_spread[1]


def test_a_history_of_other_requests_precedes_each_one(tiny_policy, small_products):
    asked: list[list[tuple[int, ...]]] = []

    def run(work, task):
        asked.append(list(getattr(task, "prompts", [])))
        return work(task)

    for history in (0, 300):
        bench_iteration(str(tiny_policy), 3, 2, 1, "float32", 0, run, history=history)
    (first, second, third), after = asked[0], asked[4]
    assert [row[300:] for row in after] == [first, second, third]
    assert after[0][:300] == (second + third + first + second)[:300]
    assert after[1][:300] == (third + first + second + third)[:300]
    with pytest.raises(DataError, match=r"of reply after 1020 tokens of history; lower --max-new-tokens or --history"):
        bench_iteration(str(tiny_policy), 3, 8, 1, "float32", 0, run, history=1020)


def test_greedy_replies_are_the_same_on_both_sides(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings(dtype="float32"))
    prompts = [tuple(range(3, 3 + length)) for length in (9, 4, 17)]
    sampling = SamplingSettings(temperature=0.0, max_new_tokens=12)
    ours = [reply.token_ids for reply in generate(policy, prompts, ["a", "b", "c"], sampling)]
    nearly_greedy = sampling.model_copy(update={"temperature": 1e-4})
    assert generate_replies(policy, [prompts[:2], prompts[2:]], nearly_greedy, seed=0) == ours


def test_weights_that_a_token_is_multiplied_with_by_hand(tiny_policy):
    weights = Weights.of(load_policy(tiny_policy, PolicySettings(dtype="float32")))
    attention = (32 * 32 + 32) + 2 * (32 * 16 + 16) + 32 * 32
    assert weights == Weights(layers=2 * (attention + 3 * 32 * 64 + 2 * 32) + 32, head=259 * 32)
    assert Weights(10, 100).flops(tokens=7, scored=3) == 2 * (70 + 300)


def sampled(seconds, *lengths):
    return SampledReplies(seconds, [(5,) * length for length in lengths], 1.0)


def test_figures_of_a_round_by_hand():
    trained = TrainedPairs(reference=2.0, training=6.0, update=1.0, step_bytes=100, padded_tokens=50, peak_flops=1000.0)
    measured = Round(
        prompts=[(1, 2), (1,)],
        sampled={"authors": sampled(12.0, 3, 1), "drift": sampled(2.0, 1, 1)},
        pairs=[TokenPair((1, 2), (5,), (5, 5, 5)), TokenPair((1,), (5,), (5,))],
        trained={"authors": replace(trained, reference=4.0, training=12.0, step_bytes=400), "drift": trained},
    )
    found = iteration._figures([measured], Weights(layers=1, head=2), 0, {}, {}, 0)
    # both sampled 3 tokens on average: 12 s for 4 are 9 s for 3, and 2 s for 2 are 3 s for 3
    assert found.parts["sampling"].seconds == {"authors": iteration.Spread(9, 9, 9), "drift": iteration.Spread(3, 3, 3)}
    assert found.ratio == pytest.approx((9 + 4 + 12 + 1) / (3 + 2 + 6 + 1), abs=1e-4)
    assert found.sample_tokens_per_cpu_second == 1.0
    assert found.memory_ratio == 0.25
    forward = 2 * (1 * (3 + 6) + 2 * 6)
    assert found.train_peak_share == pytest.approx(3 * forward / 6 / 1000, abs=1e-4)
    assert found.parts["reference"].peak_share["authors"].median == pytest.approx(forward / 4 / 1000, abs=1e-4)
    assert found.parts["sampling"].peak_share["drift"].median == pytest.approx(2 * (6 + 2 * 3) / 3 / 1000, abs=1e-4)


def test_the_reference_is_timed_by_itself():
    class Ticks:
        time = 0.0

        def now(self):
            self.time += 1.0
            return self.time

    layer = torch.nn.Linear(2, 2)
    watch = ForwardWatch(layer, Ticks())
    layer(torch.ones(1, 2))
    layer(torch.ones(1, 2))
    assert watch.seconds == 2.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the process's memory")
def test_memory_is_the_growth_of_the_peak():
    memory = Memory(torch.device("cpu"))
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    del block
    assert 60 * 2**20 < memory.growth() < 80 * 2**20
    assert Memory(torch.device("cpu")).growth() < 20 * 2**20  # an earlier peak is forgotten


def test_without_trl_the_way_to_it_is_named(tiny_policy, monkeypatch):
    monkeypatch.setattr(iteration.util, "find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r"needs TRL: pip install -c constraints.txt -e '.\[dev\]'"):
        bench_iteration(str(tiny_policy), 1, 1, 1, None, 0)


def test_no_such_model_is_one_line():
    result = CliRunner().invoke(app, ["bench", "iteration", "--model", "/nowhere/model"])
    assert isinstance(result.exception, PrerequisiteError)
    assert "/nowhere/model: the model cannot be loaded" in str(result.exception)


def test_requests_that_do_not_fit(tiny_policy):
    with pytest.raises(DataError, match=r"none of 2 requests fits into the model's 1024 positions with 1000 tokens"):
        bench_iteration(str(tiny_policy), 2, 1000, 1, "float32", 0, in_this_process)


def test_every_round_needs_a_request_that_fits(tiny_policy):
    """Two of five requests fit: the last rounds would have none."""
    with pytest.raises(DataError, match=r"^2 of 5 requests fit into .*, fewer than the 5 rounds; lower --max-new-tok"):
        bench_iteration(str(tiny_policy), 1, 950, 5, "float32", 0, in_this_process)


def test_an_adapter_is_refused(tiny_policy, tmp_path):
    from peft import LoraConfig, get_peft_model

    policy = load_policy(tiny_policy, PolicySettings(dtype="float32"))
    get_peft_model(policy.model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"an adapter, and the bench needs a whole model\..*drift export RUN --merge --to DIR"
    ):
        bench_iteration(str(tmp_path), 1, 2, 1, "float32", 0, in_this_process)


def end_the_process(task):
    import os

    os._exit(9)


@pytest.mark.slow
def test_a_killed_process_is_one_line():
    with pytest.raises(DriftError, match=r"the process of end_the_process \(drift\) was killed"):
        iteration.in_own_process(end_the_process, sampled_task())


def pages_of(task):
    import os

    return os.environ["THP_MEM_ALLOC_ENABLE"]


@pytest.mark.slow
def test_only_our_side_gets_the_large_pages_that_drift_asks_for(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    before = os.environ["THP_MEM_ALLOC_ENABLE"]
    assert iteration.in_own_process(pages_of, sampled_task()) == before
    assert iteration.in_own_process(pages_of, replace(sampled_task(), side="authors")) == "0"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == before


def sampled_task():
    return iteration_parts.SamplingTask("drift", "none", "float32", [], SamplingSettings(), 0)


def test_the_table_says_the_parts(capsys):
    trained = TrainedPairs(2.0, 6.0, 1.0, step_bytes=2**20, padded_tokens=50, peak_flops=1000.0)
    parts = {"authors": sampled(12.0, 2), "drift": sampled(4.0, 2)}
    measured = Round([(1, 2)], parts, [TokenPair((1, 2), (5,), (5, 5))], dict.fromkeys(parts, trained))
    slower = replace(measured, sampled={"authors": sampled(16.0, 2), "drift": sampled(4.0, 2)})
    show_iteration(iteration._figures([measured, slower], Weights(1, 2), 0, {}, {}, 0), as_json=True)
    printed = capsys.readouterr()
    sampling = next(line for line in printed.err.splitlines() if line.startswith(" sampling"))
    assert "14 [12, 16]" in sampling
    assert "3.5 [3, 4]" in sampling
    assert json.loads(printed.out)["parts"]["sampling"]["ratio"] == {"median": 3.5, "low": 3.0, "high": 4.0}


@pytest.mark.slow
def test_the_command_on_a_gguf_file(write_gguf, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf")
    arguments = ["--prompts", "4", "--max-new-tokens", "6", "--dtype", "float32", "--json"]
    result = CliRunner().invoke(app, ["bench", "iteration", "--model", str(file), *arguments])
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout.splitlines()[-1])
    assert {"ratio", "train_peak_share", "sample_tokens_per_cpu_second", "memory_ratio"} < set(found)
    assert found["conditions"]["dtype"] == "float32"


INTERRUPTED = """
import sys
from types import SimpleNamespace
from drift.bench.iteration import in_own_process

if __name__ == "__main__":
    import shutil  # a function that the process can import while it still loads torch
    print("began", flush=True)
    try:
        in_own_process(shutil.which, SimpleNamespace(side="drift"))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
"""


@pytest.mark.slow  # two processes load torch
def test_an_interrupted_benchmark_prints_no_traceback_of_its_process(tmp_path):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = subprocess.Popen(
        [sys.executable, tmp_path / "interrupted.py"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment,
    )  # fmt: skip
    assert command.stdout is not None
    assert command.stdout.readline() == "began\n"
    time.sleep(1)  # its process starts, and loads torch for seconds
    os.killpg(command.pid, signal.SIGINT)
    _, told = command.communicate(timeout=60)
    assert told == "interrupted\n"
