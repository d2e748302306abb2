"""What a policy wrote, taken apart: thoughts, answer and calls, by the marks of its own template."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from drift.endpoint.thoughts import closing_mark, split_thoughts
from drift.policy.chat.format import ChatFormat
from drift.policy.chat.layout import ReplyForm
from drift.policy.chat.template import special_texts
from drift.records import ChatMessage, FunctionCall, ToolCall


@dataclass(frozen=True, slots=True)
class ReadReply:
    """`text`: the answer; empty if the thought before it was cut."""

    text: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a completion, without special tokens."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text if isinstance(text, str) else "".join(text)


def read_completion(tokenizer: PreTrainedTokenizerBase, form: ReplyForm, ids: Sequence[int]) -> ReadReply:
    """Thoughts, answer and calls of the ids behind a prompt with this form, the opening included if the model was given
    it."""
    raw = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    raw = raw if isinstance(raw, str) else "".join(raw)
    ending = _plain(tokenizer, form.ending)  # text before the token that ends a turn is no part of the answer
    ending = ending if ending and raw.endswith(form.ending) else ""
    reasoning, answer = _split(raw, form)
    calls = read_calls(answer.removesuffix(form.ending.strip()))
    if reasoning is None and not form.opening and not calls:
        return ReadReply(decode(tokenizer, ids).removesuffix(ending))
    if calls:
        answer, ending = answer[: _call_start(answer)], ""
    thought = None if not reasoning else _plain(tokenizer, reasoning).strip()
    return ReadReply(_plain(tokenizer, answer).removesuffix(ending), thought, calls)


def is_written_as(chat: ChatFormat, form: ReplyForm, reply: ChatMessage, ids: Sequence[int]) -> bool:
    """Whether these ids are this reply, thoughts and calls included, in this form.

    A reply without thoughts must begin with the form's opening, or its form would tell it apart from one that does.
    """
    read = read_completion(chat.tokenizer, form, ids)
    if (read.text, read.reasoning) != (reply.content, reply.reasoning):
        return False
    if [call.function for call in read.tool_calls] != [call.function for call in reply.tool_calls]:
        return False
    if reply.reasoning or reply.tool_calls or not form.opening:
        return True
    raw = chat.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    # a tokenizer may write a space into the first word
    return str(raw).startswith(form.opening) or not form.opening.strip(" ")


def _split(raw: str, form: ReplyForm) -> tuple[str | None, str]:
    """(thought, answer); the thought is None if there is none."""
    if form.opening and raw.startswith(form.opening):
        return None, raw[len(form.opening) :]
    before, after = form.thought or ("", "")
    begins_with_thought = form.starts_thinking or bool(before.strip() and raw.lstrip().startswith(before.strip()))
    if after and begins_with_thought:
        body = raw.lstrip().removeprefix(before.strip()) if before.strip() else raw
        for mark in (after, after.strip()):
            if closing := closing_mark(body, re.compile(re.escape(mark))):
                thought, answer = body[: closing.start()], body[closing.end() :]
                return thought.strip("\n"), answer if mark.endswith("\n") else answer.lstrip()
    bare = form.opening.strip()
    thought, answer = split_thoughts(raw)
    if thought or answer != raw:
        openings = (form.opening.lstrip(), bare)
        return thought, answer[max(len(opening) * answer.startswith(opening) for opening in openings) :]
    if begins_with_thought:  # it was cut
        return raw.lstrip().removeprefix(before.strip()), ""
    return None, raw.lstrip().removeprefix(bare) if bare and raw.lstrip().startswith(bare) else raw


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    for token in special_texts(tokenizer):
        text = text.replace(token, "")
    return text


_CALLS = (
    ("<tool_call>", "</tool_call>"),
    ("<|tool_call>", "<tool_call|>"),
    ("<|tool_call_start|>", "<|tool_call_end|>"),
    ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    ("[TOOL_CALLS]", "\n"),
    ("<|python_tag|>", "<|eom_id|>"),
    (" to=functions.", "<|call|>"),
    ("<|tool_call_begin|>", "<|tool_call_end|>"),  # Kimi K2
    ("<|tool_call:begin|>", "<|tool_call:end|>"),  # Solar
    ("<|tool_call|>", "<|/tool_call|>"),  # Phi-4-mini, Granite 3
    ("<|START_ACTION|>", "<|END_ACTION|>"),  # Command A
    ("<minimax:tool_call>", "</minimax:tool_call>"),
    ("<seed:tool_call>", "</seed:tool_call>"),
    ("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),  # DeepSeek V3.2
    ("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
    ("<tool_calls>", "</tool_calls>"),  # Hunyuan, Jamba, Apriel
    ("<TOOLCALL>", "</TOOLCALL>"),  # Nemotron
)
"""Marks around the calls of models in use; between them one call, or a JSON list of calls."""


def read_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls in a raw answer, by the first kind of marks that it has.

    Where the text between the marks is no JSON of a call, the whole of it stands as the arguments.
    """
    calls: list[ToolCall] = []
    for opening, closing in _CALLS:
        rest = text
        while begun := _begun(rest, opening):
            inside, _, rest = rest[begun.end() :].partition(closing)
            calls += map(ToolCall, _functions(inside.strip()))
        if calls:
            break
    return tuple(calls)


def _call_start(text: str) -> int:
    return min(begun.start() for opening, _ in _CALLS if (begun := _begun(text, opening)))


def _begun(text: str, opening: str) -> re.Match[str] | None:
    """The first such mark; one in quotes is only mentioned."""
    return closing_mark(text, re.compile(re.escape(opening)))


def _functions(inside: str) -> list[FunctionCall]:
    """What stands between two marks: one call or a list of them as JSON, or else one call in the model's own form."""
    try:
        value = json.loads(inside)
    except (ValueError, RecursionError):
        value = None
    calls: list[Any] = value if isinstance(value, list) else [value]
    if calls and all(isinstance(call, dict) and isinstance(_name_of(call), str) for call in calls):
        return [_function_of(call) for call in calls]
    name = inside.split("{")[0].split("(")[0].split("<")[0].strip() or inside[:40]
    return [FunctionCall(name, inside)]


def _name_of(call: dict[str, Any]) -> Any:
    return call.get("name", call.get("tool_name"))


def _function_of(call: dict[str, Any]) -> FunctionCall:
    arguments = call.get("arguments", call.get("parameters", {}))
    return FunctionCall(_name_of(call), arguments if isinstance(arguments, str) else json.dumps(arguments))
