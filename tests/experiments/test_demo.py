import pytest

from drift.experiments.demo import demo_config, run_demo, sandbox_truth
from drift.rundir import load_run


def test_the_demos_settings_name_its_base_and_its_logs(tmp_path):
    cfg = demo_config(seed=3, base=2, out=tmp_path / "d")
    assert (cfg.seed, cfg.policy.model, cfg.iterations) == (3, "embedded-2", 3)
    assert cfg.logs == (f"{tmp_path}/d/deployment/logs",)


def test_the_truth_is_asked_about_requests_of_its_own_part():
    test, validation = sandbox_truth("test", 100), sandbox_truth("validation", 100)
    assert not set(test.prompts) & set(validation.prompts)
    assert test.fingerprint() != validation.fingerprint()


@pytest.mark.slow
def test_the_demo_raises_the_true_utility(tmp_path):
    done = run_demo(seed=1, base=1, out=tmp_path / "demo")
    utility = done.summary.utility
    assert utility["iterations"][-1] - utility["warm_start"] > 0.05
    assert 0.5 < utility["base"] < 0.7
    assert done.summary.labels["precision"] > 0.8
    assert load_run(tmp_path / "demo").state.state == "done"
