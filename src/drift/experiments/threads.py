"""One number of CPU threads for a run's whole life: sums add up in another order on another number of threads.

The last bit of a float32 sum differs then, training carries it into the weights, and a resumed run would end elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from drift.rundir import RunDir


@contextmanager
def fixed_threads(run: RunDir, wanted: int | None) -> Iterator[None]:
    """torch on the wanted number of threads; None: as many as the run began with, at first what the machine offers."""
    before = torch.get_num_threads()
    threads = wanted or run.threads or before
    run.pin(threads=threads)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
