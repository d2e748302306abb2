"""Imports run one way, torch stays in its rooms, and no setting is there for show."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import drift
from drift.config import Settings

SOURCE = Path(drift.__file__).parent
TREES = {path.relative_to(SOURCE): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
LAYERS = (  # lowest first: a module imports from below its own layer, or from its own room
    {"errors", "records", "statistics", "turns", "progress", "disk", "refusals"},
    {"config", "store", "rundir", "endpoint"},
    {"logs", "feedback", "pairs", "policy", "training", "scoring", "evaluation"},
    {"sandbox", "report", "review", "evals"},
    {"loop", "start"},
    {"run", "lineage", "experiments", "bench"},
    {"cli", "__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
STAGES = LAYERS[2]
SIDEWAYS = {("training", "policy"), ("scoring", "policy"), ("evaluation", "policy"), ("evaluation", "scoring")}
TORCH = {"policy", "training", "scoring", "evaluation", "evals", "sandbox", "experiments", "bench"}


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def kinds(parent: type[Settings]) -> Iterator[type[Settings]]:
    yield parent
    for child in parent.__subclasses__():
        yield from kinds(child)


FIELDS = sorted({(cls.__name__, name) for cls in kinds(Settings) for name in cls.model_fields})
ATTRIBUTES = {
    node.attr
    for path, tree in TREES.items()
    if room(path) != "config"
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute)
}
"""Every name that is read off something outside the config."""


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is named, `from drift import store` as drift.store. Relative imports are not used here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(here: str, there: str) -> bool:
    if here in STAGES and there in STAGES:
        return here == there or (here, there) in SIDEWAYS
    return LEVEL[there] <= LEVEL[here]


def test_every_module_has_its_layer():
    assert {room(path) for path in TREES} - {"__init__"} - set(LEVEL) == set()


@pytest.mark.parametrize("path", sorted(TREES), ids=str)
def test_imports_run_one_way(path: Path):
    named = {name.split(".")[1] for name in imports(TREES[path]) if name.startswith("drift.")} & set(LEVEL)
    if room(path) != "__init__":
        assert [there for there in named if not allowed(room(path), there)] == []


def test_torch_stays_in_its_rooms():
    users = {room(path) for path, tree in TREES.items() if any(name.split(".")[0] == "torch" for name in imports(tree))}
    assert users - TORCH == set()


@pytest.mark.parametrize(("settings", "field"), FIELDS)
def test_every_setting_is_read(settings: str, field: str):
    assert field in ATTRIBUTES, f"nothing reads {settings}.{field}: use it or remove it"
