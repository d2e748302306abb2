"""What every node of a cluster is asked before work begins: does it see the same files, and has it the same code?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift.disk import atomic_write
from drift.rundir.fingerprints import code_version

_REMEDY = "Every node must see the store and the run folder under the same path, for example on NFS or Lustre."


@dataclass(frozen=True, slots=True)
class Sight:
    """What one node sees. `files`: names in the folder; None if it has no such folder or cannot write there (`why`)."""

    node: str
    code: str
    files: frozenset[str] | None
    why: str = ""


_SHOWN_NODES = 8


def nodes_in_words(nodes: Sequence[Mapping[str, Any]]) -> str:
    """How many nodes, and what the first of them have. `nodes`: as ray tells them."""
    shown = [f"{node['NodeManagerHostname']} ({_resources(node['Resources'])})" for node in nodes[:_SHOWN_NODES]]
    more = [f"{len(nodes) - _SHOWN_NODES} more"] if len(nodes) > _SHOWN_NODES else []
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}: {', '.join(shown + more)}"


def _resources(of_node: Mapping[str, float]) -> str:
    cores, gpus = int(of_node.get("CPU", 0)), int(of_node.get("GPU", 0))
    return f"{cores} core{'' if cores == 1 else 's'}" + (f", {gpus} GPU{'' if gpus == 1 else 's'}" if gpus else "")


def look(folder: Path, node: str) -> Sight:
    """On a node: write a file, rename it, and see which files of the others are there."""
    try:
        if not folder.is_dir():
            raise FileNotFoundError("no such folder")
        atomic_write(folder / node, b"seen")
        files = frozenset(file.name for file in folder.iterdir() if file.read_bytes() == b"seen")
    except OSError as error:
        return Sight(node, code_version(), None, error.strerror or str(error))
    return Sight(node, code_version(), files)


def trouble_of(folder: Path, own: Sight, first: Sequence[Sight], second: Sequence[Sight]) -> str | None:
    """What is wrong, in one line; None if every node has this code and sees everyone's files in its second look."""
    for sight in first:
        if sight.code != own.code:
            return (
                f"node {sight.node} runs other code: {sight.code}, here {own.code}. Install the same drift-training on "
                "every node and start Ray there again."
            )
        if sight.files is None:
            return f"node {sight.node} does not see {folder} as this one does ({sight.why}). {_REMEDY}"
    everyone = {sight.node for sight in (own, *first)}
    for sight in second:
        if missing := everyone - (sight.files or frozenset()):
            return f"node {sight.node} does not see what {min(missing)} wrote into {folder}. {_REMEDY}"
    return None
