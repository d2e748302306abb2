"""Config files: YAML in, the resolved YAML out. An unknown key is an error that suggests the nearest right name."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from drift.config.settings import Config
from drift.errors import ConfigError

_RESOLVED_HERE = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp")}
_INT = re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN))\Z"
)

Location = tuple[int | str, ...]
"""Where in the tree of settings pydantic saw an error: keys, and places in lists."""

_TYPES = {"bool_parsing": "true or false", "bool_type": "true or false", "list_type": "a list", "tuple_type": "a list"}
"""What a user writes, by pydantic's name of the error."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans and numbers. In YAML 1.1 `thinking: off` would be false, `on: liked` a key that is true,
    042 the number 34, 1:30 the number 90, 2026-01-01 a date, and 1e-4 a text. A key that stands twice is an error: its
    first value, perhaps a whole arm, would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name = (key.tag, key.value)
            if name in first:
                one, other = first[name].line + 1, key.start_mark.line + 1
                lines = f"twice in line {one}" if one == other else f"in line {one} and in line {other}"
                raise yaml.YAMLError(f"the key {key.value!r} stands {lines}; keep one of them.")
            first[name] = key.start_mark
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes each text that YAML 1.1 or `_Loader` reads as something else."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in resolvers if tag not in _RESOLVED_HERE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), [*"tTfF"]
)
for kind in (_Loader, _Dumper):
    kind.add_implicit_resolver("tag:yaml.org,2002:int", _INT, [*"-+0123456789"])
    kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, [*"-+0123456789."])


def read_yaml(text: str) -> Any:
    """The value of a YAML text, in which `on`, `off`, `yes`, `no`, dates and 042 are texts. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply.") from None
    except (ValueError, LookupError, AttributeError) as error:  # a number of 5,000 digits; a tag with a wrong value
        raise yaml.YAMLError(f"a value does not fit its type ({error}).") from None


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a YAML file and apply `a.b=value` overrides (values are YAML).

    Raises ConfigError that names the file, the key and the nearest right name.
    """
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config. `ls configs/` lists the configs that ship.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, not a {type(tree).__name__}.")
    if "arms" in tree:
        raise ConfigError(f"{path}: this config compares several arms. `drift compare {path}` runs it.")
    for override in overrides:
        _apply(tree, override)
    return parse_config({"name": path.stem, **tree}, str(path))


def parse_config(tree: dict[str, Any], where: str) -> Config:
    """Validate a tree of settings. Raises ConfigError that names the first wrong key or value."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error)}") from None


def dump_config(config: Config) -> str:
    """The YAML of a config with all its settings, without passwords of databases."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _apply(tree: dict[str, Any], override: str) -> None:
    """Put one `a.b=value` into the tree. Raises ConfigError."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: write it as key=value, for example --set training.beta=0.2")
    try:
        value = read_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"--set {override}: the value is not valid YAML; quote it, for example --set name='\"a: b\"'"
        ) from None
    *parents, last = key.split(".")
    for parent in parents:
        section = tree.get(parent) or {}
        if not isinstance(section, dict):
            raise ConfigError(f"--set {override}: {parent} is a single value, so {key} does not exist.")
        tree[parent] = dict(section)  # with `&t` and `*t` it stands in other places too, which keep their values
        tree = tree[parent]
    tree[last] = value


def explain(error: ValidationError, kind: type[BaseModel] = Config) -> str:
    """The first wrong key or value of a tree of settings, with what is allowed. `kind`: of the whole tree."""
    errors = error.errors()
    # a misspelt key also leaves the right one missing: the misspelt one is what to tell
    first = next((problem for problem in errors if problem["type"] == "extra_forbidden"), errors[0])
    location, member = _split_member(first["loc"], kind)
    key = ".".join(str(part) for part in location)
    where = f"{key}: " if key else ""  # empty: about the tree itself, or about two sections, which the message names
    if first["type"] == "value_error":  # from a validator of ours: its message names the values
        return f"{where}{first['msg'].removeprefix('Value error, ').removesuffix('.')}."
    if first["type"] == "missing":
        return f"{key}: missing." + (f" Set it, for example with --set {key}=VALUE." if kind is Config else "")
    if member:
        return _explain_member(location, [problem for problem in errors if problem["loc"][: len(location)] == location])
    if first["type"] in ("tuple_type", "list_type"):
        hint = f": write it as [{first['input']}]" if isinstance(first["input"], str) else ""
        return f"{where}Input should be a list, not {first['input']!r}{hint}."
    if first["type"] == "model_type":
        settings = ", ".join(_fields_at(first["loc"], kind))
        return f"{where}Input should be a section of settings ({settings}), not {first['input']!r}."
    if first["type"] != "extra_forbidden":
        return f"{where}{first['msg']}, not {first['input']!r}."
    allowed = _fields_at(first["loc"][:-1], kind)
    name = str(first["loc"][-1])
    elsewhere = [f"{section}.{name}" for section in _sections_with(name, kind)]
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    meant = elsewhere if len(elsewhere) == 1 or not near else near
    hint = f"did you mean {' or '.join(map(repr, meant))}?" if meant else f"allowed: {', '.join(allowed)}."
    return f"{key}: unknown setting; {hint}"


def _explain_member(location: Location, problems: Sequence[ErrorDetails]) -> str:
    """A setting that takes one of several types: pydantic has an error, or several, for each of them."""
    deepest = max(problems, key=lambda problem: len(problem["loc"]))
    if element := deepest["loc"][len(location) + 1 :]:  # the right type, with a wrong element
        key = ".".join(str(part) for part in (*location, *element))
        return f"{key}: {deepest['msg']}, not {deepest['input']!r}."
    expected = [_TYPES.get(problem["type"], problem["msg"].removeprefix("Input should be ")) for problem in problems]
    key = ".".join(str(part) for part in location)
    return f"{key}: Input should be {' or '.join(expected)}, not {deepest['input']!r}."


def _split_member(location: Location, kind: type[BaseModel]) -> tuple[Location, Location]:
    """The setting that an error is about, and what stands behind it: which of its types, if the setting has several."""
    model: type[BaseModel] | None = kind
    for depth, part in enumerate(location, 1):
        fields = {field.alias or name: field for name, field in model.model_fields.items()} if model else {}
        if part not in fields:
            break
        annotation = fields[str(part)].annotation
        if get_origin(annotation) in (Union, UnionType) and len({*get_args(annotation)} - {NoneType}) > 1:
            return location[:depth], location[depth:]
        model = _section_in(annotation)
    return location, ()


def _sections_with(name: str, kind: type[BaseModel]) -> list[str]:
    """The sections of a config that have a setting of exactly this name."""
    sections = {key: _section_in(field.annotation) for key, field in kind.model_fields.items()}
    return [key for key, section in sections.items() if section and name in section.model_fields]


def _fields_at(location: Location, kind: type[BaseModel]) -> list[str]:
    model = kind
    for part in location:
        section = _section_in(model.model_fields[str(part)].annotation)
        assert section is not None, "only a section has settings"
        model = section
    return [field.alias or name for name, field in model.model_fields.items()]


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section of settings that a setting is; None for a single value."""
    options = (annotation, *get_args(annotation))
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)
