"""A run keeps the number of threads that it began with."""

import torch

from drift.run import fixed_threads
from drift.rundir import RunDir, load_run


def test_a_resumed_run_takes_the_threads_it_began_with(tmp_path):
    before = torch.get_num_threads()
    for wanted, expected in ((None, before), (before + 1, before + 1), (None, before + 1)):
        with RunDir.open(tmp_path / "run", "", 0) as run, fixed_threads(run, wanted):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == before
        assert load_run(tmp_path / "run").state.threads == expected
