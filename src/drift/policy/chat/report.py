"""What a chat template does, checked when a model is loaded and reported in one line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drift.errors import PrerequisiteError
from drift.policy.chat.format import ChatFormat, end_of_turn, reply_form
from drift.policy.chat.layout import ReplyForm
from drift.policy.chat.template import ChatTemplate, TemplateRefusal
from drift.policy.chat.thinking import thinking_arguments
from drift.records import ChatMessage, Reason

_ASKED = (ChatMessage("user", "a"),)


@dataclass(frozen=True, slots=True)
class TemplateReport:
    """What a user should know about a chat template, in words.

    `form`: what the model writes, in order. `end_of_turn`: the token that ends its turn. `thinking`: the mode, and the
    template arguments for it. `findings`: conversations that are changed or dropped, and a clock.
    """

    form: str
    end_of_turn: str
    thinking: str
    findings: tuple[str, ...] = ()

    def line(self) -> str:
        more = "".join(f"; {finding}" for finding in self.findings)
        return f"chat template: the model writes {self.form}, ends with {self.end_of_turn}; {self.thinking}{more}"


def check_template(chat: ChatFormat, source: str) -> TemplateReport:
    """What the template does. `source`: the model's name, for messages.

    Raises PrerequisiteError if there is no template, or if it shows no reply behind its own generation prompt.
    """
    if not chat.tokenizer.chat_template:
        raise PrerequisiteError(
            f"{source}: its tokenizer has no chat template; use the instruction-tuned model or add chat_template.jinja."
        )
    named = chat.tokenizer.chat_template
    if isinstance(named, dict) and "default" not in named:
        raise PrerequisiteError(
            f"{source}: none of its tokenizer's chat templates ({', '.join(sorted(named))}) is named default, so none "
            "is for conversations without tools. Write the one that you serve with to chat_template.jinja beside the "
            "tokenizer."
        )
    form = reply_form(chat, _ASKED)
    if isinstance(form, Reason):
        raise PrerequisiteError(
            f"{source}: {_why_refused(chat, form)}. Set policy.template_arguments to those that you serve with, or use "
            "another chat template."
        )
    end = chat.tokenizer.convert_ids_to_tokens(end_of_turn(chat))
    return TemplateReport(
        form=_form(chat, form),
        end_of_turn=str(end) if form.ending else f"{end} (the tokenizer's; the template writes none)",
        thinking=_thinking(chat, form.thought is not None),
        findings=_findings(chat),
    )


def _why_refused(chat: ChatFormat, reason: Reason) -> str:
    """What is wrong with a template that shows no plain request and reply, in its own words if it has some."""
    if reason is Reason.TEMPLATE_HIDES:
        return "its chat template does not show the text of a plain request"
    try:
        chat.template.render(_ASKED, generation_prompt=True)
    except TemplateRefusal as refusal:
        return str(refusal)
    return "its chat template changes the prompt once a reply follows, so training would not match sampling"


def _form(chat: ChatFormat, form: ReplyForm) -> str:
    if chat.thinking == "keep" and form.thought is not None:
        before, after = form.thought
        return f"{f'{before!r} + ' if before else ''}thought + {after!r} + reply"
    return f"{form.opening!r} + reply" if form.opening else "the reply alone"


def _thinking(chat: ChatFormat, has_marks: bool) -> str:
    plain = ChatTemplate(chat.tokenizer, chat.arguments, chat.date)
    has_switch = any(thinking_arguments(plain, mode) for mode in ("off", "keep"))
    how = _in_words(chat.template.arguments)
    if chat.thinking == "strip":
        how = f"sampled with {_in_words(chat.for_sampling.template.arguments)}, trained with {how}"
    if not has_marks and not has_switch:
        return f"thinking {chat.thinking} (the template has no thoughts)"
    return f"thinking {chat.thinking} ({how})"


def _in_words(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items()) or "the template's default"


def _findings(chat: ChatFormat) -> tuple[str, ...]:
    findings: list[str] = []
    (asked,) = _ASKED
    for name, messages in {
        "a system message": (ChatMessage("system", "s"), asked),
        "a reply that comes first": (ChatMessage("assistant", "b"), asked),
        "two user messages in a row": (asked, asked),
    }.items():
        layout = chat.layout(messages, None)
        if isinstance(layout, Reason):
            findings.append(f"{name}: dropped ({layout})")
        elif layout.adapted:
            findings.append(f"{name}: {', '.join(layout.adapted)}")
    if chat.template.reads_clock:
        findings.append(f"reads the clock: {chat.date or 'today'}")
    return tuple(findings)
