"""Benchmarks are run by hand and rarely, so a name that they import can go missing without anybody noticing."""

import ast
import importlib
import importlib.util
import json
import runpy
import sys
from pathlib import Path

import pytest

from drift.records import ChatMessage, PromptItem, write_jsonl

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


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("hindsight", ["--model", "./none.gguf", "--out", "OUT"], "./none.gguf: the model cannot be loaded"),
        ("right_replies", ["--run", "OUT/none", "--policy", "p"], "OUT/none/config.yaml: no such config"),
        ("right_replies", ["--run", "RUN", "--policy", "none", "--out", "OUT"], "none: no policy. Name a folder"),
        (
            "right_replies",
            ["--run", "RUN", "--policy", "RUN/policy", "--out", "OUT"],
            "finished parts are of --samples 4",
        ),
        ("right_replies", ["--run", "LISTS", "--policy", "p"], "no disliked prompt is a request of the instructions w"),
        ("stop_rule", ["OUT/none"], "OUT/none: no held-out pairs. Name a finished run"),
        ("further_requests", ["--run", "RUN", "--out", "OUT"], "RUN/warm-start/evaluation.json: no evaluation"),
    ],
)
def test_what_is_wrong_with_the_arguments_of_a_benchmark_is_one_line(name, arguments, told, tmp_path, monkeypatch):
    places = {word: str(tmp_path / word.lower()) for word in ("OUT", "RUN", "LISTS")}

    def placed(text: str) -> str:
        for word, place in places.items():
            text = text.replace(word, place)
        return text

    request = "Tell me about earthquakes. It must fit into 60 words."
    for word, content in (("RUN", request), ("LISTS", "Sort these: pear fig")):
        (Path(places[word]) / "data").mkdir(parents=True)
        (Path(places[word]) / "config.yaml").write_text("name: run")
        item = PromptItem("a", "b", 1, (ChatMessage("user", content),), "train")
        write_jsonl(Path(places[word]) / "data/prompts.jsonl", [item])
    (Path(places["RUN"]) / "policy").mkdir()
    (Path(places["RUN"]) / "policy/config.json").write_text("{}")
    (tmp_path / "out").mkdir()
    earlier = {
        "run": places["RUN"],
        "policy": places["RUN"] + "/policy",
        "samples": "4",
        "requests": "300",
        "seed": "1",
    }
    (tmp_path / "out/arguments.json").write_text(json.dumps(earlier))

    path = next(path for path in BENCHMARKS if path.stem == name)
    monkeypatch.setattr(sys, "argv", [path.name, *map(placed, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert placed(told) in str(end.value)
    assert "\n" not in str(end.value)


@pytest.mark.parametrize("text", ["sft", "sft:-1", "sft:1e-5:0", "sft:1e-5:1:right:x", "kto:1e-5", "sft:1e-5:1:both"])
def test_a_training_that_is_none_is_refused(text, monkeypatch, capsys):
    path = next(path for path in BENCHMARKS if path.stem == "right_replies")
    monkeypatch.setattr(sys, "argv", [path.name, "--run", "r", "--policy", "p", "--train", text])
    with pytest.raises(SystemExit):
        runpy.run_path(str(path), run_name="__main__")
    assert "error: argument --train: " in capsys.readouterr().err
