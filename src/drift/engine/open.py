"""From the setting `cluster` to an engine."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path

from drift.config import ClusterSettings
from drift.config.cluster import LOCAL
from drift.engine.engine import Engine, Local, using_engine
from drift.engine.processes import Processes


@contextmanager
def open_engine(settings: ClusterSettings, *folders: Path) -> Iterator[Engine]:
    """Let every stage in this block work where the settings say. `folders`: where the work writes.

    Raises PrerequisiteError, before any work, if ray is not installed, no cluster answers, or a node of it does not see
    the folders or has other code.
    """
    if settings.address is None:
        yield Local()
        return
    if settings.address == LOCAL:
        processes = Processes(retries=settings.retries, gpus_per_replica=settings.gpus_per_replica)
        with closing(processes) as engine, using_engine(engine):
            yield engine
        return
    from drift.engine.on_ray import OnRay  # ray takes a second to load

    with (
        redirect_stdout(sys.stderr),  # Ray prints what becomes of its nodes to stdout, where a command's JSON belongs
        closing(OnRay(settings.address, settings.retries, settings.nodes, settings.gpus_per_replica)) as engine,
        using_engine(engine),
    ):
        engine.check_nodes(folders)
        yield engine
