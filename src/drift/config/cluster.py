"""Where a run works: in one process, on all cores of this machine, or on a Ray cluster."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, PositiveInt, model_validator

from drift.config.section import Settings

LOCAL = "local"
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):([0-9]{1,5})")
_LAST_PORT = 65535


def known_address(address: str | None) -> str | None:
    """The address. Raises ValueError that says what is allowed."""
    if address in (None, LOCAL):
        return address
    if address.startswith("ray://"):
        raise ValueError(
            f"{address} is Ray's client, whose proxy process every result would pass through: run drift on a node of "
            "the cluster and give its HOST:PORT, for example 10.0.0.1:6379"
        )
    match = _HOST_PORT.fullmatch(address)
    if not match or not 0 < int(match.group(2)) <= _LAST_PORT:
        raise ValueError(
            f"{address!r} is no address of a cluster: allowed are `local` and HOST:PORT (a port is 1 to {_LAST_PORT})"
        )
    return address


class ClusterSettings(Settings):
    """Where the work is done (docs/cluster.md). It changes no result and no name: a run may begin on a laptop and
    continue on a cluster.

    `address`: null works in this process; `local` in one process per core of this machine; HOST:PORT on the Ray
    cluster there, whose nodes all see the store and the run folder under the same path. Models work in a process for
    each GPU, else for each `threads` cores. `retries`: a piece of work whose process dies so many times ends the
    command with an error that names it; so many times is a training begun that loses a process or a node. `nodes`: on
    how many nodes of the Ray cluster one training runs (docs/scaling.md); null: on the machine of the run.
    `gpus_per_replica`: GPUs of one machine that hold a model together, where one GPU is too small for it.
    """

    address: Annotated[str | None, AfterValidator(known_address)] = None
    retries: PositiveInt = 3
    nodes: PositiveInt | None = None
    gpus_per_replica: PositiveInt = 1

    @model_validator(mode="before")
    @classmethod
    def _is_a_group(cls, given: object) -> object:
        if isinstance(given, str):
            raise ValueError(f"{given!r} is no group of settings: write cluster.address={given}")
        return given

    @model_validator(mode="after")
    def _nodes_need_a_cluster(self) -> Self:
        if self.nodes is not None and self.address in (None, LOCAL):
            raise ValueError(
                f"nodes={self.nodes} needs the nodes of a Ray cluster: set cluster.address to its HOST:PORT, or remove "
                "cluster.nodes"
            )
        return self

    @model_validator(mode="after")
    def _replicas_need_workers(self) -> Self:
        if self.gpus_per_replica > 1 and self.address is None:
            raise ValueError(
                f"gpus_per_replica={self.gpus_per_replica} is for models in worker processes: set cluster.address to "
                "local or HOST:PORT, or remove cluster.gpus_per_replica"
            )
        return self
