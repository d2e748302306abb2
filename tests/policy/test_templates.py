"""Every template that TRL ships: what training sees is what a server shows, then what the template itself writes."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the templates are TRL's: pip install -e '.[dev]'")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    import templates  # pyright: ignore[reportMissingImports]

    yield templates
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def table(bench):
    return bench.measure()


def test_nothing_is_silent_and_nothing_refused(bench, table):
    totals = bench.totals(table)
    assert (totals["silent"], totals["refused"]) == (0, 0)
    assert totals["templates"] >= 41
    assert sum(totals[kind] for kind in ("exact", "adapted", "dropped")) == totals["templates"] * len(bench.SHAPES)


@pytest.mark.parametrize(
    ("template", "shape", "outcome"),
    [
        ("gemma", "system first", "adapted (system_folded)"),
        ("gemma", "assistant first", "adapted (greeting_folded)"),
        ("gemma3", "two users", "adapted (merged)"),
        ("qwen3_5_think", "system in the middle", "adapted (system_folded)"),
        ("phi3", "tool call and answer", "dropped (template_hides)"),
        ("gemma", "tool call and answer", "dropped (template_refuses)"),
        ("qwen3", "tool call and answer", "exact"),
        ("deepseek_r1_distill", "plain", "exact"),
        ("gptoss", "thoughts in the log", "exact"),
        ("idefics3", "plain", "exact"),
    ],
)
def test_what_becomes_of_a_conversation(table, template, shape, outcome):
    assert str(table[template][shape]) == outcome


@pytest.mark.parametrize(
    ("template", "prompt_ends", "completion"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n\n</think>\n\n", "yes<|im_end|>"),
        ("qwen2_5", "<|im_start|>assistant\n", "yes<|im_end|>"),
        ("gptoss", "<|end|><|start|>assistant", "<|channel|>final<|message|>yes<|return|>"),
        ("muse_glimmer", "<|eot|><|start|>assistant", " to=user<|message|>yes<|eot|>"),
        ("glm4moe", "/nothink<|assistant|>\n<think></think>", "\nyes<|user|>"),
        ("deepseek_r1_distill", "<｜Assistant｜><think>\n", "\n</think>\n\nyes<｜end▁of▁sentence｜>"),
        ("nemotron_3_nano", "<|im_start|>assistant\n<think></think>", "yes<|im_end|>"),
        ("cohere2", "<|CHATBOT_TOKEN|><|START_RESPONSE|>", "yes<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"),
        ("phi3", "<|end|>\n<|assistant|>\n", "yes<|end|>"),
        ("idefics3", "<end_of_utterance>\nAssistant:", " yes<end_of_utterance>"),
        ("llava_next", "[INST] hi [/INST]", " yes</s>"),
    ],
)
def test_the_form_without_thoughts(bench, template, prompt_ends, completion):
    """By hand, from the templates' own texts."""
    shown, found = written(bench, template, "off", "yes")
    assert found == completion
    assert shown.endswith(prompt_ends)


def written(bench, template, thinking, text, reasoning=None) -> tuple[str, str]:
    from drift.policy.chat import ChatFormat, encode_completion, encode_prompt
    from drift.records import ChatMessage

    chat = ChatFormat(bench.tokenizer_for(bench.templates()[template]), thinking=thinking, date=bench.DATE)
    asked = (ChatMessage("user", "hi"),)
    prompt = encode_prompt(chat, asked, 100_000)
    reply = ChatMessage("assistant", text, reasoning=reasoning)
    completion = encode_completion(chat, asked, reply, "stop")
    return chat.tokenizer.decode(list(prompt.ids)), chat.tokenizer.decode(list(completion))


@pytest.mark.parametrize(
    ("template", "completion"),
    [
        ("qwen3", "<think>\nhm\n</think>\n\nyes<|im_end|>"),
        ("qwen3_5_think", "hm\n</think>\n\nyes<|im_end|>"),
        ("deepseek_r1_distill", "hm\n</think>\n\nyes<｜end▁of▁sentence｜>"),
        ("nemotron_3_nano", "hm\n</think>\nyes<|im_end|>"),
        (
            "gptoss",
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>",
        ),
    ],
)
def test_the_form_with_thoughts(bench, template, completion):
    assert written(bench, template, "keep", "yes", "hm")[1] == completion


def test_the_command_prints_the_bar(bench, table, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda: table)
    monkeypatch.setattr(sys, "argv", ["templates.py", "--json"])
    bench.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed == bench.totals(table)
    assert list(printed) == ["templates", "exact", "adapted", "dropped", "refused", "silent"]


def test_the_table_in_the_docs_is_up_to_date(bench, table):
    page = (BENCHMARKS.parent / "docs" / "models.md").read_text("utf-8")
    assert page.partition(bench.BEGIN)[2].partition(bench.END)[0] == bench.markdown(table)


@pytest.mark.parametrize(
    ("template", "completion"),
    [
        ("qwen3", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
        (
            "gptoss",
            ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>',
        ),
        ("gemma4_v5", '<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>}<tool_call|><|tool_response>'),
    ],
)
def test_a_call_is_a_completion_too(bench, template, completion):
    from drift.policy.chat import ChatFormat, encode_completion
    from drift.records import ChatMessage

    chat = ChatFormat(bench.tokenizer_for(bench.templates()[template]), date=bench.DATE)
    call = ChatMessage("assistant", "", tool_calls=(bench.CALL,))
    ids = encode_completion(chat, (ChatMessage("user", "Weather?"),), call, "stop", bench.TOOLS)
    written = chat.tokenizer.decode(list(ids))
    assert written.removeprefix("<think>\n\n</think>\n\n") == completion


def test_a_call_that_only_its_schema_names_is_hidden(bench):
    """LFM2's template shows the schemas and no call: what it writes for one is an empty reply."""
    from drift.policy.chat import ChatFormat, encode_completion
    from drift.records import ChatMessage, Reason

    chat = ChatFormat(bench.tokenizer_for(bench.templates()["lfm2"]), date=bench.DATE)
    call = ChatMessage("assistant", "", tool_calls=(bench.CALL,))
    asked = (ChatMessage("user", "Weather?"),)
    assert encode_completion(chat, asked, call, "stop", bench.TOOLS) is Reason.TEMPLATE_HIDES


def test_a_users_next_message_is_encoded_by_every_template(bench):
    """Also by those that refuse two replies in a row (Gemma)."""
    from drift.policy.chat import ChatFormat, encode_user_turn
    from drift.records import ChatMessage

    chats = (ChatMessage("user", "Sort b a."), ChatMessage("assistant", "b a"))
    for name, template in bench.templates().items():
        chat = ChatFormat(bench.tokenizer_for(template), date=bench.DATE)
        ids = encode_user_turn(chat, chats, "Wrong order.")
        assert isinstance(ids, tuple), name
        before, said = (chat.tokenizer.decode(list(part)) for part in ids)
        assert said.strip() == "Wrong order.", name
        assert before.index("Sort b a.") < before.rindex("b a"), name
        if name == "gemma":
            assert before.endswith("<start_of_turn>model\nb a<end_of_turn>\n<start_of_turn>user\n")


def test_folded_messages_stay_in_their_order():
    from drift.policy.chat.adapting import adaptations
    from drift.records import ChatMessage

    def folded(*messages: tuple[str, str]) -> tuple[ChatMessage, ...]:
        chat = [ChatMessage(role, text) for role, text in messages]  # pyright: ignore[reportArgumentType]
        return next(changed for names, changed in adaptations(chat) if names == ("system_folded",))

    leading = folded(("user", "a"), ("system", "s1"), ("system", "s2"), ("user", "b"))
    assert leading == (ChatMessage("user", "a"), ChatMessage("user", "s1\n\ns2\n\nb"))
    trailing = folded(("user", "a"), ("system", "s1"), ("system", "s2"))
    assert trailing == (ChatMessage("user", "a\n\ns1\n\ns2"),)


def test_merged_replies_keep_both_thoughts():
    from drift.policy.chat.adapting import adaptations
    from drift.records import ChatMessage

    replies = [ChatMessage("assistant", text, reasoning=thought) for text, thought in (("a", "x"), ("b", "y"))]
    merged = next(changed for names, changed in adaptations(replies) if names == ("merged",))
    assert merged == (ChatMessage("assistant", "a\n\nb", reasoning="x\n\ny"),)


BROKEN = {
    "arguments that are no JSON": ('[{"type": "function", "function": {"name": "f"}}]', '{"city": '),
    "arguments that are a list": ('[{"type": "function", "function": {"name": "f"}}]', "[1]"),
    "tools that are no JSON": ("{", "{}"),
    "tools that are no list": ('{"name": "f"}', "{}"),
    "a schema without anything": ("[{}]", "{}"),
    "deep arguments": ("[]", "[" * 1000 + "]" * 1000),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_tools_and_arguments_are_shown_or_dropped_by_name(bench, broken):
    from drift.policy.chat import ChatFormat, EncodedPrompt, encode_prompt
    from drift.records import ChatMessage, FunctionCall, Reason, ToolCall

    tools, arguments = BROKEN[broken]
    call = ToolCall(FunctionCall("f", arguments), "k")
    messages = (
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "", tool_calls=(call,)),
        ChatMessage("tool", "dry", tool_call_id="k"),
    )
    for name, template in bench.templates().items():
        chat = ChatFormat(bench.tokenizer_for(template), date=bench.DATE)
        found = encode_prompt(chat, messages, 100_000, tools=tools)
        assert isinstance(found, EncodedPrompt | Reason), name
