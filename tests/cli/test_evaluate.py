"""`drift eval` as a user gives it: figures of files, as JSON and for people, and errors in one line."""

import json

import pytest

from command import drift

JUDGE = "http://127.0.0.1:9#m"


def test_alpaca_eval_of_annotations(tmp_path):
    annotations = tmp_path / "a.json"
    annotations.write_text(json.dumps([{"preference": p, "len_1": 9, "len_2": 5} for p in (1, 2, 2)]))
    done = drift("eval", "alpaca-eval", "--annotations", annotations, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (round(figures["win_rate"], 3), figures["n_total"]) == (66.667, 3)
    assert figures["length_controlled_winrate"] is None
    assert "not leaderboard-comparable" in done.stderr


def test_wildbench_of_scores(tmp_path):
    for name, score in (("one", 7), ("two", 4)):
        row = {"session_id": "a", "model": name, "score": score, "model_output": "text"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    done = drift("eval", "wildbench", "--scores", tmp_path / "one.jsonl", "--scores", tmp_path / "two.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    models = json.loads(done.stdout.splitlines()[-1])["models"]
    assert (models["one"]["WB_score"], models["two"]["WB_score"]) == (40, -20)
    assert models["one"]["elo"] > models["two"]["elo"]


def test_wildbench_prints_what_has_no_score(tmp_path, serve, said):
    chat = [{"role": "user", "content": "task"}]
    tasks, replies = tmp_path / "tasks.jsonl", tmp_path / "replies.jsonl"
    rows = [{"id": f"t{i}", "conversation_input": chat, "primary_tag": "Math"} for i in range(3)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replies.write_text("".join(json.dumps({"id": f"t{i}", "output": f"reply {i}"}) + "\n" for i in range(2)))

    def judge(path, body, number):
        return said.chat("who knows" if "reply 1" in body["messages"][-1]["content"] else '{"score": 8}')

    judge_url = f"{serve(judge).url}#judge"
    done = drift("eval", "wildbench", replies, "--judge", judge_url, "--data", tasks, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    printed = " ".join((done.stdout + done.stderr).split())
    assert "unscored reasons unreadable: wrong_form 1, no reply 1" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("eval", "pairwise", "m", "--judge", "http://127.0.0.1:9#m", "--max-cost", "0"), "more than 0"),
        (("label", "--store", "s", "--labeller", "judge", "--max-cost", "-1"), "more than 0"),
        (("eval", "wildbench", "m", "--judge", "http://127.0.0.1:9#m", "--dtype", "fp16"), "fp16"),
        (("eval", "exploration", "m", "--judge", "http://127.0.0.1:9#m", "--reward", "folder"), "--judge or --reward"),
        (
            ("label", "--store", "s", "--labeller", "judge", "--judge", "http://127.0.0.1:9#m", "--model", "m"),
            "give --judge alone",
        ),
        (("gate", "m", "--against", "n", "--temperature", "inf"), "'--temperature': inf is no finite number"),
        (("eval", "exploration", "r", "--good-from", "nan"), "'--good-from': nan is no finite number"),
    ],
)
def test_what_an_option_cannot_be_is_wrong_usage(arguments, told):
    done = drift(*arguments)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_one_line():
    done = drift("eval", "wildbench", "--scores", "nowhere.jsonl")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "nowhere.jsonl: cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["eval", "alpaca-eval", "--annotations", "a.json", "--judge-prompt", "p.md"],
            "--judge-prompt is given, but --annot",
        ),
        (
            ["eval", "wildbench", "--scores", "s.jsonl", "--against", "m", "--dry-run"],
            "--against and --dry-run are given, but",
        ),
        (["eval", "wildbench", "m", "--judge", JUDGE, "--tags", "t.jsonl"], "only --scores FILE uses that"),
        (
            ["eval", "alpaca-eval", "m", "--judge", JUDGE, "--model-api-key-env", "K"],
            "no model is a server (URL#MODEL)",
        ),
        (
            ["eval", "pairwise", "m", "--reward-model", "r", "--max-cost", "1"],
            "--max-cost is given, but --reward-model",
        ),
        (["eval", "pairwise", "m", "--judge", JUDGE, "--model-api-key-env", "K"], "no model is a server (URL#MODEL)"),
        (["eval", "exploration", "r", "--max-cost", "1"], "--max-cost is given, but no judge is asked: add --judge"),
        (["gate", "m", "--against", "n", "--api-key-env", "K"], "--api-key-env is given, but no judge is asked"),
        (["gate", "m", "--against", "n", "--model-api-key-env", "K"], "--model-api-key-env is given, but no model is"),
        (["gate", "m", "--against", "n", "--target", "oracle", "--judge", JUDGE], "--target is given, but a judge or"),
    ],
)
def test_an_option_that_nothing_would_use_is_refused(arguments, message):
    done = drift(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert message in done.stderr
