"""Which stages the next command would reuse: the run's own code is called, on a run folder that nothing changes."""

from pathlib import Path
from typing import Any

from drift.rundir.fingerprints import Inputs, StageFunction, describe_inputs, stage_key
from drift.rundir.manifest import StageRecord, read_manifest
from drift.rundir.run import RunDir

_NO_LOCK = -1


class StageMissing(Exception):
    """A stage would have to be made, so what comes after it is not known. Its argument: the name of the stage."""


class Replay(RunDir):
    """A run folder for reading alone. `kept`: the stages that were reused so far, by name; the first one that is not
    raises StageMissing. It takes no lock."""

    def __init__(self, path: Path, seed: int) -> None:
        self.kept: dict[str, StageRecord] = {}
        super().__init__(path, _NO_LOCK, seed, None)

    def stage(self, name: str, fn: StageFunction[Inputs], /, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Path:
        target = self.path / name
        recorded = read_manifest(target.parent).stages.get(target.name)
        if recorded is None:
            raise StageMissing(name)
        key = stage_key(name, fn, describe_inputs(fn, self.path, self._digests, *args, **kwargs))
        if not self._is_kept(target, recorded, key):
            raise StageMissing(name)
        self.kept[name] = recorded
        return target

    def _update(self, **changes: Any) -> None:
        """Nothing is written."""
