"""Training over the nodes of a cluster: a task on each node starts torchrun, and they meet at the first node.

Whatever is lost, a process or a node, all of them begin again from the last checkpoint.
"""

import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drift.engine import MachineLost, Together
from drift.errors import ConfigError, DriftError
from drift.progress import report_note
from drift.training.scale.host import end_with_parent, free_port

OUTPUT = "output.log"
"""What the first process writes for the waiting command, on the storage that both see."""


@dataclass(frozen=True, slots=True)
class NodePart:
    """What one node does: `arguments` of torchrun, whose output goes to the two files."""

    name: str
    arguments: tuple[str, ...]
    output: Path
    log: Path


def arguments_of(launcher: str) -> list[str]:
    """The arguments of torchrun in `training.launch`. Raises ConfigError if that is another launcher."""
    program, *arguments = shlex.split(launcher)
    if Path(program).name != "torchrun":
        raise ConfigError(
            f"training.launch={launcher!r}: with cluster.nodes each node starts torchrun, so this must be torchrun and "
            "its options for one node: --set training.launch='torchrun --nproc-per-node 8'"
        )
    return arguments


def train_on_nodes(
    nodes: Together,
    launcher: str,
    command: list[str],
    folder: Path,
    on_line: Callable[[str], None],
    trouble: Callable[[], str | None],
) -> None:
    """Run `command` (a module and its arguments) in all processes of all nodes, until there is no more trouble.

    `on_line` gets the lines of the first process. `trouble` says why an attempt has no result, None if it has one, and
    raises what another attempt would not cure. Raises DriftError if processes or nodes were lost in every attempt.
    """
    own, why = arguments_of(launcher), ""
    for attempt in range(1, nodes.retries + 1):
        if attempt > 1:
            report_note(f"{why}: attempt {attempt} of {nodes.retries} continues from the last checkpoint")
        why, machines = "", nodes.machines()
        first = machines[0].address
        output = folder / f"{attempt}-{OUTPUT}"
        output.unlink(missing_ok=True)  # of an earlier command
        lines = _Lines(output, on_line)
        try:
            (port,) = nodes.run(machines[:1], free_port, [first])
            meet = ("--nnodes", f"{len(machines)}", "--master-addr", first, "--master-port", f"{port}")
            parts = [
                NodePart(
                    f"training on {machine.name}",
                    (*own, *meet, "--node-rank", f"{rank}", "--max-restarts", "0", "-m", *command),
                    output if rank == 0 else folder / f"{attempt}-{rank}-{OUTPUT}",
                    folder / f"{attempt}-{rank}-processes.log",
                )
                for rank, machine in enumerate(machines)
            ]
            nodes.run(machines, run_part, parts, lines.forward)
        except (MachineLost, DriftError) as lost:
            why = str(lost)
        message = trouble()
        if message is None:
            return
        why = "; ".join(filter(None, (why, message)))
    raise DriftError(
        f"training on {nodes.count} nodes failed {nodes.retries} times (cluster.retries): {why}. Finished steps are "
        f"kept: run the same command again. What the processes wrote is in {folder}/*-processes.log."
    )


def run_part(part: NodePart) -> None:
    """On a node: run torchrun until it ends; it ends with this process. Raises DriftError unless it ends well."""
    command = [sys.executable, "-m", "drift.training.scale.nodes", *part.arguments]
    with part.output.open("wb") as output, part.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=output, stderr=log, stdin=subprocess.DEVNULL)
    if status := process.wait():
        raise DriftError(f"{part.name}: a process ended with status {status}")


class _Lines:
    """The lines of a file that grows, which may not be there yet."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path, self._on_line, self._read, self._rest = path, on_line, 0, b""

    def forward(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))


def main() -> None:
    """torchrun itself, on a node."""
    end_with_parent()
    from torch.distributed.run import main as torchrun

    torchrun(sys.argv[1:])


if __name__ == "__main__":
    main()
