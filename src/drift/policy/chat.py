"""Chats to token ids with the model's own chat template: prompt ids, and completion ids that follow them.

A conversation is never tokenised as a whole: its ids are the prompt's ids (generation prompt included) plus the
completion's, so that what is trained on is what was sampled. Too long prompts lose whole turns, oldest first.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from drift.errors import DataError, PrerequisiteError
from drift.records import ChatMessage, Finish

_PROBE = "PROBE"


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """`ids` end with the generation prompt; `dropped_turns` oldest turns were left out to make them fit."""

    ids: tuple[int, ...]
    dropped_turns: int


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatMessage], max_length: int, keep_turns: int = 1
) -> EncodedPrompt | None:
    """Ids of `messages` with the generation prompt, at most `max_length` of them.

    The system message and the last `keep_turns` turns (a user message and what follows it) always stay; older turns go
    one by one until the rest fits. None: not even those fit, so the prompt is to be dropped as PROMPT_TOO_LONG.
    Raises DataError if the template refuses the messages.
    """
    system, turns = _turns(messages)

    def without(dropped: int) -> tuple[int, ...]:
        return _token_ids(tokenizer, render(tokenizer, _kept(system, turns, dropped), generation_prompt=True))

    ids = without(0)
    if len(ids) <= max_length:
        return EncodedPrompt(ids, 0)
    # a long log would be tokenised once per turn, so the first that fits is found by halving
    choices = range(1, len(turns) - keep_turns + 1)
    place = bisect_left(choices, True, key=lambda dropped: len(without(dropped)) <= max_length)
    return EncodedPrompt(without(choices[place]), choices[place]) if place < len(choices) else None


def without_turns(messages: Sequence[ChatMessage], dropped: int) -> list[ChatMessage]:
    """The messages without their oldest turns: what the ids of an EncodedPrompt with so many dropped turns show."""
    return _kept(*_turns(messages), dropped)


def encode_completion(tokenizer: PreTrainedTokenizerBase, text: str, finish: Finish) -> tuple[int, ...]:
    """Ids of a reply. Only a complete one (`stop`) ends its turn; a cut one must not teach to stop mid-sentence."""
    ids = _token_ids(tokenizer, _defused(tokenizer, text))
    return (*ids, end_of_turn(tokenizer)) if finish == "stop" else ids


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a completion, without the tokens that end it."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text if isinstance(text, str) else "".join(text)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatMessage], generation_prompt: bool) -> str:
    """The chat template's text. Special tokens that somebody typed into a message lose their meaning."""
    chat = [{"role": message.role, "content": _defused(tokenizer, message.content)} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generation_prompt))
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise DataError(f"the model's chat template refuses a conversation of {roles}: {error}") from None


@lru_cache(maxsize=8)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the template puts behind a finished reply; the tokenizer's EOS where it puts none.

    Raises PrerequisiteError if there is neither.
    """
    chat = [ChatMessage("user", "a"), ChatMessage("assistant", _PROBE)]
    tail = render(tokenizer, chat, generation_prompt=False).rpartition(_PROBE)[2]
    special = {*tokenizer.all_special_ids, *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)}
    found = next((token for token in _token_ids(tokenizer, tail) if token in special), tokenizer.eos_token_id)
    if not isinstance(found, int):
        raise PrerequisiteError("the tokenizer has no token that ends a reply; set eos_token in tokenizer_config.json.")
    return found


def check_template(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Refuse a template that is missing, or that shows a prompt differently once its reply is there.

    Raises PrerequisiteError: ids built as prompt plus completion would not be what the model sees later.
    """
    if not tokenizer.chat_template:
        raise PrerequisiteError(
            f"{source}: its tokenizer has no chat template; use the instruction-tuned model or add chat_template.jinja."
        )
    prompt = [ChatMessage("user", "a"), ChatMessage("assistant", "b"), ChatMessage("user", "c")]
    alone = _token_ids(tokenizer, render(tokenizer, prompt, generation_prompt=True))
    answered = render(tokenizer, [*prompt, ChatMessage("assistant", _PROBE)], generation_prompt=False)
    if _token_ids(tokenizer, answered)[: len(alone)] != alone:
        raise PrerequisiteError(
            f"{source}: its chat template changes a prompt once the reply follows, so training would not match "
            "sampling; use a chat template that only appends."
        )


def _turns(messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], list[list[ChatMessage]]]:
    """The leading system messages, and the rest cut before every user message."""
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


def _kept(system: list[ChatMessage], turns: list[list[ChatMessage]], dropped: int) -> list[ChatMessage]:
    return [*system, *(message for turn in turns[dropped:] for message in turn)]


def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Ids without automatic BOS or EOS: the template has written those that belong there."""
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _defused(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    for token in _special_texts(tokenizer):
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


@lru_cache(maxsize=8)
def _special_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Control tokens that text could spell. One-character ones are no risk and are left alone."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({token for token in (*added, *tokenizer.all_special_tokens) if len(token) > 1}))
