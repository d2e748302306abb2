"""How a template shows conversations of one shape, measured by rendering them with markers in place of the texts.

A shape is what a template can look at besides the texts: roles, calls, which contents are empty, whether there are
tools; and, of the texts, the words that switch thinking. If a marker is missing from the rendered text, the template
leaves that message out. A marker reply shows what the model has to write around its answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from drift.policy.chat.adapting import adaptations
from drift.policy.chat.template import ChatTemplate, TemplateDialect, TemplateRefusal
from drift.policy.chat.thinking import closing_of, named_marks, without_closed_thoughts
from drift.records import ChatMessage, FunctionCall, Reason, ToolCall

_REPLY, _THOUGHT = "replymark", "thoughtmark"
_TOOLS = (
    '[{"type": "function", "function": {"name": "toolmark", "description": "d", "parameters": {"type": "object", '
    '"properties": {"key": {"type": "string", "description": "d"}}, "required": ["key"]}}}]'
)
_COMMAND = re.compile("</think>|/(?:no_?)?think")
"""What a user writes to switch thinking on or off, where a template looks for it (Nemotron, SmolLM3, Hunyuan).

The mark that ends a thought has such a word in it: some templates obey it too, others (Nemotron Nano VL) know better.
"""
_TEXT_MARKER = re.compile(r"x\d+marktext")
_DIALECTS = (TemplateDialect(parts=False), TemplateDialect(parts=True))
_DIALECTS_WITH_CALLS = tuple(
    replace(dialect, text_arguments=text_arguments, null_content=null_content)
    for dialect in _DIALECTS
    for text_arguments in (False, True)
    for null_content in (False, True)
)


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """What stands around a reply.

    `tail`: the end of the prompt, from behind the last message on. `opening`: what the model has to write between the
    prompt and a reply without a thought. `ending`: what the model writes after the reply, with the token that ends its
    turn; empty if the template writes none. `thought`: what the model has to write before a thought, and between it and
    the reply; None if the template has no marks for one. `starts_thinking`: the generation prompt ends inside a
    thought.
    """

    tail: str
    opening: str
    ending: str
    thought: tuple[str, str] | None
    starts_thinking: bool


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """How a template shows the conversations of one shape.

    `adapted`: names of the changes that it needs. `shows_tools`: the schemas are part of its text.
    """

    dialect: TemplateDialect
    adapted: tuple[str, ...]
    form: ReplyForm
    shows_tools: bool = True


def find_layout(template: ChatTemplate, messages: Sequence[ChatMessage], has_tools: bool) -> ChatLayout | Reason:
    """The layout of a conversation that ends where a reply is due, with the fewest changes that show every message.

    Without such changes, Reason.TEMPLATE_REFUSES: the template refuses the conversation whatever is changed;
    TEMPLATE_HIDES: it leaves a message out; NO_REPLY_FORM: it shows no reply behind its generation prompt.
    """
    tools = _TOOLS if has_tools else None
    reason = Reason.TEMPLATE_REFUSES
    for names, adapted in adaptations(with_markers(messages)):
        has_calls = any(message.tool_calls for message in adapted)
        for dialect in _DIALECTS_WITH_CALLS if has_calls else _DIALECTS:
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
            *_commands(message.content),
        )
        for message in messages
    )


def _commands(text: str) -> list[str]:
    """Each word that switches thinking once, in the order in which they were last said."""
    return list(dict.fromkeys(reversed(_COMMAND.findall(text))))[::-1]


def with_markers(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The conversation with a different marker in place of every text that is not empty."""
    return tuple(_marked(message, f"x{place}mark") for place, message in enumerate(messages))


def _marked(message: ChatMessage, mark: str) -> ChatMessage:
    calls = tuple(
        ToolCall(FunctionCall(f"{mark}call{number}z", f'{{"key": "{mark}argument{number}z"}}'), call.id)
        for number, call in enumerate(message.tool_calls)
    )
    return replace(
        message,
        content="\n\n".join([*_commands(message.content), f"{mark}text"]) if message.content.strip() else "",
        tool_calls=calls,
        reasoning=f"{mark}thought" if message.reasoning else None,
    )


def _markers(messages: Sequence[ChatMessage]) -> Iterator[str]:
    """The markers of texts, calls and arguments; thoughts have none here, as templates may leave old ones out."""
    for message in messages:
        yield from _TEXT_MARKER.findall(message.content)
        for call in message.tool_calls:
            yield call.function.name
            yield call.function.name.replace("call", "argument")


def _reply_form(
    template: ChatTemplate, messages: Sequence[ChatMessage], prompt: str, tools: str | None, dialect: TemplateDialect
) -> ReplyForm | None:
    """What the template writes around a marker reply, with a marker thought and without.

    All texts are compared from behind the last message on: earlier ones may be shown otherwise once a reply follows.
    None if the template does not show a reply, or shows it behind something else than the generation prompt.
    """
    last = [*_markers(messages)][-1:]
    anchor = last[0] if last else ""

    def behind_anchor(text: str) -> str:
        return text[text.rfind(anchor) + len(anchor) :]

    def answered(*later: ChatMessage, reasoning: str | None = None) -> str:
        reply = ChatMessage("assistant", _REPLY, reasoning=reasoning)
        try:
            return template.render([*messages, reply, *later], False, tools, dialect)
        except TemplateRefusal:
            return ""

    tail = behind_anchor(prompt)
    head, reply_shown, behind_reply = answered().partition(_REPLY)
    if not reply_shown:
        return None
    head = behind_anchor(head)

    # the marks of a thought: as the template writes them, or else (below) as its text names them
    before, thought_shown, after = answered(reasoning=_THOUGHT).partition(_THOUGHT)
    before = behind_anchor(before)
    thought = None
    if thought_shown and before.startswith(tail) and _REPLY in after:
        thought = before[len(tail) :], after.partition(_REPLY)[0]
    closing = closing_of(tail)
    starts_thinking = closing is not None
    if thought is None and closing is not None:
        thought = "", closing

    # without thoughts: many templates write one of their own for the model, and show none of it later
    bare_tail, bare_head = without_closed_thoughts(tail), without_closed_thoughts(head)
    if head.startswith(tail) and (closing is None or closing.strip() in head[len(tail) :]):
        opening = head[len(tail) :]
    elif thought is not None and (starts_thinking or not thought[0]):
        opening = thought[1]  # an empty thought, in the marks that the generation prompt began
    elif bare_head.startswith(bare_tail):
        opening = bare_head[len(bare_tail) :]
    elif bare_tail.startswith(bare_head):
        opening = ""
    else:
        return None
    if thought is None and (marks := named_marks(template.text)):
        thought = marks[0], marks[1] + without_closed_thoughts(opening)
    behind_with_next_turn = answered(ChatMessage("user", "x")).partition(_REPLY)[2]
    ending = _ending(template.tokenizer, behind_reply, behind_with_next_turn)
    return ReplyForm(tail, opening, ending, thought, starts_thinking)


def _ending(tokenizer: PreTrainedTokenizerBase, behind_reply: str, behind_with_next_turn: str) -> str:
    """What ends a turn: all up to the control tokens behind the reply, or else the one with which the next turn begins.

    Both texts begin behind the marker reply: that of the conversation, and that with a user's next message. Of several
    tokens, those that are gone once a user answers end the conversation and not the turn (Phi-4-mini shows
    `<|end|><|endoftext|>`). Empty if there is no token, or only BOS.
    """
    tokens, bos = _control_tokens(tokenizer), tokenizer.bos_token
    run = re.match(rf".*?(?:{tokens})+", behind_reply, re.DOTALL) if tokens else None
    if run is not None:
        cuts = [token.end() for token in re.finditer(tokens, run[0])]
        return next((run[0][:cut] for cut in reversed(cuts) if behind_with_next_turn.startswith(run[0][:cut])), run[0])
    eos = re.escape(str(tokenizer.eos_token or ""))
    if eos and (ended := re.match(rf"\s*{eos}", behind_with_next_turn)):  # Apriel 1.6 shows "\n<|end|>" from then on
        return ended[0]
    first = re.match(tokens, behind_with_next_turn) if tokens else None
    return first[0] if first is not None and first[0] != bos else ""


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> str:
    """A pattern of one control token; empty if there is none."""
    texts = {token.content for token in tokenizer.added_tokens_decoder.values()} | {*tokenizer.all_special_tokens}
    return "|".join(re.escape(text) for text in sorted(texts, key=lambda text: -len(text)) if text.strip())
