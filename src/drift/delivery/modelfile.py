"""An Ollama Modelfile that shows the model the same prompt as its own chat template.

Ollama does not read Jinja: its TEMPLATE is a Go template over `.Messages`. A Jinja template cannot be translated, but
most of them put fixed text before and after each message, and this can be read off what they render. The texts that
were read off are tried on further conversations. Where they do not give the template's own prompt, no TEMPLATE is
written: Ollama then takes the one of its own that resembles the template in the GGUF file.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig

from drift.config import PolicySettings, SamplingSettings
from drift.policy.chat import ChatFormat, end_of_turn, reply_form
from drift.policy.chat.template import TemplateDialect, TemplateRefusal
from drift.records import ChatMessage, Reason, Role

MODELFILE = "Modelfile"
_SYSTEM, _FIRST, _REPLY, _SECOND = "systemmark", "firstmark", "replymark", "secondmark"


@dataclass(frozen=True, slots=True)
class PromptForm:
    """The fixed texts of a chat template.

    `start`: before everything. `default_system`: what stands in place of a system message where there is none.
    `before`, `after`: around a message of each role. `generation`: behind the last message; the reply follows it.
    """

    start: str
    default_system: str
    before: dict[Role, str]
    after: dict[Role, str]
    generation: str

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt of a conversation, as the Go template renders it."""
        shown = [self.before[message.role] + message.content + self.after[message.role] for message in messages]
        default = "" if messages[0].role == "system" else self.default_system
        return self.start + default + "".join(shown) + self.generation


def write_modelfile(model: Path, source: str, policy: PolicySettings, sampling: SamplingSettings) -> bool:
    """Write `model`/Modelfile for the policy in `model`; returns whether it has a TEMPLATE.

    `source`: what FROM names. The parameters are those that the run sampled with, so that the policy that is served is
    the one that was measured.
    """
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    ends = _declared_ends(model)
    chat = ChatFormat.of(tokenizer, policy, ends).for_sampling
    form = prompt_form(chat)
    stops = (end_of_turn(chat), tokenizer.eos_token_id, *ends)
    lines = [f"FROM {source}"]
    if form is None:
        lines += [
            "# No TEMPLATE: the chat template of this model does more than put fixed text around each message.",
            "# Ollama takes the template of its own that resembles it. Compare what it shows: ollama show --template",
        ]
    else:
        adds_bos = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        lines.append(f'TEMPLATE """{go_template(form, adds_bos)}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(sampling)]
    texts = dict.fromkeys(str(tokenizer.convert_ids_to_tokens(stop)) for stop in stops if isinstance(stop, int))
    lines += [f'PARAMETER stop "{text}"' if '"' not in text else f'PARAMETER stop """{text}"""' for text in texts]
    (model / MODELFILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return form is not None


def _parameters(sampling: SamplingSettings) -> Iterator[tuple[str, str]]:
    """Ollama's own defaults (top_k 40, repeat_penalty 1.1 in some versions) would sample another distribution."""
    yield "temperature", f"{sampling.temperature:g}"
    yield "top_p", f"{sampling.top_p:g}"
    yield "top_k", "0"
    yield "min_p", "0"
    yield "repeat_penalty", "1"
    yield "num_ctx", str(sampling.max_prompt_length + sampling.max_new_tokens)


def prompt_form(chat: ChatFormat) -> PromptForm | None:
    """The fixed texts of a chat template; None if it has others, or refuses a conversation.

    Some templates write BOS before every prompt, some an EOS behind what is no prompt; with some, the same token is a
    part of every turn. So each way to read the texts is tried.
    """
    bos, eos = (text if isinstance(text, str) else "" for text in (chat.tokenizer.bos_token, chat.tokenizer.eos_token))
    for start, end in dict.fromkeys(itertools.product((bos, ""), ("", eos))):
        try:
            form = _read_form(chat, start, end)
            if form is not None and all(form.render(probe) == _prompt(chat, probe) for probe in _probes()):
                return form
        except TemplateRefusal:
            return None
    return None


def _read_form(chat: ChatFormat, start: str, end: str) -> PromptForm | None:
    """Read off the texts between the marks of five conversations; None if a mark is missing.

    `start`: at the beginning of each; `end`: at the end of those that are no prompts.
    """
    first, reply = ChatMessage("user", _FIRST), ChatMessage("assistant", _REPLY)
    second, system = ChatMessage("user", _SECOND), ChatMessage("system", _SYSTEM)
    alone = _between(_prompt(chat, [first]), _FIRST)
    ended = _between(_text(chat, [first], False), _FIRST)
    chatted = _between(_prompt(chat, [first, reply, second]), _FIRST, _REPLY, _SECOND)
    replied = _between(_text(chat, [first, reply], False), _FIRST, _REPLY)
    instructed = _between(_prompt(chat, [system, first]), _SYSTEM, _FIRST)
    if alone is None or ended is None or chatted is None or replied is None or instructed is None:
        return None
    after_user, after_reply = ended[1].removesuffix(end), replied[2].removesuffix(end)
    before_user = chatted[2].removeprefix(after_reply)
    return PromptForm(
        start=start,
        default_system=alone[0].removeprefix(start).removesuffix(before_user),
        before={
            "system": instructed[0].removeprefix(start),
            "user": before_user,
            "assistant": chatted[1].removeprefix(after_user),
        },
        after={"system": instructed[1].removesuffix(before_user), "user": after_user, "assistant": after_reply},
        generation=alone[1].removeprefix(after_user),
    )


def _probes() -> Iterator[list[ChatMessage]]:
    """Conversations that the texts were not read off."""
    system, one = ChatMessage("system", "Be brief."), ChatMessage("user", "Sort: moon, eagle")
    reply, two = ChatMessage("assistant", "eagle\nmoon"), ChatMessage("user", "And in {capitals}?")
    yield [one]
    yield [system, two]
    yield [one, reply, two]
    yield [system, two, reply, one, ChatMessage("assistant", "yes"), two]


def _prompt(chat: ChatFormat, messages: Sequence[ChatMessage]) -> str:
    """What the sampler shows the model: the prompt, and the opening of a reply without thoughts."""
    form = reply_form(chat, messages)
    opening = "" if isinstance(form, Reason) or chat.thinking == "keep" else form.opening.rstrip(" ")
    return _text(chat, messages, True) + (opening if opening.strip() else "")


def _text(chat: ChatFormat, messages: Sequence[ChatMessage], generation_prompt: bool) -> str:
    layout = chat.layout((ChatMessage("user", "a"),), None)
    dialect = TemplateDialect() if isinstance(layout, Reason) else layout.dialect
    return chat.template.render(messages, generation_prompt, None, dialect)


def _between(text: str, *marks: str) -> list[str] | None:
    """The parts of a text before, between and behind its marks; None if they do not stand in it in this order."""
    parts = []
    for mark in marks:
        before, separator, text = text.partition(mark)
        if not separator:
            return None
        parts.append(before)
    return [*parts, text]


def go_template(form: PromptForm, adds_bos: bool = False) -> str:
    """The form as a Go template. `adds_bos`: Ollama puts the BOS token before the text, as the tokenizer does."""
    roles: tuple[Role, ...] = ("system", "user", "assistant")
    branches = [
        f'{{{{ {"if" if role == "system" else "else if"} eq .Role "{role}" }}}}'
        f"{_literal(form.before[role])}{{{{ .Content }}}}{_literal(form.after[role])}"
        for role in roles
    ]
    default = ""
    if form.default_system:
        default = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{_literal(form.default_system)}{{{{ end }}}}'
    start = "" if adds_bos else _literal(form.start)
    loop = f"{{{{ range .Messages }}}}{''.join(branches)}{{{{ end }}}}{{{{ end }}}}"
    return f"{start}{default}{loop}{_literal(form.generation)}"


def _literal(text: str) -> str:
    """A text as it is, or as a quoted string of Go where the template or the Modelfile would not read it as text.

    The reader of Modelfiles drops letters that cannot be printed.
    """
    if "{{" not in text and all((letter.isprintable() and letter != '"') or letter in "\n\t" for letter in text):
        return text
    escaped = (letter if letter.isprintable() and letter not in '"\\{}' else f"\\U{ord(letter):08x}" for letter in text)
    return f'{{{{ "{"".join(escaped)}" }}}}'


def _declared_ends(model: Path) -> tuple[int, ...]:
    """The tokens that end a reply by the generation config."""
    if not (model / "generation_config.json").is_file():
        return ()
    declared = GenerationConfig.from_pretrained(model).eos_token_id
    return tuple(declared) if isinstance(declared, list) else () if declared is None else (declared,)
