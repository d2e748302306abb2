"""docs/extending.md: every example, put into a copy of the project, works as the page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (?:in (\w+), )?(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
"""Table (or function) of an entry, file, code."""
NAMES = re.findall(r'`"(\w+)"` to (?:the names of )?`([\w.]+)` in `([\w/.]+)`', PAGE)
"""Name, the type that allows it, file below src/drift."""
TABLES = {path: table for table, path, _ in BLOCKS if table}
SETTINGS = re.findall(r"`(\w+: \{.*?\})` works in a config", PAGE)


def place(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, pattern
    return match


def add(project: Path, table: str, path: str, code: str) -> None:
    file = project / path
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if table == "make_judge":
        at = text.index("    if judge is not None")
    elif table:
        at = place(rf"^{table}\b.*\{{\n", text).end()
    elif path in TABLES and text:  # a table refers to what stands before it
        at = place(rf"^(def )?{TABLES[path]}\b", text).start()
    else:
        at = len(text)
    file.write_text(text[:at] + code + ("" if table else "\n\n") + text[at:], encoding="utf-8")


def allow(project: Path, name: str, of: str, path: str) -> None:
    file = project / "src/drift" / path
    text = file.read_text(encoding="utf-8")
    at = place(rf"\b{of.split('.')[-1]}\b(: | = )Literal\[", text).end()
    file.write_text(f'{text[:at]}"{name}", {text[at:]}', encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    project = tmp_path_factory.mktemp("extended") / "project"
    for folder in ("src", "tests", "configs"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", project)
    for table, path, code in BLOCKS:
        add(project, table, path, code)
    for name, of, path in NAMES:
        allow(project, name, of, path)
    readers = project / "src/drift/logs/readers/__init__.py"
    text = readers.read_text(encoding="utf-8")
    readers.write_text(
        text.replace("\nREADERS", "\nfrom drift.logs.readers.apps import helpdesk\n\nREADERS", 1), "utf-8"
    )
    (seed,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (project / "tests/logs/seeds/helpdesk.jsonl").write_text(seed, encoding="utf-8")
    return project


def run(project: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_tests_of_the_examples_pass_and_the_format_loses_nothing(extended):
    ours = [(path, re.findall(r"^def (test_\w+)", code, re.MULTILINE)) for _, path, code in BLOCKS]
    asked = [f"{path}::{name}" for path, names in ours for name in names]
    assert len(asked) == 6  # a recipe, a loss, a sampler, a scorer, a judge, a stop rule
    of_seeds = ("tests/logs/readers/test_properties.py", "tests/logs/test_nothing_lost.py")
    of_examples = " or ".join(["helpdesk", *(test.split("::")[1] for test in asked)])
    shown = run(extended, "-m", "pytest", "-rp", "-p", "no:cacheprovider", "-k", of_examples, *asked, *of_seeds)
    passed = re.findall(r"^PASSED \S+::(\S+)", shown, re.MULTILINE)
    assert {test.split("::")[1] for test in asked} <= set(passed)
    assert sum("helpdesk" in test for test in passed) >= 2


def test_the_format_of_the_example_is_recognised(extended):
    seed = "tests/logs/seeds/helpdesk.jsonl"
    assert "helpdesk" in run(extended, "-m", "drift", "ingest", seed, "--store", "store", "--dry-run")


def test_the_names_of_the_examples_work_in_a_config(extended):
    assert len(SETTINGS) == 5
    own = (extended / "configs/own_model.yaml").read_text(encoding="utf-8")
    for number, settings in enumerate(SETTINGS):
        section = settings.split(":")[0]
        kept = re.sub(rf"^{section}:.*\n", "", own, flags=re.MULTILINE)
        (extended / f"names_{number}.yaml").write_text(f"{kept}{settings}\n", encoding="utf-8")
    load = "from pathlib import Path; from drift.config import load_config\n"
    load += "for file in Path().glob('names_*.yaml'): print(load_config(file).model_dump())"
    assert run(extended, "-c", load).count("'iterations': 1") == 5
