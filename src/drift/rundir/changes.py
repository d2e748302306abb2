"""Why a stage that was made before has to be made again, in one line for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from drift.rundir.fingerprints import StageFunction, StageInput, code_version, package_versions, qualified_name
from drift.rundir.manifest import StageRecord

_SHOWN = 3


def why_redone(known: StageRecord, fn: StageFunction[...], inputs: Mapping[str, StageInput], key: str) -> str:
    """What differs between the stage on record and the one that is asked for now."""
    if known.key == key:
        return "redone, its files were changed or deleted since"
    found = [*_changed_inputs(known.inputs, inputs), *_changed_code(known, fn)]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"redone, {'; '.join(found[:_SHOWN]) or 'its inputs are others'}{more}"


def _changed_inputs(before: Mapping[str, StageInput], now: Mapping[str, StageInput]) -> Iterator[str]:
    for name, given in now.items():
        known = before.get(name)
        if known is None:
            yield f"{name} is new"
        elif known.fingerprint != given.fingerprint:
            settings = _changed_settings(name, known.value, given.value)
            yield from settings or [f"the content of {_told(given.value)} changed"]


def _changed_settings(name: str, before: Any, now: Any) -> list[str]:
    """Every leaf of a settings tree, or a plain value, that is another one now."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = {**before, **now}
        return [line for key in keys for line in _changed_settings(f"{name}.{key}", before.get(key), now.get(key))]
    return [f"{name} {_told(before)} -> {_told(now)}"] if before != now else []


def _changed_code(known: StageRecord, fn: StageFunction[...]) -> Iterator[str]:
    if known.fn != qualified_name(fn):
        yield f"made by {known.fn} before"
    if known.code_version != code_version():
        yield f"drift's code {known.code_version} -> {code_version()}"
    packages = package_versions()
    for name in {**known.packages, **packages}:
        if known.packages.get(name) != packages.get(name):
            yield f"{name} {known.packages.get(name, 'missing')} -> {packages.get(name, 'missing')}"


def _told(value: Any) -> str:
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)
