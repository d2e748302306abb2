"""docs/settings.md lists every setting with its default. `python tests/test_settings_page.py` generates it."""

import inspect
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drift.config import Config, Settings
from drift.experiments.compare.settings import CompareSettings
from drift.experiments.deployment import DeploymentSettings
from drift.sandbox.instructions.users import UserSettings

PAGE = Path(__file__).parents[1] / "docs/settings.md"
HEAD = """# Every setting

A config is a YAML file. A setting that it does not name has the value below. `drift run CONFIG --set training.beta=0.2`
sets one value. An unknown name is an error that suggests the nearest right one. Lengths are in tokens, log-probs in
nats, probabilities from 0 to 1. This page is generated from `src/drift/config/`; a test fails if it is out
of date.
"""


OF_COMPARISONS = """# Every setting of a comparison

A config of `drift compare`. Its `shared` holds the settings above and the simulated `deployment`; an arm changes some
of them. An example is `configs/compare.yaml`.
"""


def sections(model: type[BaseModel], key: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield key, model
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        for kind in kinds:
            if issubclass(kind, BaseModel):
                yield from sections(kind, f"{key}.{name}".strip("."))


def page() -> str:
    parts, seen = [HEAD], dict[type[BaseModel], str]()
    of_comparisons = [("", CompareSettings), ("shared.deployment", DeploymentSettings)]
    for key, model in (*sections(Config), *of_comparisons):
        if model is CompareSettings:
            parts.append(OF_COMPARISONS)
        if model in seen:
            parts.append(f"## `{key}`\n\nAs `{seen[model]}`.\n")
            continue
        seen[model] = key
        own = {field.alias or name: field for name, field in model.model_fields.items() if not _is_section(field)}
        values = "".join(_line(name, field) for name, field in own.items())
        texts = [
            inspect.cleandoc(kind.__doc__)
            for kind in (*model.__bases__, model)
            if kind.__doc__ and kind is not Settings
        ]
        text = "\n\n".join(texts)
        parts.append(f"## {f'`{key}`' if key else 'At the top'}\n\n{text}\n\n```yaml\n{values}```\n")
    users = asdict(UserSettings()).items()
    values = "".join(yaml.safe_dump({name: _plain(value)}, width=200) for name, value in users)
    text = inspect.getdoc(UserSettings)
    parts.append(f"## `shared.deployment.users`\n\n{text}\n\n```yaml\n{values}```\n")
    return "\n".join(parts)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _line(name: str, field: FieldInfo) -> str:
    default = "<required>" if field.is_required() else field.get_default(call_default_factory=True)
    shown = yaml.safe_dump({name: _plain(default)}, width=200).strip()
    choices = [str(choice) for choice in field.examples or _choices(field.annotation)]
    return f"{shown}  # {' | '.join(choices)}\n" if choices else f"{shown}\n"


def _choices(kind: object) -> list[object]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    parts = get_args(kind)
    named = [choice for part in parts for choice in _choices(part)]
    if named and bool in parts:  # `shard: bool | Literal["node"]`
        return ["true", "false", *named]
    return [*named, "a list of names"] if named and list[str] in parts else named


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and (
        issubclass(field.annotation, BaseModel) or field.annotation is UserSettings
    )


def test_the_page_is_what_the_settings_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "out of date: python tests/test_settings_page.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
