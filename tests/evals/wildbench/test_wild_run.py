"""WildBench from replies to figures, with a loopback judge."""

import json
from dataclasses import replace

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Reply, Usage
from drift.endpoint.message import Choice
from drift.errors import ConfigError, DataError
from drift.evals.files import Template
from drift.evals.replies import sampling_at
from drift.evals.wildbench.judge import EMPTY, OWN_TEMPLATE, ask_score, cut, read_prompt, read_score
from drift.evals.wildbench.reward import read_rewards
from drift.evals.wildbench.run import WildRun, run_wildbench
from drift.evals.wildbench.versus import ask_better, read_choice
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


def test_what_the_judge_is_shown(tmp_path, read_fences):
    (tmp_path / "official.md").write_text("|{$history}|{$user_query}|{$checklist}|{$model_output}|")
    official = read_prompt(tmp_path / "official.md")
    shown = ask_score("i", CHAT, ("Is it <short>?",), "", official).request.messages[0].content
    assert shown == f"|USER: first\n\nASSISTANT: reply\n\n|last|- Is it <short>?\n|{EMPTY}|"
    fences = read_fences(ask_score("i", CHAT, ("Is it <short>?",), "", OWN).request.messages[0].content)
    assert fences.inside == {
        "earlier_turns": [
            {"turn": 0, "speaker": "user", "text": "first"},
            {"turn": 1, "speaker": "assistant", "text": "reply"},
        ],
        "last_request": ["last"],
        "reply": [EMPTY],
        "questions": ["Is it <short>?"],
    }
    assert cut("a " * 1500).endswith("... (truncated)")
    (tmp_path / "p.md").write_text("{$history}")
    with pytest.raises(DataError, match=r"\{\$user_query\}"):
        read_prompt(tmp_path / "p.md")


@pytest.mark.parametrize(
    ("text", "order", "preference"),
    [
        ('{"choice": "B++"}', "ab", 1.0),
        ('{"choice": "B++"}', "ba", 0.0),
        ('```json\n{"strengths of A": "says "x"", "choice": "A+"}\n```', "ab", 0.25),
        ('{"choice": "A = B"}', "ba", 0.5),
        ('{"choice": "C"}', "ab", None),
        ("B is better", "ab", None),
    ],
)
def test_choices(text, order, preference):
    questions = ask_better("i", CHAT, ("Is it short?",), ("reference", "ours"))
    grade = read_choice(questions[order == "ba"], Reply(usage=Usage(1, 1), choices=(Choice(text, "stop"),)))
    assert grade.preference == preference
    assert (grade.unscored_reason is None) == (preference is not None)


def test_both_orders_show_both_replies():
    one, other = (
        q.request.messages[0].content for q in ask_better("i", CHAT, ("Short?",), ("REFERENCE {$reply_b}", ""))
    )
    assert one.index("REFERENCE {$reply_b}") < one.index(EMPTY)
    assert other.index(EMPTY) < other.index("REFERENCE {$reply_b}")
    assert '<questions>\n"Short?"\n</questions>' in one
    assert '{"turn": 0, "speaker": "user", "text": "first"}' in other


def test_the_history_is_cut_after_a_thousand_words_over_all_messages(read_fences):
    chat = (ChatMessage("user", "a " * 600), ChatMessage("assistant", "b " * 600), ChatMessage("user", "c"))
    history = read_fences(ask_score("i", (*chat, *chat), (), "x", OWN).request.messages[0].content)
    assert [line["text"] for line in history.inside["earlier_turns"]] == [
        "a " * 600, " ".join(["b"] * 399) + "... (truncated)"
    ]  # fmt: skip
    full = (ChatMessage("user", " ".join("a" * 1000)), *chat)
    lines = read_fences(ask_score("i", full, (), "x", OWN).request.messages[0].content).inside["earlier_turns"]
    assert [line["text"] for line in lines] == [" ".join("a" * 1000), "... (truncated)"]


def test_injections_stay_in_the_fence_of_both_own_prompts(injections, read_fences):
    def prompts(chat, checklist, ours):
        scored = ask_score("i", chat, checklist, ours, OWN)
        compared = ask_better("i", chat, checklist, ("reference", ours))
        return [read_fences(question.request.messages[0].content) for question in (scored, *compared)]

    harmless = prompts(CHAT, ("Short?",), "x")
    assert len(injections) >= 50
    for text in injections:
        chat = (ChatMessage("user", text), ChatMessage("assistant", text), ChatMessage("user", f"last {text}"))
        attacked = prompts(chat, (text,), f"ours {text}")
        assert [prompt.outside for prompt in attacked] == [prompt.outside for prompt in harmless]
        for prompt in attacked:
            assert prompt.inside["earlier_turns"] == [
                {"turn": 0, "speaker": "user", "text": text},
                {"turn": 1, "speaker": "assistant", "text": text},
            ]
            assert (prompt.inside["last_request"], prompt.inside["questions"]) == ([f"last {text}"], [text])
        assert attacked[0].inside["reply"] == [f"ours {text}"]
        assert [attacked[1].inside[mark] for mark in ("reply_a", "reply_b")] == [["reference"], [f"ours {text}"]]
        assert [attacked[2].inside[mark] for mark in ("reply_a", "reply_b")] == [[f"ours {text}"], ["reference"]]


def test_reward_of_a_judge_is_the_mean_over_references(tmp_path, serve, said):
    """Against one: much better, and a slight win that is longer by over K. Against two: worse, and unreadable, which
    is neither a tie nor a low score."""
    data = tmp_path / "tasks.jsonl"
    chat = [{"role": "user", "content": "task"}]
    rows = [{"id": f"t{i}", "conversation_input": chat, "primary_tag": "Math"} for i in range(2)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = {"ours": ["BEST", "LONG" + "x" * 600], "one": ["weak", "short"], "two": ["TOP", "odd"]}
    for name, outputs in texts.items():
        lines = ({"id": f"t{i}", "output": text, "generator": name} for i, text in enumerate(outputs))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def judge(path, body, number):
        text = body["messages"][-1]["content"]
        if "<reply_b>" not in text:
            return said.chat('{"score": 8}')
        ours_is_second = text.index("BEST" if "BEST" in text else "LONG") > text.index("<reply_b>")
        if "odd" in text:
            return said.chat("who knows")
        extent = "++" if "weak" in text else "+"
        return said.chat(json.dumps({"choice": ("A" if ours_is_second == ("TOP" in text) else "B") + extent}))

    server = serve(judge)
    settings = EndpointSettings(base_url=server.url, model="small", retries=0)
    sources = [str(tmp_path / f"{name}.jsonl") for name in ("ours", "one", "two")]
    run = WildRun(sources[0], settings, OWN, sampling_at(0.0, 16), tmp_path / "out", data, against=tuple(sources[1:]))
    assert run_wildbench(run, True, lambda line: None).estimate.questions == 2 + 2 * 2 * 2
    assert server.chats() == []
    done = run_wildbench(run, False, lambda line: None)
    assert done.result is not None
    (result,) = done.result.results.values()
    (found,) = done.result.rewards.values()
    assert found.by_reference == {"one": pytest.approx(100 * (1 + 0) / 2), "two": pytest.approx(100 * -0.5)}
    assert result.reward == found.reward == pytest.approx((50 - 50) / 2)
    assert done.unscored_reasons == {"against two: unreadable: wrong_form": 2}
    assert any("against one, two, asked in both orders" in reason for reason in result.not_comparable)
    public = [path for path in (tmp_path / "out").glob("pairwise-*.jsonl") if '"weak"' in path.read_text()]
    assert read_rewards(public, "one")["ours"].reward == pytest.approx(50)  # the file is in the public shape
    run_wildbench(run, False, lambda line: None)
    assert len(server.chats()) == 2 + 8
    with pytest.raises(ConfigError, match="is the evaluated model itself"):
        run_wildbench(replace(run, against=(sources[0],)), True, lambda line: None)
    (tmp_path / "copy.jsonl").write_text((tmp_path / "two.jsonl").read_text())
    with pytest.raises(
        ConfigError, match=r"two.jsonl, --against .*copy.jsonl: both are replies of 'two'. Name each ref"
    ):
        run_wildbench(replace(run, against=(*sources[1:], str(tmp_path / "copy.jsonl"))), True, lambda line: None)


def replies_of(folder, name: str, count: int) -> str:
    path = folder / f"{name}.jsonl"
    rows = ({"id": f"t{i}", "output": f"{name} {i}", "generator": name} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_a_server_refused_to_judge_lowers_no_reward(tmp_path, serve, said):
    """Ten tasks, of which the other model answers eight; the server answers about two of them. Ours is much better."""
    data = tmp_path / "tasks.jsonl"
    chat = [{"role": "user", "content": "task"}]
    rows = [{"id": f"t{i}", "conversation_input": chat, "primary_tag": "Math"} for i in range(10)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answered = ["ours 0", "ours 1"]

    def judge(path, body, number):
        text = body["messages"][-1]["content"]
        if "<reply_b>" not in text:
            return said.chat('{"score": 8}')
        if not any(reply in text for reply in answered):
            return said("too long", 400)
        return said.chat(json.dumps({"choice": "A++" if text.index("ours") < text.index("other") else "B++"}))

    settings = EndpointSettings(base_url=serve(judge).url, model="small", retries=0)
    ours, other = replies_of(tmp_path, "ours", 9), replies_of(tmp_path, "other", 8)
    run = WildRun(ours, settings, OWN, sampling_at(0.0, 16), tmp_path / "out", data, against=(other,))
    done = run_wildbench(run, False, lambda line: None)
    assert done.result is not None
    (result,) = done.result.results.values()
    assert (result.reward, result.n_total, result.n_unscored) == (100, 9, 1)
    reasons = dict(done.unscored_reasons)
    assert (reasons.pop("no reply"), reasons.pop("against other: no reply")) == (1, 2 * 2)
    ((reason, count),) = reasons.items()
    assert reason.startswith("against other: no answer: ")
    assert count == 2 * 6
    (public,) = (tmp_path / "out").glob("pairwise-*.jsonl")
    assert read_rewards([public], "other")["ours"].reward == 100
    answered.clear()
    with pytest.raises(DataError, match=r"--against other: small compared no reply with it: 16 no answer: .*, 4 no re"):
        run_wildbench(replace(run, folder=tmp_path / "none"), False, lambda line: None)


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
