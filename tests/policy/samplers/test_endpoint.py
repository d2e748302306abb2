"""Sampling from a server that the user runs."""

import pytest

from drift.config import EndpointSettings, PolicySettings, SamplingSettings
from drift.errors import DriftError, PrerequisiteError
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.progress import listening
from drift.records import ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl


def items(count: int) -> list[PromptItem]:
    return [
        PromptItem(
            prompt_id=f"p{n}",
            conversation_id=f"c{n // 2}",
            reply_index=1,
            prompt=(ChatMessage("user", f"question {n}"),),
            split="train",
            rejected=ChatMessage("assistant", "no idea"),
            complaint=ChatMessage("user", "that is no answer"),
        )
        for n in range(count)
    ]


@pytest.fixture
def stage(tmp_path, tiny_policy):
    """`stage(settings, count, iteration)`: the stage's rows, its counts, and the notes that it made."""

    def run(endpoint: EndpointSettings | None, count: int = 5, iteration: int = 1):
        prompts, out, notes = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl", []
        write_jsonl(prompts, items(count))
        sampling = SamplingSettings(backend="endpoint", endpoint=endpoint, max_new_tokens=16, max_prompt_length=512)
        with listening(lambda *_: None, notes.append):
            fresh = FreshReplies(samples=2, guided_share=1.0)
            counts = sample(out, tiny_policy, prompts, sampling, fresh, PolicySettings(), iteration, 7)
        return list(read_jsonl(out, Completion)), counts, notes

    return run


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("content_filter", "error"),
        (None, "error"),
    ],
)
def test_servers_have_words_of_their_own_for_the_end_of_a_reply(serve, said, stage, reason, finish):
    def answer(path, body, number):
        return said({"choices": [{"message": {"content": "yes"}, "finish_reason": reason}]})

    rows, *_ = stage(EndpointSettings(base_url=serve(answer).url, model="tiny", retries=0))
    assert {row.finish for row in rows} == {finish}


def test_a_server_answers_for_the_policy(serve, said, stage):
    def answer(path, body, number):
        if "chat" not in path:
            return said(b"", 404)
        asked = str(body["messages"][-1]["content"])
        first = body["messages"][0]["content"]
        choice = {"message": {"content": f"reply to {first}"}, "finish_reason": "length" if "3" in first else "stop"}
        return said({"error": "too long"}, 400) if "question 4" in first and "feedback" in asked else said(
            {"choices": [choice]}
        )  # fmt: skip

    server = serve(answer)
    rows, counts, notes = stage(EndpointSettings(base_url=server.url, model="tiny", retries=0))
    assert [(row.prompt_id, row.sample) for row in rows] == [(f"p{n}", k) for n in range(5) for k in range(2)]
    assert [row.finish for row in rows] == ["stop"] * 6 + ["length"] * 2 + ["error"] * 2
    assert counts["failed"] == 2
    assert any(note.startswith("2 of 10 replies failed") for note in notes)
    assert [row.text for row in rows[:3]] == ["reply to question 0"] * 2 + ["reply to question 1"]
    assert {(row.token_ids, row.sampler, row.seed) for row in rows} == {(None, "endpoint/tiny", 7)}
    assert (counts["failed"], counts["truncated"], counts["guided"]) == (2, 2, 10)
    sent = [body for _, body, _ in server.requests if "<feedback>" in str(body.get("messages"))]
    assert all(body["max_tokens"] == 16 and body["top_p"] == 0.9 for body in sent)
    assert len({body["seed"] for body in sent}) == 10  # each completion has its own
    assert any("supports seed; not n" in note for note in notes)


def test_what_a_server_cannot_do_is_said(serve, said, stage):
    server = serve(lambda path, body, number: said.chat(f"text {number}") if "chat" in path else said(b"", 404))
    rows, _, notes = stage(EndpointSettings(base_url=server.url, model="tiny"), iteration=2)
    assert len(rows) == 10
    assert not any("seed" in body for _, body, _ in server.requests if "<feedback>" in str(body))
    assert any("replies differ in every run" in note for note in notes)
    assert any("iteration 2 samples from the trained policy only if you have loaded it" in note for note in notes)


def test_no_server_is_one_line(stage):
    with pytest.raises(PrerequisiteError, match=r"http://127.0.0.1:9/v1: no server answers") as absent:
        stage(EndpointSettings(base_url="http://127.0.0.1:9", model="tiny", retries=0))
    assert "\n" not in str(absent.value)


def test_a_server_that_dies_leaves_what_it_has_answered(serve, said, stage):
    """Its answers are in the journal: the next command asks for the rest alone."""
    sick = [True]

    def answer(path, body, number):
        if "chat" not in path:
            return said(b"", 404)
        guided = "<feedback>" in str(body)
        if sick[0] and guided and 4 <= int(body["messages"][0]["content"].split()[-1]) < 20:  # the last conversations
            return said(b"", 503)
        return said.chat("fine")

    server = serve(answer)
    settings = EndpointSettings(base_url=server.url, model="tiny", retries=0, max_concurrency=1)
    with pytest.raises(DriftError):
        stage(settings, count=40)
    sick[0], before = False, len(server.requests)
    rows, counts, notes = stage(settings, count=40)
    assert counts["failed"] == 0
    assert {row.text for row in rows} == {"fine"}
    assert any(note.startswith("Resuming") for note in notes)
    assert len([body for _, body, _ in server.requests[before:] if "<feedback>" in str(body)]) < 80


@pytest.mark.slow
def test_a_real_local_server(transformers_serve, stage):
    rows, counts, notes = stage(transformers_serve)
    assert len(rows) == counts["completions"] == 10
    assert {row.finish for row in rows} <= {"stop", "length"}
    assert any("supports" in note for note in notes)


THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture
def thinking_policy(tmp_path, tiny_policy):
    import shutil

    folder = shutil.copytree(tiny_policy, tmp_path / "thinks")
    (folder / "chat_template.jinja").write_text(THINKS, encoding="utf-8")
    return folder


def sampled(tmp_path, policy, url, **settings):
    prompts, out, notes = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl", []
    write_jsonl(prompts, items(3))
    sampling = SamplingSettings(
        backend="endpoint", endpoint=EndpointSettings(base_url=url, model="tiny", retries=0), max_new_tokens=16,
        max_prompt_length=512,
    )  # fmt: skip
    with listening(lambda *_: None, notes.append):
        sample(out, policy, prompts, sampling, FreshReplies(guided_share=1.0), PolicySettings(**settings), 1, 7)
    return list(read_jsonl(out, Completion)), notes


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {"enable_thinking": False}),
        ({"thinking": "keep"}, None),
        ({"thinking": "strip"}, None),
        ({"thinking": "keep", "template_arguments": {"enable_thinking": True}}, {"enable_thinking": True}),
    ],
)
def test_a_server_gets_the_template_arguments(tmp_path, thinking_policy, serve, said, settings, arguments):
    server = serve(lambda path, *_: said.chat("fine") if "chat" in path else said(b"", 404))
    sampled(tmp_path, thinking_policy, server.url, **settings)
    asked = [body for body in server.chats() if "question" in str(body["messages"])]
    assert len(asked) == 3
    assert all(body.get("chat_template_kwargs") == arguments for body in asked)


def test_a_server_that_refuses_them_is_asked_without(tmp_path, thinking_policy, serve, said):
    def answer(path, body, _):
        if "chat" not in path:
            return said(b"", 404)
        return said({"error": "unknown field"}, 400) if "chat_template_kwargs" in body else said.chat("fine")

    rows, notes = sampled(tmp_path, thinking_policy, serve(answer).url)
    assert [row.text for row in rows] == ["fine"] * 3
    assert any("does not take template arguments" in note and "enable_thinking=False" in note for note in notes)


def test_a_servers_thoughts_are_kept_apart(tmp_path, tiny_policy, serve, said):
    messages = {
        "question 0": {"content": "yes", "reasoning_content": "hm"},
        "question 1": {"content": None, "reasoning": "hm and"},
        "question 2": {"content": "<think>\nhm\n</think>\n\nyes"},
    }

    def answer(path, body, _):
        if "chat" not in path:
            return said(b"", 404)
        first = str(body["messages"][0]["content"])
        message = {"role": "assistant", **messages.get(first, {"content": "fine"})}
        cut = message["content"] is None
        return said({"choices": [{"message": message, "finish_reason": "length" if cut else "stop"}]})

    rows, _ = sampled(tmp_path, tiny_policy, serve(answer).url)
    assert [(row.text, row.reasoning) for row in rows] == [("yes", "hm"), ("", "hm and"), ("yes", "hm")]
