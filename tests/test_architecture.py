"""Imports run one way, torch stays in its rooms, and no setting is there for show."""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import drift
from drift.config import Settings
from drift.experiments.compare.settings import CompareSettings
from drift.policy.samplers.requests import FreshReplies
from drift.rundir import layout
from drift.scoring.feedback_reward import JudgedTurnSettings
from drift.training.reference import ReferenceSettings
from settings_reads import SettingsReads

SOURCE = Path(drift.__file__).parent
TREES = {path.relative_to(SOURCE): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
LAYERS = (  # lowest first: a module imports from below its own layer, or from its own room
    {"errors", "records", "statistics", "turns", "progress", "disk"},
    {"config", "store", "rundir", "endpoint", "engine"},
    {"logs", "feedback", "pairs", "policy", "training", "scoring", "evaluation"},
    {"sandbox", "report", "review", "evals", "gate", "live"},
    {"loop", "steps", "start", "generations"},
    {"run", "plan", "lineage", "experiments", "bench", "delivery"},
    {"cli", "__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
STAGES = LAYERS[2]
SIDEWAYS = {("training", "policy"), ("scoring", "policy"), ("evaluation", "policy")}
TORCH = {"policy", "training", "scoring", "evaluation", "evals", "gate", "sandbox", "experiments", "bench"}


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def kinds(parent: type[Settings]) -> Iterator[type[Settings]]:
    yield parent
    for child in parent.__subclasses__():
        yield from kinds(child)


SETTINGS = {CompareSettings, FreshReplies, JudgedTurnSettings, ReferenceSettings, *kinds(Settings)}
FIELDS = sorted({(cls.__name__, name) for cls in SETTINGS for name in cls.model_fields})


@functools.cache
def settings_reads() -> SettingsReads:
    return SettingsReads(TREES.values(), (tree for path, tree in TREES.items() if room(path) != "config"))


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


def test_imports_run_one_way():
    upwards = {}
    for path in sorted(TREES.keys() - {Path("__init__.py")}):
        named = {name.split(".")[1] for name in imports(TREES[path]) if name.startswith("drift.")} & set(LEVEL)
        upwards[str(path)] = sorted(there for there in named if not allowed(room(path), there))
    assert {path: rooms for path, rooms in upwards.items() if rooms} == {}


def test_run_folders_know_no_store():
    """A store brings DuckDB along: half a second of start-up for every command, and for every process that trains."""
    users = {path for path, tree in TREES.items() if room(path) == "rundir" and "drift.store" in str([*imports(tree)])}
    assert users == set()


def test_one_file_imports_ray():
    users = {str(path) for path, tree in TREES.items() if any(name.split(".")[0] == "ray" for name in imports(tree))}
    assert users == {"engine/on_ray.py"}


def test_torch_stays_in_its_rooms():
    users = {room(path) for path, tree in TREES.items() if any(name.split(".")[0] == "torch" for name in imports(tree))}
    assert users - TORCH == set()


def test_every_setting_is_read():
    """One that nothing reads: use it or remove it."""
    assert [f"{settings}.{field}" for settings, field in FIELDS if not settings_reads().is_read(settings, field)] == []


def test_every_class_of_settings_is_imported_here():
    reads = settings_reads()
    assert {name for name in reads.bases if "Settings" in reads.ancestors(name)} == {cls.__name__ for cls in SETTINGS}


FAKE_SETTINGS = """
class Settings: ...
class OuterSettings(Settings):
    inner: "InnerSettings | None" = None
    name: str = ""
class InnerSettings(Settings):
    beta: float
class Batch(NamedTuple):
    beta: float
class Trainer:
    def __init__(self, settings: OuterSettings): self.settings = settings
    @property
    def inner(self) -> InnerSettings: ...
def batches() -> list[Batch]: ...
def all_settings() -> dict[str, InnerSettings]: ...
"""


@pytest.mark.parametrize(
    ("reader", "is_read"),
    [
        ("def f(batch: Batch): return batch.beta", False),
        ("def f(): return [batch.beta for batch in batches()]", False),
        ("def f(unknown): return unknown.beta", False),
        ("def f(settings: OuterSettings): return settings.name", False),
        ("def f(settings: InnerSettings): settings.beta = 1", False),
        ("def f(settings: OuterSettings): return settings.inner.beta", True),
        ("def f(settings: OuterSettings):\n    inner = settings.inner.model_copy()\n    return inner.beta", True),
        ("def f():\n    for name, inner in sorted(all_settings().items()):\n        print(inner.beta)", True),
        ("def f(t: Trainer): return t.settings.inner.beta", True),
        ("def f(t: Trainer): return (lambda: t.inner.beta)()", True),
        ("def f(): return InnerSettings(beta=1).beta", True),
    ],
)
def test_a_setting_is_read_off_its_own_class_alone(reader: str, is_read: bool):
    trees = ast.parse(FAKE_SETTINGS), ast.parse(reader)
    assert SettingsReads(trees, trees).is_read("InnerSettings", "beta") is is_read


def modules_imported(tree: ast.AST) -> set[Path]:
    """The files of drift that a tree imports, also inside of functions; a package counts by its __init__.py."""
    files = set()
    for name in imports(tree):
        parts = name.split(".")[1:] if name.startswith("drift.") else []
        while parts:
            file = Path(*parts).with_suffix(".py")
            package = Path(*parts) / "__init__.py"
            if file in TREES or package in TREES:
                files.add(file if file in TREES else package)
                break
            parts.pop()  # a name inside of the module
    return files


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """Nodes that lead back to the first of them, or None."""
    finished: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return path[path.index(node) :]
        if node not in finished:
            for other in sorted(graph[node]):
                if circle := visit(other, [*path, node]):
                    return circle
            finished.add(node)
        return None

    return next((circle for node in sorted(graph) if (circle := visit(node, []))), None)


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_no_file_imports_itself_over_others():
    """A package's __init__.py gathers the names of its files, so it may not be a way from one of them to another."""
    graph = {
        str(path): {str(other) for other in modules_imported(tree) if other != path and other.name != "__init__.py"}
        for path, tree in TREES.items()
        if path.name != "__init__.py"
    }
    assert circle_in(graph) is None


def assigned(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Every public constant and named type of a module, with the source of its value; a TypeVar names no type."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = list(zip(targets, values, strict=True))
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case _:
                continue
        for target, value in pairs:
            source = ast.unparse(value)
            if isinstance(target, ast.Name) and target.id[0].isupper() and not source.startswith("TypeVar("):
                yield target.id, source


def in_several_files(places: Iterable[tuple[str, Path]]) -> set[str]:
    files: dict[str, list[Path]] = {}
    for name, path in places:
        files.setdefault(name, []).append(path)
    return {name for name, paths in files.items() if len(paths) > 1}


def test_the_name_of_a_type_has_one_meaning():
    """Of classes and of aliases. Those in OWN_TYPES are of files that never meet; the sandbox's are frozen."""
    names = [
        *((node.name, path) for path, tree in TREES.items() for node in tree.body if isinstance(node, ast.ClassDef)),
        *((name, path) for path, tree in TREES.items() for name, _ in assigned(tree) if not name.isupper()),
    ]
    assert in_several_files((name, path) for name, path in names if not name.startswith("_")) == OWN_TYPES


OWN_TYPES = {"Answer", "Part", "Request"}


def test_a_constant_has_one_home():
    """One name with one value in two files: one of them stays as it is when the other is changed."""
    places = ((f"{name} {value}", path) for path, tree in TREES.items() for name, value in assigned(tree))
    constants = {place.split()[0] for place in in_several_files(places)} - OWN_TYPES
    assert constants == EQUAL_BY_CHANCE


EQUAL_BY_CHANCE = {  # each is the limit of another measurement, the version of another file, the token of another model
    "DAYS", "END", "FEWEST", "FOLDS", "OPENING", "PAD", "RESAMPLES", "STRENGTH", "VERSION",
}  # fmt: skip


LAYOUT_NAMES = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
GENERAL = {"store", "policy", "base", "heldout", "lock", "deployment"}  # words that also name other things


def test_files_of_a_run_are_named_in_layout_alone():
    """Docstrings may name them; code that spells one again would go its own way when the layout changes."""
    spelled = {
        f"{path}:{node.lineno}: {node.value!r}"
        for path, tree in TREES.items()
        if path not in ELSEWHERE
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and (
            node.value in LAYOUT_NAMES - GENERAL
            or (isinstance(node.value, str) and node.value.startswith("iteration-"))
        )
    }
    assert spelled == set()


ELSEWHERE = {  # files of the same names that are not a run's
    Path("rundir/layout.py"),
    Path("store/folder.py"),  # a store has a manifest.json too
    Path("report/export.py"),  # what `drift export` writes
    Path("report/comparison/page.py"),  # the report of a comparison
    Path("evals/wildbench/run.py"),  # WildBench's scores.jsonl
}


def test_a_file_holds_a_thought():
    """Files under 25 lines need a reason: a package's door, one recipe, one format of logs."""
    crumbs = {
        str(path)
        for path in TREES
        if len((SOURCE / path).read_text("utf-8").splitlines()) < 25
        and not path.name.startswith("__")
        and path.parent.name not in ("recipes", "readers")
    }
    assert crumbs == set()


def test_the_loop_is_read_on_one_screen():
    """Every stage of an iteration, in order. What only some settings ask for is in steps.py."""
    assert len((SOURCE / "loop.py").read_text("utf-8").splitlines()) <= 90
