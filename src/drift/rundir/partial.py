"""What a long stage has done when it is stopped: kept for the same stage with the same inputs, gone once it is through.

A stage that makes `out` may keep files in `partial_work(out)`. They are no outputs. Whatever ends the process, the next
command hands them back to that stage if its key is the same; a stage that leaves nothing there starts anew.
"""

import os
import shutil
from pathlib import Path

_SUFFIX = ".partial"


def partial_work(out: Path) -> Path:
    """The folder, made if need be, in which the stage that makes `out` may leave what it would not do twice."""
    folder = out.with_name(f".{out.name}{_SUFFIX}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def outputs_in(work: Path) -> set[str]:
    """The entries of a stage's work folder that are no partial work."""
    return {name for name in os.listdir(work) if not name.endswith(_SUFFIX)}


def forget_outputs(work: Path) -> None:
    """Half-made outputs are worth nothing; a work folder that holds nothing else goes with them."""
    for name in outputs_in(work):
        path = work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any(work.iterdir()):
        work.rmdir()
