"""Forms that templates of 2025 and 2026 have and TRL ships no example of; the right values are by hand."""

import copy
from dataclasses import replace

import pytest

from drift.errors import PrerequisiteError
from drift.policy.chat import (
    ChatFormat,
    check_template,
    encode_completion,
    encode_prompt,
    is_written_as,
    reply_form,
    without_turns,
)
from drift.policy.chat.reading import read_completion
from drift.policy.decode import Generated
from drift.policy.sampler import read_reply
from drift.records import ChatMessage, FunctionCall, Reason, ToolCall

ASKED = (ChatMessage("user", "hi"),)
REPLY = ChatMessage("assistant", "yes")
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>"
PHI_4_MINI = TURNS + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<|pad|>{% endif %}"
TWO_TOKENS = TURNS + "<|pad|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
HUNYUAN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<answer>\n"
    "{{ m.content }}\n</answer>{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GLM = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
SEED = (
    "{% if thinking_budget is defined and thinking_budget > 0 %}budget {{ thinking_budget }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if thinking_budget is defined and thinking_budget == 0 %}"
    "<seed:think>I may not think, so I answer at once.</seed:think>{% endif %}{% endif %}"
)


def chat(tokenizer, template, thinking="off", **more) -> ChatFormat:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return ChatFormat(changed, thinking, **more)


def ids(fmt: ChatFormat, text: str) -> tuple[int, ...]:
    return tuple(fmt.tokenizer(text, add_special_tokens=False)["input_ids"])


def written(fmt: ChatFormat) -> str:
    return fmt.tokenizer.decode(list(encode_completion(fmt, ASKED, REPLY, "stop")))


def test_what_ends_a_conversation_ends_no_turn(byte_tokenizer):
    """Phi-4-mini shows `<|end|><|endoftext|>` behind the last reply and `<|end|>` behind all others."""
    fmt = chat(byte_tokenizer, PHI_4_MINI)
    assert written(fmt) == "yes<|im_end|>"
    fmt.tokenizer.eos_token = "<|pad|>"
    assert written(chat(fmt.tokenizer, PHI_4_MINI)) == "yes<|im_end|>"


def test_nothing_is_written_behind_the_token_at_which_servers_stop(byte_tokenizer):
    """The tokenizer's EOS, or one that the generation config declares; otherwise both sides would end differently."""
    assert written(chat(byte_tokenizer, TWO_TOKENS)) == "yes<|im_end|>"
    other = copy.deepcopy(byte_tokenizer)
    other.eos_token = "<|pad|>"
    assert written(chat(other, TWO_TOKENS)) == "yes<|im_end|><|pad|>"
    declared = (other.convert_tokens_to_ids("<|im_end|>"),)
    assert written(chat(other, TWO_TOKENS, declared_ends=declared)) == "yes<|im_end|>"


def test_text_before_the_end_token_is_written_and_is_no_answer(byte_tokenizer):
    fmt = chat(byte_tokenizer, HUNYUAN)
    assert written(fmt) == "<answer>\nyes\n</answer><|im_end|>"
    form = reply_form(fmt, ASKED)
    sampled = ids(fmt, "<answer>\nyes\n</answer><|im_end|>")
    assert read_completion(fmt.tokenizer, form, sampled).text == "yes"
    assert is_written_as(fmt, form, REPLY, sampled)
    assert read_completion(fmt.tokenizer, form, ids(fmt, "<answer>\nyes\n")).text == "yes\n"  # cut


def test_a_reply_without_the_line_break_that_opens_replies_is_encoded_anew(byte_tokenizer):
    fmt = chat(byte_tokenizer, GLM)
    form = reply_form(fmt, ASKED)
    assert form.opening == "\n"
    assert is_written_as(fmt, form, REPLY, ids(fmt, "\nyes<|im_end|>"))
    assert not is_written_as(fmt, form, REPLY, ids(fmt, "yes<|im_end|>"))


@pytest.mark.parametrize(
    ("thinking", "arguments", "prompt"),
    [
        ("off", {"thinking_budget": 0}, "<seed:think>I may not think, so I answer at once.</seed:think>"),
        ("keep", {}, "<|im_start|>assistant\n"),
    ],
)
def test_a_budget_of_thoughts_is_a_number(byte_tokenizer, thinking, arguments, prompt):
    """Seed-OSS: without a budget it writes the thought for the model; `true` would be a budget of one token."""
    fmt = chat(byte_tokenizer, SEED, thinking)
    assert fmt.template.arguments == arguments
    assert fmt.tokenizer.decode(list(encode_prompt(fmt, ASKED, 1000).ids)).endswith(prompt)
    assert written(fmt) == "yes<|im_end|>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('effort must be low or high') }}", "refuses a conversation of user: effort must be low"),
        ("{% for m in messages %}{{ m.content }", "refuses a conversation of user: unexpected '}'"),
        (PHI_4_MINI.replace("m.content", "m.content | upper"), "does not show the text of a plain request"),
        (
            {"tool_use": TURNS, "rag": TURNS},
            r"none of its tokenizer's chat templates \(rag, tool_use\) is named default",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(byte_tokenizer, template, message):
    with pytest.raises(PrerequisiteError, match=message):
        check_template(chat(byte_tokenizer, template), "my-model")


def test_a_sampled_reply_lacks_the_text_before_its_end_token(byte_tokenizer):
    """deepseek-coder writes a line break before its end token. A reply that kept it would be trained with two."""
    line_break = TURNS.replace("<|im_end|>", "\n<|im_end|>") + "{% endfor %}"
    fmt = chat(byte_tokenizer, line_break + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    prompt = encode_prompt(fmt, ASKED, 200)
    written = ids(fmt, "yes\n<|im_end|>")
    reply = read_reply(fmt, prompt, Generated("yes\n", written, "stop"))
    assert (reply.text, reply.token_ids) == ("yes", written)
    assert is_written_as(fmt, prompt.form, REPLY, written)
    assert encode_completion(fmt, ASKED, REPLY, "stop") == written


PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n"
NANO = (
    "{% set ns = namespace(off=false) %}{% for m in messages %}{% if '/no_think' in m.content %}{% set ns.off = true %}"
    "{% endif %}{% if m.role != 'assistant' %}<|im_start|>{{ m.role }}\n{{ m.content.replace('/no_think', '') }}"
    "<|im_end|>\n{% elif not loop.last %}<|im_start|>assistant\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n"
    "{% endif %}{% endfor %}{% set open = '<think></think>' if ns.off else '<think>\n' %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ open }}{% elif messages[-1].role == 'assistant' %}"
    "<|im_start|>assistant\n{{ open }}{{ messages[-1].content }}<|im_end|>\n{% endif %}"
)


@pytest.mark.parametrize("thinking", ["off", "keep"])
def test_a_reply_stands_behind_the_thought_that_the_prompt_opens(byte_tokenizer, thinking):
    """Nemotron Nano 2 takes the last reply for all that the model wrote, thought included; a log has the answer."""
    fmt = chat(byte_tokenizer, NANO, thinking)
    assert fmt.tokenizer.decode(list(encode_prompt(fmt, ASKED, 1000).ids)).endswith("assistant\n<think>\n")
    assert written(fmt) == "\n</think>\n\nyes<|im_end|>"


def test_a_text_that_switches_thinking_off_has_a_form_of_its_own(byte_tokenizer):
    fmt = chat(byte_tokenizer, NANO)
    for asked in ((ChatMessage("system", "/no_think"), *ASKED), (ChatMessage("user", "hi /no_think"),)):
        assert fmt.tokenizer.decode(list(encode_prompt(fmt, asked, 1000).ids)).endswith("assistant\n<think></think>")
        assert fmt.tokenizer.decode(list(encode_completion(fmt, asked, REPLY, "stop"))) == "yes<|im_end|>"
    assert reply_form(fmt, ASKED).starts_thinking


def test_a_mark_of_thoughts_switches_them_where_the_template_says_so(byte_tokenizer):
    """Nemotron Nano VL looks for `/think` too, and knows that `</think>` is none."""
    switched_on = "{% if '/think' in m.content.replace('</think>', '') %}{% set ns.off = false %}{% endif %}"
    fmt = chat(byte_tokenizer, NANO.replace("{% if m.role", switched_on + "{% if m.role", 1))
    for text, starts in (("Why </think>?", False), ("Why </think>? /think", True), ("ls /home/think", True)):
        asked = (ChatMessage("system", "/no_think"), ChatMessage("user", text))
        prompt = fmt.tokenizer.decode(list(encode_prompt(fmt, asked, 1000).ids))
        assert prompt.endswith("<think>\n") is reply_form(fmt, asked).starts_thinking is starts


def test_words_that_are_said_again_need_no_new_form(byte_tokenizer):
    fmt = chat(byte_tokenizer, NANO)
    for times in range(1, 9):
        reply_form(fmt, (ChatMessage("user", "/think and /no_think " * times),))
    assert len(fmt.layouts) == 1


def test_the_form_is_that_of_the_turns_that_are_left(byte_tokenizer):
    """The word that switched thinking off stood in a turn that did not fit."""
    fmt = chat(byte_tokenizer, NANO)
    asked = (ChatMessage("user", "/no_think" + "x" * 500), ChatMessage("assistant", "b"), ChatMessage("user", "c"))
    whole, shortened = (encode_prompt(fmt, asked, room, give_opening=True) for room in (1000, 300))
    assert (whole.dropped_turns, whole.form.opening, whole.given) == (0, "", ())
    assert fmt.tokenizer.decode(list(shortened.ids)).endswith("assistant\n<think>\n")
    assert (shortened.dropped_turns, shortened.form.opening) == (1, "\n</think>\n\n")
    assert fmt.tokenizer.decode(list(shortened.given)) == "\n</think>\n\n"
    kept = without_turns(asked, 1)
    assert fmt.tokenizer.decode(list(encode_completion(fmt, kept, REPLY, "stop"))) == "\n</think>\n\nyes<|im_end|>"


GEMMA_4 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.tool_calls and m.reasoning_content %}"
    "{{ '<|channel>thought\\n' + m.reasoning_content + '\\n<channel|>' }}{% endif %}{{ m.content }}<|im_end|>"
    "{% endfor %}" + PROMPT + "{% if not enable_thinking %}{{ '<|channel>thought\\n<channel|>' }}{% endif %}{% endif %}"
)
NO_THOUGHT = (
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n' }}{% endif %}{% endif %}"
)
SMOLLM_3 = TURNS + "{% endfor %}" + PROMPT + NO_THOUGHT
COMMAND = (
    "{# <|START_THINKING|> and <|END_THINKING|> #}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}" + PROMPT + "{% endif %}"
)
ALL = TURNS.replace("{{ m.content }}", "{% if m.role == 'assistant' %}all\n{% endif %}{{ m.content }}")
ALL += "{% endfor %}" + PROMPT + "{% endif %}"
SPACE = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
SPACE += "{% if add_generation_prompt %}assistant:{% endif %}"
SOLAR = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.reasoning %}<|think|>{{ m.reasoning }}<|pad|>"
    "<|im_start|>assistant{% endif %}<|content|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "completion"),
    [
        (GEMMA_4, "<|channel>thought\nhm\n<channel|>yes<|im_end|>"),
        (SMOLLM_3, "<think>\nhm\n</think>\nyes<|im_end|>"),
        (COMMAND, "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|><|im_end|>"),
        (COMMAND.partition("#}")[2], "<think>\nhm\n</think>\n\n<|START_RESPONSE|>yes<|END_RESPONSE|><|im_end|>"),
        (ALL, "<think>\nhm\n</think>\n\nall\nyes<|im_end|>"),  # Functionary
        (SPACE, "<think>\nhm\n</think>\n\nyes<|im_end|>"),
        (SOLAR, "<|think|>hm<|pad|><|im_start|>assistant<|content|>yes<|im_end|>"),
    ],
)
def test_a_thought_has_the_marks_and_the_line_breaks_that_the_template_writes(byte_tokenizer, template, completion):
    """Also where the template shows no thought of a plain reply, and only its text says how one is written."""
    fmt = chat(byte_tokenizer, template, "keep")
    reply = ChatMessage("assistant", "yes", reasoning="hm")
    encoded = encode_completion(fmt, ASKED, reply, "stop")
    assert fmt.tokenizer.decode(list(encoded)) == completion
    assert is_written_as(fmt, reply_form(fmt, ASKED), reply, encoded)


def test_a_thought_that_ends_where_the_server_stops_is_no_answer(byte_tokenizer):
    fmt = chat(byte_tokenizer, SOLAR, "keep")
    cut = read_completion(fmt.tokenizer, reply_form(fmt, ASKED), ids(fmt, "<|think|>hm<|pad|>"))
    assert (cut.text, cut.reasoning) == ("", "hm")


EMPTY_THOUGHT = TURNS.replace("{{ m.content }}", "{% if m.role == 'assistant' %}HEAD{% endif %}{{ m.content }}")


@pytest.mark.parametrize(
    ("given", "shown", "completion"),
    [
        ("<|START_THINKING|><|END_THINKING|>", "<|START_TEXT|>", "<|START_TEXT|>yes<|im_end|>"),
        ("<think></think>", "</think>", "yes<|im_end|>"),
        ("<think>\n\n</think>\n\n", "", "yes<|im_end|>"),
    ],
    ids=["Command A of 2026", "DeepSeek V3.2", "Qwen3"],
)
def test_an_empty_thought_in_the_prompt_need_not_come_back_alike(byte_tokenizer, given, shown, completion):
    fmt = chat(byte_tokenizer, EMPTY_THOUGHT.replace("HEAD", shown) + "{% endfor %}" + PROMPT + given + "{% endif %}")
    assert written(fmt) == completion


def test_a_line_break_before_the_end_token_is_seen_in_the_history(byte_tokenizer):
    """Apriel 1.6 shows nothing behind the last reply, and a line break and its end token behind every other."""
    turn = "{% if m.role == 'assistant' and loop.last %}{% else %}{{ '\\n<|im_end|>\\n' }}{% endif %}"
    fmt = chat(byte_tokenizer, TURNS.replace("<|im_end|>", turn) + "{% endfor %}" + PROMPT + "{% endif %}")
    assert written(fmt) == "yes\n<|im_end|>"


CALL = ToolCall(FunctionCall("f", '{"a": 1}'), "k")
CALLS = TURNS.replace(
    "<|im_end|>",
    "{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}BEHIND",
)
CALLS += "{% endfor %}" + PROMPT + "{% endif %}"


@pytest.mark.parametrize(
    ("behind", "end"),
    [
        ("<|im_end|>{% if m.tool_calls %}<|im_start|>assistant\n{% endif %}", "<|im_end|>"),  # Command R7B
        ("{% if m.role == 'user' %}<|im_end|>{% endif %}", "<|pad|>"),  # GLM
    ],
    ids=["more behind the end", "ends with the token that begins the answer"],
)
def test_calls_end_where_a_server_stops(byte_tokenizer, behind, end):
    template = CALLS.replace("BEHIND", behind).replace(
        "<|im_start|>{{ m.role }}\n", "{{ '<|pad|>' if m.role == 'tool' else '<|im_start|>' ~ m.role ~ '\\n' }}", 1
    )
    fmt = chat(byte_tokenizer, template, declared_ends=(byte_tokenizer.convert_tokens_to_ids("<|pad|>"),))
    reply = ChatMessage("assistant", "", tool_calls=(CALL,))
    encoded = encode_completion(fmt, ASKED, reply, "stop")
    assert fmt.tokenizer.decode(list(encoded)) == f'<tool_call>f{{"a": 1}}</tool_call>{end}'


def test_a_declared_end_that_the_tokenizer_lacks_ends_nothing(byte_tokenizer):
    fmt = chat(byte_tokenizer, CALLS.replace("BEHIND", "<|im_end|>"), declared_ends=(10**6,))
    call = replace(CALL, function=FunctionCall("f", '{"a": "None of them"}'))
    encoded = encode_completion(fmt, ASKED, ChatMessage("assistant", "", tool_calls=(call,)), "stop")
    assert fmt.tokenizer.decode(list(encoded)) == '<tool_call>f{"a": "None of them"}</tool_call><|im_end|>'


def test_a_call_behind_the_end_of_the_turn_is_none_that_a_model_can_write(byte_tokenizer):
    """Nemotron Nano 2 shows a text and a call as two turns."""
    two_turns = CALLS.replace("{% for c", "{% if m.tool_calls %}<|im_end|><|im_start|>assistant\n{% endif %}{% for c")
    fmt = chat(byte_tokenizer, two_turns.replace("BEHIND", "<|im_end|>"))
    reply = ChatMessage("assistant", "Let me see.", tool_calls=(CALL,))
    assert encode_completion(fmt, ASKED, reply, "stop") is Reason.TEMPLATE_HIDES
