"""The Go template of a Modelfile shows what the model's own chat template shows: checked with an evaluator of its own
for the few constructs of text/template that it uses, on the templates that TRL ships."""

import copy
import re
import shutil
from pathlib import Path

import pytest

from drift.config import PolicySettings, SamplingSettings
from drift.delivery.modelfile import go_template, prompt_form, write_modelfile
from drift.policy.chat import ChatFormat

CHATS = [
    [("user", "hi")],
    [("system", "be kind"), ("user", "hi {{ there }}")],
    [("user", "a"), ("assistant", "b\nc"), ("user", 'd "e"')],
    [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")],
]


def go(template: str, messages: list[dict[str, str]]) -> str:
    """What text/template makes of `{{ if eq .Role "x" }}`, `else if`, `end`, `range .Messages`, `.Content`, quoted
    strings and `if ne (index .Messages 0).Role "system"`."""
    parts = re.split(r"(\{\{ .*? \}\})", template)
    at = 0

    def block(message: dict[str, str] | None, live: bool) -> tuple[str, str]:
        """Everything up to the `end` or `else` of this block; returns the text and what ended it."""
        nonlocal at
        out = ""
        while at < len(parts):
            part, at = parts[at], at + 1
            if not part.startswith("{{ "):
                out += part if live else ""
                continue
            action = part[3:-3]
            if action == "end" or action.startswith("else if "):
                return out, action
            if action == "range .Messages":
                start, text = at, ""
                for message_ in messages:
                    at = start
                    text += block(message_, live)[0]
                out += text
            elif action.startswith("if "):
                done = False
                condition: str | None = action.removeprefix("if ")
                while condition is not None:
                    holds = truth(condition, message) if live and not done else False
                    text, ended = block(message, live and holds)
                    out, done = out + text, done or holds
                    condition = ended.removeprefix("else if ") if ended != "end" else None
            elif action == ".Content":
                out += (message or {})["content"] if live else ""
            else:
                quoted = re.sub(r"\\U([0-9a-f]{8})", lambda match: chr(int(match[1], 16)), action[1:-1])
                assert re.fullmatch(r'".*"', action, re.DOTALL), action
                out += quoted if live else ""
        return out, "end"

    def truth(condition: str, message: dict[str, str] | None) -> bool:
        if condition == 'ne (index .Messages 0).Role "system"':
            return messages[0]["role"] != "system"
        role = re.fullmatch(r'eq \.Role "(\w+)"', condition)
        assert role, condition
        return (message or {})["role"] == role[1]

    return block(None, True)[0]


def messages_of(chat: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in chat]


def with_template(tokenizer, template: str):
    changed = copy.deepcopy(tokenizer)
    changed.bos_token = "<|pad|>"
    changed.chat_template = template
    return changed


def trl_template(name: str) -> str:
    trl = pytest.importorskip("trl", reason="the templates are TRL's: pip install -e '.[dev]'")
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen3_instruct_2507", "llama3", "phi3", "lfm2", "cohere2"])
def test_the_go_template_shows_what_the_chat_template_shows(byte_tokenizer, name):
    tokenizer = with_template(byte_tokenizer, trl_template(name))
    form = prompt_form(ChatFormat.of(tokenizer, PolicySettings()))
    assert form is not None
    template = go_template(form)
    for each in CHATS:
        chat = messages_of(each)
        shown = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        assert go(template, chat) == shown


@pytest.mark.parametrize("name", ["gemma", "gptoss"])
def test_a_template_that_does_more_has_no_go_template(byte_tokenizer, name):
    """Gemma refuses system messages, gpt-oss moves them into another one."""
    tokenizer = with_template(byte_tokenizer, trl_template(name))
    assert prompt_form(ChatFormat.of(tokenizer, PolicySettings())) is None


def test_texts_that_go_or_ollama_would_read_are_quoted(byte_tokenizer):
    odd = with_template(
        byte_tokenizer,
        "{% for m in messages %}{{ '{{ x }} \"\"\"\u00a0<' + m.role + '>' + m.content + '\u00e9\\\\' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\"a' }}{% endif %}",
    )
    form = prompt_form(ChatFormat.of(odd, PolicySettings()))
    assert form is not None
    template = go_template(form)
    assert '"""' not in template
    assert all(letter.isprintable() for letter in template)
    for each in CHATS:
        chat = messages_of(each)
        assert go(template, chat) == odd.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def test_the_modelfile_of_a_model(tiny_policy, tmp_path):
    model = shutil.copytree(tiny_policy, tmp_path / "model")
    sampling = SamplingSettings(temperature=0.6, top_p=0.95, max_new_tokens=64, max_prompt_length=448)
    assert write_modelfile(model, ".", PolicySettings(), sampling)
    roles = "system", "user", "assistant"
    branches = " else ".join(
        f'if eq .Role "{role}" }}}}<|im_start|>{role}\n{{{{ .Content }}}}<|im_end|>\n{{{{' for role in roles
    )
    loop = f"{{{{ range .Messages }}}}{{{{ {branches} end }}}}{{{{ end }}}}"
    assert (model / "Modelfile").read_text() == (
        f'FROM .\nTEMPLATE """{loop}<|im_start|>assistant\n"""\n'
        "PARAMETER temperature 0.6\nPARAMETER top_p 0.95\nPARAMETER top_k 0\nPARAMETER min_p 0\n"
        'PARAMETER repeat_penalty 1\nPARAMETER num_ctx 512\nPARAMETER stop "<|im_end|>"\n'
    )


def test_a_model_without_a_go_template_says_so(tiny_policy, tmp_path, byte_tokenizer):
    model = shutil.copytree(tiny_policy, tmp_path / "model")
    with_template(byte_tokenizer, trl_template("gemma")).save_pretrained(model)
    assert not write_modelfile(model, "./model.gguf", PolicySettings(), SamplingSettings())
    text = (model / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n# No TEMPLATE: ")
    assert "TEMPLATE " not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert 'PARAMETER stop "<|im_end|>"' in text


def test_bos_is_left_to_the_server_that_adds_it(byte_tokenizer):
    tokenizer = with_template(byte_tokenizer, "{{ bos_token }}" + byte_tokenizer.chat_template)
    form = prompt_form(ChatFormat.of(tokenizer, PolicySettings()))
    assert form is not None
    assert form.start == "<|pad|>"
    assert go_template(form).startswith("<|pad|>{{ range")
    assert go_template(form, adds_bos=True).startswith("{{ range")
