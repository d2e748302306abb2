"""Chats to token ids with the model's own chat template: prompt ids, and completion ids that follow them.

A conversation is never tokenised as one text: its ids are the prompt's ids (generation prompt included) plus the
completion's, so that training sees the same ids as sampling. Prompts that are too long lose whole turns, oldest first.
DEVIATION: the authors' scripts write "User:/Assistant:" as plain text; the model was trained on its chat template.
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
    """`ids` end with the generation prompt; the `dropped_turns` oldest turns were left out to make them fit."""

    ids: tuple[int, ...]
    dropped_turns: int


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatMessage], max_length: int, keep_turns: int = 1
) -> EncodedPrompt | None:
    """Ids of `messages` with the generation prompt, at most `max_length` of them.

    The system message and the last `keep_turns` turns (a user message and what follows it) always stay; older turns are
    dropped one by one until the rest fits. Returns None if these do not fit either (Reason.PROMPT_TOO_LONG).
    Raises DataError if the template refuses the messages.
    DEVIATION: the authors' scripts cut prompts to 2048 tokens from the right, which removes the complaint.
    """
    system, turns = _turns(messages)

    def without(dropped: int) -> tuple[int, ...]:
        return _token_ids(tokenizer, render(tokenizer, _without(system, turns, dropped), generation_prompt=True))

    ids = without(0)
    if len(ids) <= max_length:
        return EncodedPrompt(ids, 0)
    # bisection: trying every number of turns would tokenise a long conversation once per turn
    choices = range(1, len(turns) - keep_turns + 1)
    index = bisect_left(choices, True, key=lambda dropped: len(without(dropped)) <= max_length)
    return EncodedPrompt(without(choices[index]), choices[index]) if index < len(choices) else None


def without_turns(messages: Sequence[ChatMessage], dropped: int) -> list[ChatMessage]:
    """The messages without their `dropped` oldest turns: those that an EncodedPrompt's ids contain."""
    return _without(*_turns(messages), dropped)


def encode_completion(tokenizer: PreTrainedTokenizerBase, text: str, finish: Finish) -> tuple[int, ...]:
    """Ids of a reply. Only a complete one (`stop`) gets the end-of-turn token.

    DEVIATION: the authors' scripts train on truncated samples as if complete, which teaches to stop in mid-sentence.
    """
    ids = _token_ids(tokenizer, _defused(tokenizer, text))
    return (*ids, end_of_turn(tokenizer)) if finish == "stop" else ids


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a completion, without special tokens."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text if isinstance(text, str) else "".join(text)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatMessage], generation_prompt: bool) -> str:
    """The text of the chat template. Special tokens spelled out in a message are broken up, so that they are text."""
    chat = [{"role": message.role, "content": _defused(tokenizer, message.content)} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generation_prompt))
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise DataError(f"the model's chat template refuses a conversation of {roles}: {error}") from None


@lru_cache(maxsize=8)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the template puts after a finished reply, or else the tokenizer's EOS token.

    Raises PrerequisiteError if there is neither.
    """
    chat = [ChatMessage("user", "a"), ChatMessage("assistant", _PROBE)]
    tail = render(tokenizer, chat, generation_prompt=False).rpartition(_PROBE)[2]
    special = {*tokenizer.all_special_ids, *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)}
    end = next((token for token in _token_ids(tokenizer, tail) if token in special), tokenizer.eos_token_id)
    if not isinstance(end, int):
        raise PrerequisiteError("the tokenizer has no token that ends a reply; set eos_token in tokenizer_config.json.")
    return end


def check_template(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raises PrerequisiteError if there is no template, or if it renders a prompt differently once a reply follows.

    Otherwise the ids of prompt plus completion would differ from those that the model sees in use.
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
            f"{source}: its chat template changes the prompt once a reply follows, so training would not match "
            "sampling; use a chat template that only appends to the prompt."
        )


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


def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Ids without automatic BOS or EOS: the template's text contains those that are needed."""
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _defused(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space inside every control token that it spells: `<|end|>` becomes `< |end|>`."""
    for token in _special_texts(tokenizer):
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


@lru_cache(maxsize=8)
def _special_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Control tokens that a text could spell, without those of one character."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({token for token in (*added, *tokenizer.all_special_tokens) if len(token) > 1}))
