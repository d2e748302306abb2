"""WildBench from replies to figures, with a loopback judge."""

import json

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Reply, Usage
from drift.endpoint.exchange import Choice
from drift.errors import DataError
from drift.evaluation.replies.sources import sampling_at
from drift.evaluation.wildbench.judge import EMPTY, OWN_TEMPLATE, Template, ask_score, cut, read_score, read_template
from drift.evaluation.wildbench.run import WildRun, run_wildbench
from drift.records import ChatMessage

OWN = Template(OWN_TEMPLATE, False)
CHAT = (ChatMessage("user", "first"), ChatMessage("assistant", "reply"), ChatMessage("user", "last"))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"strengths": "a", "score": "7"}', 7),
        ('```json\n{"weaknesses": "says "no"", "score": 4}\n```', 4),
        ('{"score": "11"}', None),
        ('{"score": "N/A"}', None),
        ("eight of ten", None),
    ],
)
def test_scores(text, score):
    grade = read_score(ask_score("i", CHAT, (), "x", OWN), Reply(usage=Usage(1, 1), choices=(Choice(text, "stop"),)))
    assert grade.score == score
    assert (grade.unscored_reason is None) == (score is not None)


def test_what_the_judge_is_shown(tmp_path):
    shown = ask_score("i", CHAT, ("Is it short?",), "", OWN).request.messages[0].content
    assert "USER: first\n\nASSISTANT: reply" in shown
    assert "- Is it short?" in shown
    assert EMPTY in shown
    assert cut("a " * 1500).endswith("... (truncated)")
    (tmp_path / "p.md").write_text("{$history}")
    with pytest.raises(DataError, match=r"\{\$user_query\}"):
        read_template(tmp_path / "p.md")


def test_from_replies_to_figures(tmp_path, serve, said):
    data, outputs = tmp_path / "tasks.jsonl", tmp_path / "outputs.jsonl"
    chat = [{"role": "user", "content": "task", "toxic": False}]
    tasks = [
        {"id": f"t{i}", "conversation_input": chat, "checklist": ["good?"], "primary_tag": "Math", "secondary_tags": []}
        for i in range(3)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in tasks))
    outputs.write_text("".join(json.dumps({"id": f"t{i}", "output": f"reply {i}"}) + "\n" for i in range(3)))

    def judge(path, body, number):
        text = body["messages"][-1]["content"]
        score = 9 if "reply 0" in text else 6
        return said.chat("no idea" if "reply 2" in text else json.dumps({"score": score}))

    server = serve(judge)
    settings = EndpointSettings(base_url=server.url, model="small", retries=0)
    run = WildRun(str(outputs), settings, OWN, sampling_at(0.0, 16), tmp_path / "out", data)
    assert run_wildbench(run, True, lambda line: None).result is None
    assert server.chats() == []
    done = run_wildbench(run, False, lambda line: None)
    assert done.result is not None
    (result,) = done.result.results.values()
    assert (result.WB_score, result.n_total, result.n_unscored) == (50, 2, 1)
    assert result.task_score == pytest.approx(50 / 4.75)
    assert "the judge is small, not gpt-4o-2024-05-13" in result.not_comparable
    run_wildbench(run, False, lambda line: None)
    assert len(server.chats()) == 3
