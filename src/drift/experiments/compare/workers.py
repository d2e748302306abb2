"""The processes of a comparison: one thread each, and none that outlives the command which started it."""

import multiprocessing
import os
import threading


def begin_worker() -> None:
    """Cells are at work beside each other; what each computes must not depend on how many there are."""
    end_with_parent()
    import torch

    torch.set_num_threads(1)


def end_with_parent() -> None:
    """A command that is killed cannot tell its workers to stop: each of them watches for its end."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # no clean-up: what a stage left half done is known by its run folder
