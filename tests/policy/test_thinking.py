"""Thoughts: what the policy wrote is taken apart by its own template's marks, and trained on as the mode says."""

import copy

import pytest

from drift.config import PolicySettings, SamplingSettings, parse_config
from drift.errors import ConfigError
from drift.policy.chat import (
    ChatFormat,
    check_template,
    encode_completion,
    encode_prompt,
    is_written_as,
    read_completion,
    reply_form,
)
from drift.policy.chat.reading import read_calls
from drift.policy.model import PolicyFacts
from drift.policy.samplers.requests import FreshReplies, build_requests
from drift.records import ChatMessage, FunctionCall, PromptItem, Reason, ToolCall

ASKED = (ChatMessage("user", "hi"),)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n"
    "</think>\n\n{% elif m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
)
SWITCHED = CHATML + (
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
KIMI = ("functions.f:0", 'functions.f:0<|tool_call_argument_begin|>{"a": 1}')
ALWAYS = CHATML + "<think>\n{% endif %}"


def chat(tokenizer, template, thinking="off", **arguments) -> ChatFormat:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return ChatFormat(changed, thinking, arguments)


def read(fmt: ChatFormat, raw: str):
    ids = fmt.tokenizer(raw, add_special_tokens=False)["input_ids"]
    return read_completion(fmt.tokenizer, reply_form(fmt, ASKED), ids)


@pytest.mark.parametrize(
    ("template", "thinking", "raw", "text", "reasoning"),
    [
        (SWITCHED, "off", "yes<|im_end|>", "yes", None),
        (SWITCHED, "off", "<think>\nhm\n</think>\n\nyes<|im_end|>", "yes", "hm"),
        (SWITCHED, "keep", "<think>\nhm\n</think>\n\nyes<|im_end|>", "yes", "hm"),
        (SWITCHED, "keep", "<think>\nhm, and then", "", "hm, and then"),
        (SWITCHED, "keep", "yes<|im_end|>", "yes", None),
        (ALWAYS, "off", "\n</think>\n\nyes<|im_end|>", "yes", None),  # the opening that the policy was given
        (ALWAYS, "keep", "hm\n</think>\n\nyes<|im_end|>", "yes", "hm"),
        (ALWAYS, "keep", "hm</think>yes<|im_end|>", "yes", "hm"),
        (ALWAYS, "keep", "hm, and then", "", "hm, and then"),
        (ALWAYS, "keep", "Not `</think>` yet, and then", "", "Not `</think>` yet, and then"),
        (ALWAYS, "keep", "`</think>`?</think>`</think>`!<|im_end|>", "`</think>`!", "`</think>`?"),
        (SWITCHED, "keep", "Put `</think>` after it.<|im_end|>", "Put `</think>` after it.", None),
        (SWITCHED, "off", "The </think> tag ends it.<|im_end|>", "The </think> tag ends it.", None),
    ],
)
def test_what_was_written_is_taken_apart(byte_tokenizer, template, thinking, raw, text, reasoning):
    found = read(chat(byte_tokenizer, template, thinking), raw)
    assert (found.text, found.reasoning) == (text, reasoning)


def test_an_earlier_reply_that_speaks_of_the_marks_is_shown_whole(byte_tokenizer):
    text = "Put the closing mark `</think>` after the thoughts."
    fmt = chat(byte_tokenizer, SWITCHED)
    prompt = encode_prompt(fmt, (*ASKED, ChatMessage("assistant", text), *ASKED), 1000)
    assert not isinstance(prompt, Reason)
    assert text in byte_tokenizer.decode(prompt.ids)


def test_a_template_without_thoughts_reads_what_it_always_read(byte_tokenizer):
    assert read(ChatFormat(byte_tokenizer), " yes \n<|im_end|>").text == " yes \n"


@pytest.mark.parametrize(
    ("thinking", "arguments"),
    [("off", {"enable_thinking": False}), ("keep", {}), ("strip", {"enable_thinking": False})],
)
def test_the_switch_is_found_by_trying(byte_tokenizer, thinking, arguments):
    fmt = chat(byte_tokenizer, SWITCHED, thinking)
    assert fmt.template.arguments == arguments
    assert fmt.for_sampling.template.arguments == ({} if thinking == "strip" else arguments)


def test_the_users_arguments_win(byte_tokenizer):
    fmt = chat(byte_tokenizer, SWITCHED, "off", enable_thinking=True)
    assert fmt.template.arguments == {"enable_thinking": True}
    assert reply_form(fmt, ASKED).opening == "<think>\n\n</think>\n\n"  # then it is the model's to write


@pytest.mark.parametrize(
    ("template", "name", "value"),
    [
        ("{% if thinking %}<think>{% endif %}", "thinking", True),
        ("{% if not thinking_off %}<think>{% endif %}", "thinking_off", False),
        ("{% if not no_think %}<think>{% endif %}", "no_think", False),
    ],
)
def test_switches_of_other_names(byte_tokenizer, template, name, value):
    head = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    end = "{% if add_generation_prompt %}<|im_start|>assistant\n" + template + "{% endif %}"
    keep = chat(byte_tokenizer, head + end, "keep")
    off = chat(byte_tokenizer, head + end, "off")
    told = {**keep.template.arguments, **{n: not v for n, v in off.template.arguments.items()}}
    assert told == {name: value}


def test_an_argument_about_something_else_is_no_switch(byte_tokenizer):
    template = byte_tokenizer.chat_template.replace("{{ message.content }}", "{{ message.content }}{{ reasoning }}")
    assert chat(byte_tokenizer, template + "{# thinking_budget #}", "off").template.arguments == {}


@pytest.mark.parametrize(
    ("thinking", "written", "used"),
    [
        ("off", "<think>\nhm\n</think>\n\nyes<|im_end|>", False),
        ("off", "yes<|im_end|>", True),
        ("keep", "<think>\nhm\n</think>\n\nyes<|im_end|>", True),
    ],
)
def test_the_sampled_ids_are_trained_on_only_in_the_form_of_the_mode(byte_tokenizer, thinking, written, used):
    fmt = chat(byte_tokenizer, SWITCHED, thinking)
    ids = fmt.tokenizer(written, add_special_tokens=False)["input_ids"]
    reply = ChatMessage("assistant", "yes", reasoning="hm" if thinking == "keep" else None)
    assert is_written_as(fmt, reply_form(fmt, ASKED), reply, ids) is used
    encoded = encode_completion(fmt, ASKED, reply, "stop")
    assert fmt.tokenizer.decode(list(encoded)) == written if used else "yes<|im_end|>"


def test_a_reply_that_lacks_the_opening_is_encoded_anew(byte_tokenizer):
    """A model that did not think, in a mode that thinks: the empty thought has to stand on both sides."""
    fmt = chat(byte_tokenizer, SWITCHED, "keep")
    ids = fmt.tokenizer("yes<|im_end|>", add_special_tokens=False)["input_ids"]
    reply = ChatMessage("assistant", "yes")
    assert not is_written_as(fmt, reply_form(fmt, ASKED), reply, ids)
    assert fmt.tokenizer.decode(list(encode_completion(fmt, ASKED, reply, "stop"))) == (
        "<think>\n\n</think>\n\nyes<|im_end|>"
    )


@pytest.mark.parametrize(
    ("template", "thinking", "given"),
    [
        (ALWAYS, "off", "\n</think>\n\n"),
        (ALWAYS, "keep", ""),
        (ALWAYS, "strip", ""),
        (SWITCHED, "off", ""),
        (SWITCHED, "strip", ""),
    ],
)
def test_a_policy_that_is_not_to_think_is_given_the_opening(byte_tokenizer, template, thinking, given):
    fmt = chat(byte_tokenizer, template, thinking)
    facts = PolicyFacts(fmt, 1000, frozenset(), "x")
    item = PromptItem("p", "c", 1, ASKED, "train")
    sampling = SamplingSettings(max_new_tokens=8, max_prompt_length=500)
    (request,), _ = build_requests(facts, [item], sampling, FreshReplies(), 1, 7)
    assert fmt.tokenizer.decode(list(request.prompt.given)) == given
    assert request.ids == (*request.prompt.ids, *request.prompt.given)
    assert len(encode_prompt(fmt, ASKED, 500).ids) <= 500


def test_old_thoughts_are_shown_only_where_thoughts_are_kept(byte_tokenizer):
    history = (*ASKED, ChatMessage("assistant", "<think>\nhm\n</think>\n\nyes"), ChatMessage("user", "sure?"))
    shown = {mode: chat(byte_tokenizer, SWITCHED, mode) for mode in ("off", "keep")}
    texts = {mode: fmt.tokenizer.decode(list(encode_prompt(fmt, history, 1000).ids)) for mode, fmt in shown.items()}
    assert "hm" not in texts["off"]
    assert "assistant\nyes<|im_end|>" in texts["off"]
    assert "<think>\nhm\n</think>\n\nyes<|im_end|>" in texts["keep"]


def test_the_line_at_load_says_what_was_found(byte_tokenizer):
    assert check_template(chat(byte_tokenizer, SWITCHED, "off"), "m").line() == (
        "chat template: the model writes the reply alone, ends with <|im_end|>; thinking off (enable_thinking=False)"
    )
    assert check_template(chat(byte_tokenizer, ALWAYS, "off"), "m").line() == (
        "chat template: the model writes '\\n</think>\\n\\n' + reply, ends with <|im_end|>; thinking off "
        "(the template's default)"
    )
    assert check_template(chat(byte_tokenizer, SWITCHED, "keep"), "m").line() == (
        "chat template: the model writes '<think>\\n' + thought + '\\n</think>\\n\\n' + reply, ends with <|im_end|>; "
        "thinking keep (the template's default)"
    )


def test_what_the_template_writes_for_the_model_need_not_come_back_in_the_history(byte_tokenizer):
    """Many templates show an empty thought to a model that is not to think, and none behind it later."""
    head = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    end = (
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    )
    fmt = chat(byte_tokenizer, head + end, "off")
    assert reply_form(fmt, ASKED).tail == "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    encoded = encode_completion(fmt, ASKED, ChatMessage("assistant", "yes"), "stop")
    assert fmt.tokenizer.decode(list(encoded)) == "yes<|im_end|>"


@pytest.mark.parametrize(
    ("raw", "calls"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', [("f", '{"a": 1}')]),
        ("<tool_call>f(</tool_call>", [("f", "f(")]),
        ('<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>', [("f", "{}"), ("g", "{}")]),
        ('[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g"}]', [("f", "{}"), ("g", "{}")]),
        ("<tool_call>[]</tool_call>", [("[]", "[]")]),
        ('<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>', [KIMI]),
        ('<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {}}]<|END_ACTION|>', [("f", "{}")]),
        ('<tool_calls>[{"name": "f", "arguments": {}}, {"name": "g"}]</tool_calls>', [("f", "{}"), ("g", "{}")]),
        ("<minimax:tool_call>f()</minimax:tool_call>", [("f", "f()")]),
        ("<seed:tool_call>f()</seed:tool_call>", [("f", "f()")]),
        ("<｜DSML｜function_calls>f()</｜DSML｜function_calls>", [("f", "f()")]),
        ('<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>', [("f", "{}")]),
        ("no call", []),
        ("Put them between `<tool_calls>` and `</tool_calls>`.", []),
        ('Not "<tool_call>" but <tool_call>{"name": "f"}</tool_call>', [("f", "{}")]),
    ],
)
def test_calls_are_read(raw, calls):
    assert read_calls(raw) == tuple(ToolCall(FunctionCall(name, arguments)) for name, arguments in calls)


def test_what_ends_the_turn_is_no_part_of_a_call(byte_tokenizer):
    """Mistral's calls have no closing mark."""
    form = reply_form(ChatFormat(byte_tokenizer), ASKED)
    ids = byte_tokenizer('[TOOL_CALLS][{"name": "f", "arguments": {}}]<|im_end|>')["input_ids"]
    assert read_completion(byte_tokenizer, form, ids).tool_calls == (ToolCall(FunctionCall("f", "{}")),)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"thinking": "maybe"}, "policy.thinking"),
        ({"template_arguments": {"tools": []}}, "tools is set by drift"),
        ({"template_arguments": {"enable_thinking": "off"}}, "enable_thinking is 'off', a text.*write false"),
        ({"date": "tomorrow"}, "'tomorrow' is no date; write it as 2026-11-28"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(policy, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"policy": policy}, "test")


def test_settings_reach_the_format(byte_tokenizer):
    settings = PolicySettings(thinking="strip", template_arguments={"a": 1}, date="2026-11-28")
    fmt = ChatFormat.of(byte_tokenizer, settings)
    assert (fmt.thinking, fmt.arguments, fmt.date) == ("strip", {"a": 1}, "2026-11-28")
