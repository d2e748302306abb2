"""Benchmarks are run by hand and rarely, so a name that they import can go missing without anybody noticing."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_from_drift_exists(path):
    missing = [
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drift")
        for name in node.names
        if not hasattr(importlib.import_module(node.module or ""), name.name)
        and importlib.util.find_spec(f"{node.module}.{name.name}") is None
    ]
    assert missing == []
