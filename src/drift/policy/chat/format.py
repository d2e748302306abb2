"""Chats to token ids with the model's own chat template: prompt ids, and completion ids that follow them.

A conversation is never tokenised as one text: its ids are the prompt's ids (generation prompt included, as the server
shows it) plus the completion's (what the model has to write after it), so that training sees the same ids as sampling.
Prompts that are too long lose whole turns, oldest first.
DEVIATION: the authors' scripts write "User:/Assistant:" as plain text; the model was trained on its chat template.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from drift.config import PolicySettings
from drift.endpoint.thoughts import split_thoughts
from drift.errors import PrerequisiteError
from drift.policy.chat.adapting import adaptations
from drift.policy.chat.layout import ChatLayout, ReplyForm, find_layout, shape_of
from drift.policy.chat.template import ChatTemplate, TemplateRefusal, defused, special_texts, token_ids
from drift.policy.chat.thinking import thinking_arguments
from drift.records import ChatMessage, Finish, Reason, Thinking


@dataclass(frozen=True, eq=False)
class ChatFormat:
    """A tokenizer with its chat template, as this run uses it.

    `arguments`: of the template, as the user set them. `date`: what a template that reads the clock shows (ISO 8601).
    `declared_ends`: tokens at which a server stops besides the tokenizer's EOS (those of the generation config).
    """

    tokenizer: PreTrainedTokenizerBase
    thinking: Thinking = "off"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None
    declared_ends: tuple[int, ...] = ()
    layouts: dict[tuple[object, ...], ChatLayout | Reason] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, settings: PolicySettings, declared_ends: tuple[int, ...] = ()
    ) -> "ChatFormat":
        return cls(tokenizer, settings.thinking, settings.template_arguments, settings.date, declared_ends)

    @cached_property
    def template(self) -> ChatTemplate:
        """The template under the user's arguments and those of the thinking mode; `strip` trains as `off` does."""
        plain = ChatTemplate(self.tokenizer, self.arguments, self.date)
        mode = "keep" if self.thinking == "keep" else "off"
        return replace(plain, arguments={**thinking_arguments(plain, mode), **self.arguments})

    @cached_property
    def for_sampling(self) -> "ChatFormat":
        """The format that samples: `strip` samples as `keep` does, every other mode as it trains."""
        return replace(self, thinking="keep") if self.thinking == "strip" else self

    def layout(self, messages: Sequence[ChatMessage], tools: str | None) -> ChatLayout | Reason:
        """How the template shows these messages, or why it does not; found once for each shape of conversation."""
        shape = shape_of(messages, tools is not None)
        if shape not in self.layouts:
            layout = find_layout(self.template, messages, tools is not None)
            if isinstance(layout, ChatLayout):
                layout = replace(layout, form=replace(layout.form, ending=self.until_stop(layout.form.ending)))
            self.layouts[shape] = layout
        return self.layouts[shape]

    def until_stop(self, text: str) -> str:
        """The text up to the first token at which a server stops: no sampled reply has what stands behind it."""
        return text[: min((text.find(stop) + len(stop) for stop in self.stop_texts if stop in text), default=None)]

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """The tokens at which a server stops, whatever the template writes."""
        stops = (self.tokenizer.eos_token_id, *self.declared_ends)
        texts = [self.tokenizer.convert_ids_to_tokens(stop) for stop in stops if isinstance(stop, int)]
        return tuple(str(text) for text in texts if text)  # a config may declare an id that the tokenizer lacks


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """`ids` end with the generation prompt; the `dropped_turns` oldest turns were left out to make them fit.

    `form`: what stands around the reply to what is left. `messages`: those that the template shows, with the changes
    that `adapted` names. `given`: ids of the form's opening, which a sampler puts behind `ids`; empty if the model
    writes it itself. `hides_tools`: there are tools, and the template does not show their schemas.
    """

    ids: tuple[int, ...]
    dropped_turns: int
    form: ReplyForm
    messages: tuple[ChatMessage, ...]
    adapted: tuple[str, ...] = ()
    given: tuple[int, ...] = ()
    hides_tools: bool = False


def encode_prompt(
    chat: ChatFormat,
    messages: Sequence[ChatMessage],
    max_length: int,
    keep_turns: int = 1,
    tools: str | None = None,
    give_opening: bool = False,
) -> EncodedPrompt | Reason:
    """Ids of `messages` with the generation prompt, at most `max_length` tokens.

    `give_opening`: for a sampler; `given` counts towards `max_length` too. The system message and the last `keep_turns`
    turns (a user message and what follows it) always stay; older turns are dropped one by one until the rest fits.
    Reason.PROMPT_TOO_LONG: these do not fit either; other reasons: the template does not show the messages.
    DEVIATION: the authors' scripts cut prompts to 2048 tokens from the right, which removes the complaint.
    """
    system, turns = _turns(messages)

    def without(dropped: int) -> tuple[tuple[int, ...], tuple[int, ...], ReplyForm] | Reason:
        """(Ids, ids of the opening, form), as a dropped turn may have had a word that switches thinking."""
        kept = _without(system, turns, dropped)
        text, form = prompt_text(chat, kept, tools), reply_form(chat, kept, tools)
        if isinstance(text, Reason) or isinstance(form, Reason):
            return text if isinstance(text, Reason) else Reason.TEMPLATE_REFUSES
        return token_ids(chat.tokenizer, text), _opening_ids(chat, form) if give_opening else (), form

    def fits(dropped: int) -> bool:
        found = without(dropped)
        return not isinstance(found, Reason) and len(found[0]) + len(found[1]) <= max_length

    encoded, dropped = without(0), 0
    if not isinstance(encoded, Reason) and len(encoded[0]) + len(encoded[1]) > max_length:
        # bisection: trying every number of turns would tokenise a long conversation once per turn
        choices = range(1, len(turns) - keep_turns + 1)
        place = bisect_left(choices, True, key=fits)
        if place == len(choices):
            return Reason.PROMPT_TOO_LONG
        dropped = choices[place]
        encoded = without(dropped)
    if isinstance(encoded, Reason):
        return encoded
    ids, given, form = encoded
    shown = _shown(chat, _without(system, turns, dropped))
    layout = chat.layout(shown, tools)
    assert isinstance(layout, ChatLayout)  # `prompt_text` would have said so
    adapted = _adapted(shown, layout)
    return EncodedPrompt(ids, dropped, form, adapted, layout.adapted, given, hides_tools=not layout.shows_tools)


def prompt_text(chat: ChatFormat, messages: Sequence[ChatMessage], tools: str | None = None) -> str | Reason:
    """What the server shows the model: the messages and the generation prompt."""
    return _render(chat, messages, tools, generation_prompt=True)


def without_turns(messages: Sequence[ChatMessage], dropped: int) -> list[ChatMessage]:
    """The messages without their `dropped` oldest turns: those that an EncodedPrompt's ids contain."""
    return _without(*_turns(messages), dropped)


def reply_form(chat: ChatFormat, messages: Sequence[ChatMessage], tools: str | None = None) -> ReplyForm | Reason:
    """What stands around a reply to these messages."""
    layout = chat.layout(_shown(chat, messages), tools)
    return layout if isinstance(layout, Reason) else layout.form


def encode_completion(
    chat: ChatFormat,
    messages: Sequence[ChatMessage],
    reply: ChatMessage,
    finish: Finish,
    tools: str | None = None,
) -> tuple[int, ...] | Reason:
    """Ids of what the model has to write after the prompt of `messages`, so that `reply` is its reply.

    `messages`: without the turns that `encode_prompt` dropped. What ends a turn follows only a finished reply (`stop`).
    A Reason if the template does not show the messages or the reply.
    DEVIATION: the authors' scripts train on truncated samples as if complete, which teaches to stop in mid-sentence.
    """
    form = reply_form(chat, messages, tools)
    if isinstance(form, Reason):
        return form
    text = completion_text(chat, messages, reply, tools)
    if isinstance(text, Reason):
        return text
    end = (end_of_turn(chat),) if finish == "stop" and not reply.tool_calls else ()
    if not text:
        return end
    # an ending of more than its token is part of the text
    ending = form.ending if finish == "stop" and not reply.tool_calls else ""
    if len(ids := token_ids(chat.tokenizer, ending)) > 1 or ending != ending.strip():
        return _ids_behind(chat.tokenizer, form.tail, text + ending)
    return (*_ids_behind(chat.tokenizer, form.tail, text), *(ids or end))


def completion_text(
    chat: ChatFormat, messages: Sequence[ChatMessage], reply: ChatMessage, tools: str | None = None
) -> str | Reason:
    """What the model has to write so that `reply` is its reply; only a reply with calls has what ends the turn."""
    if reply.tool_calls:
        return _call_text(chat, messages, reply, tools)
    form = reply_form(chat, messages, tools)
    if isinstance(form, Reason):
        return form
    content = defused(chat.tokenizer, reply.content)
    if reply.reasoning and chat.thinking == "keep":
        behind = form.opening if form.opening.strip() else ""
        before, after = form.thought or ("<think>\n", f"\n</think>\n\n{behind}")
        return before + defused(chat.tokenizer, reply.reasoning) + after + content
    return form.opening + content


def encode_conversation(
    chat: ChatFormat, messages: Sequence[ChatMessage], reply: ChatMessage, tools: str | None = None
) -> tuple[int, ...] | Reason:
    """Ids of the template's own text of the whole conversation with its reply, as reward models read it."""
    text = _render(chat, [*messages, reply], tools, generation_prompt=False)
    return text if isinstance(text, Reason) else token_ids(chat.tokenizer, text)


def encode_user_turn(
    chat: ChatFormat, messages: Sequence[ChatMessage], content: str, tools: str | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]] | Reason:
    """(Ids of the chat up to the user's next message, ids of that message's text), as the template shows them.

    The chat is rendered as a prompt, because its layout is that of a conversation that ends where a reply is due.
    """
    mark = "usermark"
    text = prompt_text(chat, [*messages, ChatMessage("user", mark)], tools)
    if isinstance(text, Reason):
        return text
    before, shown, _ = text.rpartition(mark)
    if not shown:
        return Reason.TEMPLATE_HIDES
    return token_ids(chat.tokenizer, before), _ids_behind(chat.tokenizer, before[-8:], defused(chat.tokenizer, content))


def end_of_turn(chat: ChatFormat) -> int:
    """The last token of what the template puts after a finished reply, or else the tokenizer's EOS token.

    Raises PrerequisiteError if there is neither.
    """
    form = reply_form(chat, (ChatMessage("user", "a"),))
    ids = () if isinstance(form, Reason) else token_ids(chat.tokenizer, form.ending)
    end = ids[-1] if ids else chat.tokenizer.eos_token_id
    if not isinstance(end, int):
        raise PrerequisiteError("the tokenizer has no token that ends a reply; set eos_token in tokenizer_config.json.")
    return end


def _render(
    chat: ChatFormat, messages: Sequence[ChatMessage], tools: str | None, generation_prompt: bool
) -> str | Reason:
    """The template's text of a prompt, or (without the generation prompt) of a prompt and its reply, the last message.

    The layout is the prompt's in both, so that a reply changes nothing before it.
    """
    shown = _shown(chat, messages)
    asked = shown if generation_prompt else shown[:-1]
    layout = chat.layout(asked, tools)
    if isinstance(layout, Reason):
        return layout
    try:
        return chat.template.render(
            [*_adapted(asked, layout), *shown[len(asked) :]], generation_prompt, tools, layout.dialect
        )
    except TemplateRefusal:  # it takes this shape of conversation, but not these texts
        return Reason.TEMPLATE_REFUSES


def _adapted(messages: tuple[ChatMessage, ...], layout: ChatLayout) -> tuple[ChatMessage, ...]:
    if not layout.adapted:
        return messages
    return next(changed for names, changed in adaptations(messages) if names == layout.adapted)


def _opening_ids(chat: ChatFormat, form: ReplyForm) -> tuple[int, ...]:
    """Ids of the opening for a model that is not to think, without a space that belongs to the reply's first token."""
    opening = "" if chat.thinking == "keep" else form.opening.rstrip(" ")
    return _ids_behind(chat.tokenizer, form.tail, opening) if opening.strip() else ()


def _call_text(
    chat: ChatFormat, messages: Sequence[ChatMessage], reply: ChatMessage, tools: str | None
) -> str | Reason:
    """The template's own text of a reply with calls: what follows the prompt, up to the first token at which a server
    stops, or else the last control token."""
    prompt = prompt_text(chat, messages, tools)
    whole = _render(chat, [*messages, reply], tools, generation_prompt=False)
    if isinstance(prompt, Reason) or isinstance(whole, Reason):
        return prompt if isinstance(prompt, Reason) else Reason.TEMPLATE_REFUSES
    begins_with_prompt = whole.startswith(prompt)
    text = chat.until_stop(whole[len(prompt) :]) if begins_with_prompt else whole
    if not all(call.function.name in text for call in reply.tool_calls):  # a schema in the prompt has the name too
        return Reason.TEMPLATE_HIDES
    if not begins_with_prompt:
        return Reason.NO_REPLY_FORM
    ends = [text.rfind(token) + len(token) for token in special_texts(chat.tokenizer) if token in text]
    text = text[: max(ends)] if ends else text
    return text if text.endswith(chat.stop_texts) else text + _end_of_calls(chat, messages, reply, tools, whole)


def _end_of_calls(
    chat: ChatFormat, messages: Sequence[ChatMessage], reply: ChatMessage, tools: str | None, whole: str
) -> str:
    """The token at which a server stops, if the answers to the calls begin with one (GLM's `<|observation|>`).

    `whole`: the template's text up to the calls, which shows no such token behind them.
    """
    call = reply.tool_calls[-1]
    answer = ChatMessage("tool", "x", tool_call_id=call.id, name=call.function.name)
    later = _render(chat, [*messages, reply, answer], tools, generation_prompt=False)
    if isinstance(later, Reason) or not later.startswith(whole):
        return ""
    return next((stop for stop in chat.stop_texts if later.startswith(stop, len(whole))), "")


def _shown(chat: ChatFormat, messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages with thoughts moved from the text into `reasoning`; without `keep`, with none at all."""
    return tuple(_without_thoughts(message, chat.thinking == "keep") for message in messages)


def _without_thoughts(message: ChatMessage, keep: bool) -> ChatMessage:
    if message.role != "assistant":
        return message
    thoughts, answer = split_thoughts(message.content)
    reasoning = (message.reasoning or thoughts or None) if keep else None
    if reasoning == message.reasoning and answer == message.content:
        return message
    return replace(message, content=answer, reasoning=reasoning)


def _turns(messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], list[list[ChatMessage]]]:
    """The leading system messages, and the rest split before every user message."""
    system: list[ChatMessage] = []
    turns: list[list[ChatMessage]] = []
    for message in messages:
        if message.role == "system" and not turns:
            system.append(message)
        elif message.role == "user" or not turns:
            turns.append([message])
        else:
            turns[-1].append(message)
    return system, turns


def _without(system: list[ChatMessage], turns: list[list[ChatMessage]], dropped: int) -> list[ChatMessage]:
    return [*system, *(message for turn in turns[dropped:] for message in turn)]


def _ids_behind(tokenizer: PreTrainedTokenizerBase, tail: str, text: str) -> tuple[int, ...]:
    """Ids of a text as it is tokenised behind the generation prompt, of which `tail` is the end.

    A metaspace tokenizer puts a space before the first word of a text: a reply alone would begin with a piece that it
    has nowhere in the template's own text.
    """
    if not _marks_beginnings(tokenizer):
        return token_ids(tokenizer, text)
    for context in (tail, "\n"):
        before, whole = token_ids(tokenizer, context), token_ids(tokenizer, context + text)
        if before and whole[: len(before)] == before:
            return whole[len(before) :]
    return token_ids(tokenizer, text)


@lru_cache(maxsize=8)
def _marks_beginnings(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word at the beginning of a text gets other ids than behind a line break."""
    return token_ids(tokenizer, "\na")[-len(token_ids(tokenizer, "a")) :] != token_ids(tokenizer, "a")
