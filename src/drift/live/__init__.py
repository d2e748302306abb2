"""The live readout: how often users are dissatisfied with each deployed model, and whether two models differ."""

from drift.live.readout import Readout, read_live

__all__ = ["Readout", "read_live"]
