"""A section of the config: frozen, closed to unknown keys, and able to read the keys of earlier versions."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A random seed: orjson and torch take no larger one, and NumPy no negative one."""


def folder_name(name: str) -> str:
    """Raises ValueError unless a folder inside another one may be called so."""
    if not name.strip() or any(mark in name for mark in "/\\\0"):
        raise ValueError(f"the run's folder is runs/NAME-HASH: give a name without a slash, not {name!r}")
    return name


class Settings(BaseModel):
    """A section of the config. Configs of earlier versions still load, where their old keys say the same as today's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    FIXED: ClassVar[dict[str, float]] = {}
    """Settings of earlier versions that are constants today, with the one value that a config may still name."""

    MOVED: ClassVar[tuple[str, ...]] = ()
    """Settings of earlier versions that stand under `experimental` today."""

    RENAMED: ClassVar[dict[str, tuple[str, dict[Any, str]]]] = {}
    """Settings of earlier versions by their name: today's name, and today's value for each of theirs."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_keys(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or not {*cls.FIXED, *cls.MOVED, *cls.RENAMED} & set(tree):
            return tree
        tree = _renamed(tree, cls.RENAMED)
        for key, value in cls.FIXED.items():
            if tree.get(key, value) != value:
                raise ValueError(f"{key} is fixed at {value} now, not {tree[key]!r}; remove {key} from the config")
        experimental = dict(tree.get("experimental") or {})
        for key in cls.MOVED:
            if key in tree and experimental.setdefault(key, tree[key]) != tree[key]:
                raise ValueError(f"{key} is set twice; keep experimental.{key} and remove {key}")
        rest = {key: value for key, value in tree.items() if key not in (*cls.FIXED, *cls.MOVED)}
        return {**rest, "experimental": experimental} if cls.MOVED else rest

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        values = value if isinstance(value, list | tuple) else (value,)
        wrong = next((one for one in values if isinstance(one, bool)), None)
        if wrong is not None:
            kinds = list(_kinds(cls.model_fields[str(info.field_name)].annotation))
            own_check = "auto" in kinds  # whose message names `auto` too
            if (int in kinds or float in kinds) and bool not in kinds and not own_check:
                raise ValueError(f"expected a number, not {str(wrong).lower()}")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _renamed(tree: dict[str, Any], names: dict[str, tuple[str, dict[Any, str]]]) -> dict[str, Any]:
    renamed = {key: value for key, value in tree.items() if key not in names}
    for old, (new, values) in names.items():
        if old not in tree:
            continue
        if not isinstance(tree[old], bool) or tree[old] not in values:
            raise ValueError(f"{old} is {new} now, one of {', '.join(values.values())}; got {tree[old]!r}")
        if renamed.setdefault(new, values[tree[old]]) != values[tree[old]]:
            raise ValueError(f"{old} is {new} now, and both are set; remove {old}")
    return renamed
