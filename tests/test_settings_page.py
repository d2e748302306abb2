"""docs/settings.md lists every setting with its default. `python tests/test_settings_page.py` generates it."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drift.config import Config, Settings

PAGE = Path(__file__).parents[1] / "docs/settings.md"
HEAD = """# Every setting

A config is a YAML file. A setting that it does not name has the value below. `drift run CONFIG --set training.beta=0.2`
sets one value. An unknown name is an error that suggests the nearest right one. Lengths are in tokens, log-probs in
nats, probabilities from 0 to 1. This page is generated from `src/drift/config/`; a test fails if it is out
of date.
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
    for key, model in sections(Config):
        if model in seen:
            parts.append(f"## `{key}`\n\nAs `{seen[model]}`.\n")
            continue
        seen[model] = key
        values = "".join(
            _line(field.alias or name, field) for name, field in model.model_fields.items() if not _is_section(field)
        )
        texts = [
            inspect.cleandoc(kind.__doc__)
            for kind in (*model.__bases__, model)
            if kind.__doc__ and kind is not Settings
        ]
        text = "\n\n".join(texts)
        parts.append(f"## {f'`{key}`' if key else 'At the top'}\n\n{text}\n\n```yaml\n{values}```\n")
    return "\n".join(parts)


def _line(name: str, field: FieldInfo) -> str:
    default = "<required>" if field.is_required() else field.get_default()
    shown = yaml.safe_dump({name: list(default) if isinstance(default, tuple) else default}, width=200).strip()
    choices = [str(choice) for choice in field.examples or _choices(field.annotation)]
    return f"{shown}  # {' | '.join(choices)}\n" if choices else f"{shown}\n"


def _choices(kind: object) -> list[object]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def test_the_page_is_what_the_settings_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "out of date: python tests/test_settings_page.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
