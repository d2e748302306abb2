"""How a template shows conversations of one shape, found by rendering them with marker texts in place of the contents.

A shape is what a template can look at besides the texts: roles, calls, which contents are empty, whether there are
tools. Markers that do not come back show a message that the template would drop without a word. A marker reply shows
what the model has to write around its answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from drift.policy.chat.adapting import adaptations
from drift.policy.chat.template import ChatTemplate, TemplateDialect, TemplateRefusal
from drift.policy.chat.thinking import closing_of, named_marks, without_closed_thoughts, without_empty_thoughts
from drift.records import ChatMessage, FunctionCall, Reason, ToolCall

_REPLY, _THOUGHT = "replymark", "thoughtmark"
_TOOLS = (
    '[{"type": "function", "function": {"name": "toolmark", "description": "d", "parameters": {"type": "object", '
    '"properties": {"key": {"type": "string", "description": "d"}}, "required": ["key"]}}}]'
)
_DIALECTS = tuple(
    TemplateDialect(parts, text_arguments, null_content)
    for parts in (False, True)
    for text_arguments in (False, True)
    for null_content in (False, True)
)


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """What stands around a reply.

    `tail`: the end of the generation prompt, behind the last message. `opening`: what the model has to write between it
    and the reply, if the reply has no thought. `ending`: what the model writes after the reply, with the token that
    ends its turn; empty if the template writes none. `thought`: what it has to write before and after a thought (the
    latter with what opens the reply); None if the template has no marks for one. `starts_thinking`: the generation
    prompt ends inside a thought.
    """

    tail: str
    opening: str
    ending: str
    thought: tuple[str, str] | None
    starts_thinking: bool


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """`adapted`: names of the changes that the template needs. `shows_tools`: the schemas are part of the text."""

    dialect: TemplateDialect
    adapted: tuple[str, ...]
    form: ReplyForm
    shows_tools: bool = True


def find_layout(template: ChatTemplate, messages: Sequence[ChatMessage], has_tools: bool) -> ChatLayout | Reason:
    """The layout of a conversation that ends where a reply is due: the first, of the fewest changes, that shows all.

    A template that shows everything with some change counts as refusing without it. Reason.TEMPLATE_REFUSES: it raises
    whatever is changed; TEMPLATE_HIDES: it leaves a message out.
    """
    tools = _TOOLS if has_tools else None
    reason = Reason.TEMPLATE_REFUSES
    for names, adapted in adaptations(with_markers(messages)):
        has_calls = any(message.tool_calls for message in adapted)
        for dialect in _DIALECTS if has_calls else _DIALECTS[:: len(_DIALECTS) // 2]:
            try:
                prompt = template.render(adapted, True, tools, dialect)
            except TemplateRefusal:
                continue
            if not all(marker in prompt for marker in _markers(adapted)):
                reason = Reason.TEMPLATE_HIDES
                continue
            form = _reply_form(template, adapted, prompt, tools, dialect)
            if form is None:
                reason = Reason.TEMPLATE_HIDES if reason is Reason.TEMPLATE_HIDES else Reason.NO_REPLY_FORM
                continue
            return ChatLayout(dialect, names, form, not has_tools or "toolmark" in prompt)
    return reason


def shape_of(messages: Sequence[ChatMessage], has_tools: bool) -> tuple[object, ...]:
    """Equal for conversations that a template treats alike."""
    return has_tools, *(
        (
            message.role,
            bool(message.content.strip()),
            len(message.tool_calls),
            message.tool_call_id is None,
            message.name is None,
            bool(message.reasoning),
        )
        for message in messages
    )


def with_markers(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The conversation with a text of its own in each place that holds one."""
    return tuple(_marked(message, f"x{place}mark") for place, message in enumerate(messages))


def _marked(message: ChatMessage, mark: str) -> ChatMessage:
    calls = tuple(
        ToolCall(FunctionCall(f"{mark}call{number}z", f'{{"key": "{mark}argument{number}z"}}'), call.id)
        for number, call in enumerate(message.tool_calls)
    )
    return replace(
        message,
        content=f"{mark}text" if message.content.strip() else "",
        tool_calls=calls,
        reasoning=f"{mark}thought" if message.reasoning else None,
    )


def _markers(messages: Sequence[ChatMessage]) -> Iterator[str]:
    for message in messages:
        yield from message.content.removeprefix("assistant: ").split("\n\n")
        for call in message.tool_calls:
            yield call.function.name
            yield call.function.name.replace("call", "argument")


def _reply_form(
    template: ChatTemplate, messages: Sequence[ChatMessage], prompt: str, tools: str | None, dialect: TemplateDialect
) -> ReplyForm | None:
    """None if the template does not show a reply, or shows it behind something else than the generation prompt."""

    def answered(*rest: ChatMessage, reasoning: str | None = None) -> str:
        reply = ChatMessage("assistant", _REPLY, reasoning=reasoning)
        try:
            return template.render([*messages, reply, *rest], False, tools, dialect)
        except TemplateRefusal:
            return ""

    last = [marker for marker in _markers(messages) if marker][-1:]
    anchor = last[0] if last else ""
    tail = prompt[prompt.rfind(anchor) + len(anchor) :]
    head, shown, rest = answered().partition(_REPLY)
    if not shown:
        return None
    head = head[head.rfind(anchor) + len(anchor) :]
    before, thought_shown, after = answered(reasoning=_THOUGHT).partition(_THOUGHT)
    before = before[before.rfind(anchor) + len(anchor) :]
    thought = None
    if thought_shown and before.startswith(tail) and _REPLY in after:
        thought = before[len(tail) :], after.partition(_REPLY)[0]
    closing = closing_of(tail)
    starts_thinking = closing is not None
    if thought is None and closing is not None:
        thought = "", closing
    elif thought is None and (marks := named_marks(template.text)):
        thought = marks
    if head.startswith(tail):
        opening = head[len(tail) :]
    elif thought is not None and (starts_thinking or not thought[0]):
        opening = thought[1]  # an empty thought, in the marks that the generation prompt began
    elif without_closed_thoughts(tail).startswith(without_empty_thoughts(head)):
        opening = ""  # the template writes more for the model, such as a thought of its own, than it shows later
    else:
        return None
    following = answered(ChatMessage("user", "x")).partition(_REPLY)[2]
    return ReplyForm(tail, opening, _ending(template.tokenizer, rest, following), thought, starts_thinking)


def _ending(tokenizer: PreTrainedTokenizerBase, rest: str, following: str) -> str:
    """What ends a turn: all up to the control tokens behind the reply, or else the one with which the next turn begins.

    Of several tokens, those that are gone once a user answers end the conversation and not the turn (Phi-4-mini shows
    `<|end|><|endoftext|>`).
    """
    tokens, bos = _control_tokens(tokenizer), tokenizer.bos_token
    run = re.match(rf".*?(?:{tokens})+", rest, re.DOTALL) if tokens else None
    if run is not None:
        cuts = [token.end() for token in re.finditer(tokens, run[0])]
        return next((run[0][:cut] for cut in reversed(cuts) if following.startswith(run[0][:cut])), run[0])
    first = re.match(tokens, following) if tokens else None
    return first[0] if first is not None and first[0] != bos else ""


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> str:
    """A pattern of one control token; empty if there is none."""
    texts = {token.content for token in tokenizer.added_tokens_decoder.values()} | {*tokenizer.all_special_tokens}
    return "|".join(re.escape(text) for text in sorted(texts, key=lambda text: -len(text)) if text.strip())
