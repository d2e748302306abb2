"""Every chat template that the installed TRL ships, with every shape of conversation: what training would see.

python benchmarks/templates.py            the table
python benchmarks/templates.py --json     its totals as one JSON object, the bar: silent 0, refused 0
python benchmarks/templates.py --write docs/models.md    put the table into the page

exact     the prompt is what a server shows for these messages, and the completion what the template writes behind it
adapted   the same, after a change that the template needed (merged, system_folded, greeting_folded)
dropped   counted under the reason that is named
silent    anything else: a text that is missing, or a token that nobody would show or write

The check does not use the product's rendering: it calls `apply_chat_template` itself and compares texts.
"""

import argparse
import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from drift.errors import PrerequisiteError
from drift.policy.chat import ChatFormat, EncodedPrompt, check_template, encode_completion, encode_prompt
from drift.records import ChatMessage, FunctionCall, Reason, ToolCall

BEGIN, END = "<!-- templates.py: begin -->\n", "<!-- templates.py: end -->\n"
DATE = "2026-11-28"
TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather of a city.",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "description": "Its name."}},
                    "required": ["city"],
                },
            },
        }
    ]
)
CALL = ToolCall(FunctionCall("get_weather", '{"city": "Oslo"}'), "call00001")


@dataclass(frozen=True)
class Shape:
    messages: tuple[ChatMessage, ...]
    tools: str | None = None


def _chat(*turns: tuple[str, str]) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage(role, content) for role, content in turns)  # pyright: ignore[reportArgumentType]


SHAPES = {
    "plain": Shape(_chat(("user", "Sort b a."), ("assistant", "b a"), ("user", "Wrong order."))),
    "system first": Shape(_chat(("system", "You sort words."), ("user", "Sort b a."))),
    "assistant first": Shape(_chat(("assistant", "Hello there!"), ("user", "Sort b a."))),
    "two users": Shape(_chat(("user", "Good day."), ("user", "Sort b a."))),
    "system in the middle": Shape(
        _chat(
            ("user", "Good day."), ("assistant", "Welcome."), ("system", "This is a premium user."), ("user", "Go on.")
        )
    ),
    "tool call and answer": Shape(
        (
            ChatMessage("user", "Weather in Oslo?"),
            ChatMessage("assistant", "", tool_calls=(CALL,)),
            ChatMessage("tool", "It is dry today.", tool_call_id="call00001", name="get_weather"),
        ),
        TOOLS,
    ),
    "thoughts in the log": Shape(
        _chat(("user", "Sort b a."), ("assistant", "<think>\nLet me see.\n</think>\n\nb a"), ("user", "Wrong order."))
    ),
    "empty system": Shape(_chat(("system", ""), ("user", "Sort b a."))),
}
REPLY = "The right order is a b."


def templates() -> dict[str, str]:
    """The templates of the installed TRL by name, without its own variants for training."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        raise PrerequisiteError("TRL is not installed, and its templates are what is measured: pip install trl==1.16.0")
    files = sorted((Path(found.origin).parent / "chat_templates").glob("*.jinja"))
    return {file.stem: file.read_text("utf-8") for file in files if not file.stem.endswith("_training")}


_CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\|[a-z_\"]{1,20}>|<[a-z_]{1,20}\|>|<[a-z]+_of_[a-z]+>|<｜[^｜<>]{1,40}｜>|\[/?INST\]|</s>|<[be]os>"
)


def tokenizer_for(template: str) -> PreTrainedTokenizerFast:
    """One token for each byte, and one for each control token that the template spells."""
    special = ["<bos>", "<eos>", *dict.fromkeys(_CONTROL.findall(template))]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", chat_template=template
    )


@dataclass(frozen=True)
class Outcome:
    """`kind`: exact, adapted, dropped, refused or silent; `detail`: of what, or why."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


def outcome(chat: ChatFormat, shape: Shape) -> Outcome:
    prompt = encode_prompt(chat, shape.messages, 100_000, tools=shape.tools)
    if isinstance(prompt, Reason):
        return Outcome("dropped", prompt)
    completion = encode_completion(chat, shape.messages, ChatMessage("assistant", REPLY), "stop", shape.tools)
    if isinstance(completion, Reason):
        return Outcome("dropped", completion)
    problem = difference(chat, shape, prompt, completion)
    if problem:
        return Outcome("silent", problem)
    return Outcome("adapted", ", ".join(prompt.adapted)) if prompt.adapted else Outcome("exact")


def difference(chat: ChatFormat, shape: Shape, prompt: EncodedPrompt, completion: Sequence[int]) -> str | None:
    """What is wrong with the ids, by the template's own text; None if nothing is."""
    decode = chat.tokenizer.decode
    shown, written = str(decode(list(prompt.ids))), str(decode(list(completion)))
    messages = prompt.messages if prompt.adapted else tuple(map(_without_thoughts, shape.messages))
    rendered = [Rendered(chat, entries, shape.tools) for entries in as_requests(messages)]
    served = [r for r in rendered if r.text(True) == shown]
    if not served:
        return "the prompt is not what a server shows"
    missing = [m.content for m in shape.messages if _without_thoughts(m).content not in shown]
    if missing or ("get_weather" not in shown and any(m.tool_calls for m in messages)):
        return f"the prompt lacks {missing}"
    if written.count(REPLY) != 1:
        return "the completion is not the reply"
    return None if any(_follows(r, shown, written) for r in served) else f"nobody would write {written!r}"


@dataclass(frozen=True)
class Rendered:
    chat: ChatFormat
    messages: list[dict[str, Any]]
    tools: str | None

    def text(self, generation_prompt: bool, *further: dict[str, Any]) -> str | None:
        pinned = {} if "strftime_now" not in self.chat.tokenizer.chat_template else _pinned(self.chat.tokenizer)
        try:
            return str(
                self.chat.tokenizer.apply_chat_template(
                    [*self.messages, *further],
                    tools=json.loads(self.tools) if self.tools else None,
                    tokenize=False,
                    add_generation_prompt=generation_prompt,
                    **{**pinned, **self.chat.template.arguments},
                )
            )
        except Exception:  # what a template raises may be anything
            return None


def _pinned(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The template with the clock's calls replaced by what they give on DATE."""
    day = date.fromisoformat(DATE)
    source = re.sub(
        r"strftime_now\((['\"])(.*?)\1\)", lambda call: repr(day.strftime(call[2])), str(tokenizer.chat_template)
    )
    return {"chat_template": source.replace("strftime_now is defined", "true")}


def as_requests(messages: Sequence[ChatMessage]) -> list[list[dict[str, Any]]]:
    """The messages as servers hand them to templates: texts, or lists of parts; arguments as objects, or as texts."""
    ways = []
    for parts in (False, True):
        for text_arguments in (False, True):
            for empty in ("", None):
                ways.append([_entry(message, parts, text_arguments, empty) for message in messages])
    return ways


def _entry(message: ChatMessage, parts: bool, text_arguments: bool, empty: str | None) -> dict[str, Any]:
    content: Any = message.content or (empty if message.tool_calls else "")
    entry: dict[str, Any] = {"role": message.role, "content": content}
    if parts and content is not None:
        entry["content"] = [{"type": "text", "text": content}]
    if message.tool_calls:
        call = message.tool_calls[0].function
        arguments = call.arguments if text_arguments else json.loads(call.arguments)
        function = {"name": call.name, "arguments": arguments}
        entry["tool_calls"] = [{"type": "function", "id": "call00001", "function": function}]
    if message.role == "tool":
        entry |= {"tool_call_id": message.tool_call_id, "name": message.name}
    return entry


def _without_thoughts(message: ChatMessage) -> ChatMessage:
    return replace(message, content=re.sub(r"<think>.*?</think>\s*", "", message.content, flags=re.DOTALL))


def _follows(rendered: Rendered, shown: str, written: str) -> bool:
    """Whether the template's own text has this completion behind this prompt."""
    parts = isinstance(rendered.messages[0]["content"], list)
    reply = _entry(ChatMessage("assistant", REPLY), parts, False, "")
    further = _entry(ChatMessage("user", "And now?"), parts, False, "")
    for whole in (rendered.text(False, reply), rendered.text(False, reply, further)):
        if whole is None:
            continue
        if whole.startswith(shown + written) and REPLY not in whole[len(shown + written) :]:
            end = written.rpartition(REPLY)[2]
            return bool(_CONTROL.search(end))
        # the generation prompt opened a thought that the shown reply has not: the model has to close it
        opened = re.search(r"<(\w+)>\s*$", shown)
        closed = re.match(rf"\s*</{opened[1]}>\s*", written) if opened else None
        end = whole.partition(REPLY)[2]
        rest = written[closed.end() :] if closed else ""
        if closed and rest.startswith(REPLY) and end.startswith(rest.removeprefix(REPLY)) and rest != REPLY:
            return True
    return False


def measure() -> dict[str, dict[str, Outcome]]:
    """By template and shape; a template that is refused at load has the one outcome `refused`."""
    table: dict[str, dict[str, Outcome]] = {}
    for name, template in templates().items():
        chat = ChatFormat(tokenizer_for(template), date=DATE)
        try:
            check_template(chat, name)
        except PrerequisiteError as error:
            table[name] = dict.fromkeys(SHAPES, Outcome("refused", str(error)))
            continue
        table[name] = {shape_name: outcome(chat, shape) for shape_name, shape in SHAPES.items()}
    return table


def totals(table: dict[str, dict[str, Outcome]]) -> dict[str, int]:
    kinds = Counter(cell.kind for row in table.values() for cell in row.values())
    return {"templates": len(table), **{k: kinds[k] for k in ("exact", "adapted", "dropped", "refused", "silent")}}


def markdown(table: dict[str, dict[str, Outcome]]) -> str:
    """The table, with templates of equal rows on one line."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, row in table.items():
        rows.setdefault(tuple(map(str, row.values())), []).append(name)
    lines = [f"| template | {' | '.join(SHAPES)} |", "|---" * (len(SHAPES) + 1) + "|"]
    lines += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in rows.items()]
    counts = ", ".join(f"{key} {value}" for key, value in totals(table).items())
    return f"{counts}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true", help="print the totals as one JSON object")
    options.add_argument("--write", type=Path, help="put the table into this page")
    chosen = options.parse_args()
    try:
        table = measure()
    except PrerequisiteError as error:
        sys.exit(str(error))
    if chosen.write:
        before, _, rest = chosen.write.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        chosen.write.write_text(f"{before}{BEGIN}{markdown(table)}{END}{after}", "utf-8")
    print(json.dumps(totals(table)) if chosen.json else markdown(table))


if __name__ == "__main__":
    main()
