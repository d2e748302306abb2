"""What a log keeps inside a reply's text beside its words: thoughts, tool calls, marks of sources.

Thoughts stand at the beginning, between marks such as `<think>` (drift/endpoint/thoughts.py), marks of sources anywhere
(drift/endpoint/sources.py). Open WebUI writes thoughts, tool calls with their results, and code that it ran as
`<details type="...">` blocks, anywhere in the text.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import replace

import orjson

from drift.endpoint.sources import may_cite, without_marks
from drift.endpoint.thoughts import split_thoughts
from drift.logs.parts import Part, json_text
from drift.records import Conversation, FunctionCall, ToolCall

_BLOCK = re.compile(
    r'^[ \t]*<details\b(?P<attributes>[^>]*?\btype="(?P<type>reasoning|tool_calls|code_interpreter)"[^>]*)>'
    r"(?P<body>.*?)(?:</details>[ \t]*\n?|\Z)",
    re.MULTILINE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_SUMMARY = re.compile(r"<summary>.*?</summary>", re.DOTALL)
_QUOTE = re.compile(r"^[ \t]*> ?", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_FENCED_CODE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)


def without_sources(conversation: Conversation) -> Conversation:
    """The conversation without the marks of sources in its replies, and in the replies preferred to them; itself if
    there are none. A fresh reply has no such marks: with them, the two sides of a pair would differ by form alone."""
    if not any(may_cite(m.content) for m in conversation.messages if m.role == "assistant") and not any(
        rating.preferred and may_cite(rating.preferred) for rating in conversation.ratings
    ):
        return conversation
    messages = tuple(
        replace(m, content=without_marks(m.content)) if m.role == "assistant" and may_cite(m.content) else m
        for m in conversation.messages
    )
    ratings = tuple(
        replace(rating, preferred=without_marks(rating.preferred)) if rating.preferred else rating
        for rating in conversation.ratings
    )
    if messages == conversation.messages and ratings == conversation.ratings:
        return conversation
    return replace(conversation, messages=messages, ratings=ratings)


def may_hold_markup(text: str) -> bool:
    """False for nearly all texts without markup. A fast check: the first search alone clears most texts."""
    if "<" in text:
        return "</" in text or "|>" in text or text.lstrip()[:1] == "<"
    return text[:1] in "[◁ \n\t\r" or "◁" in text


def pieces_of_reply(text: str) -> list[Part]:
    """The text of a reply in pieces: what the model thought, its calls with their answers, and what it said."""
    if "<details" not in text:
        return list(_thoughts_apart(text))
    pieces: list[Part] = []
    done = 0
    for block in _BLOCK.finditer(text):
        before = text[done : block.start()]
        if len(_FENCE.findall(text[: block.start()])) % 2:  # a quotation, inside a code block
            continue
        pieces += _between(before)
        pieces += _of_block(block)
        done = block.end()
    if not done:
        return list(_thoughts_apart(text))
    return [*pieces, *_between(text[done:])]


def _between(text: str) -> list[Part]:
    """The text beside blocks, without the empty lines around it."""
    return list(_thoughts_apart(text.strip())) if text.strip() else []


def _of_block(block: re.Match[str]) -> Iterator[Part]:
    kind, attributes = block["type"], dict(_ATTRIBUTE.findall(block["attributes"]))
    body = _SUMMARY.sub("", block["body"], count=1).strip("\n")
    if kind == "reasoning":
        yield Part("thought", _QUOTE.sub("", html.unescape(body)).strip())
        return
    identity = html.unescape(attributes.get("id", "")) or None
    if kind == "tool_calls":
        name = html.unescape(attributes.get("name", ""))
        arguments = _unpacked(attributes.get("arguments", "")) or "{}"
    else:
        name = "code_interpreter"
        code = _FENCED_CODE.search(body)
        arguments = json_text({"code": html.unescape(code[1] if code else body).strip()})
    yield Part("call", call=ToolCall(FunctionCall(name, arguments), identity))
    result = attributes.get("result" if kind == "tool_calls" else "output")
    if result is not None and attributes.get("done") != "false":
        yield Part("result", _unpacked(result), id=identity, name=name or None)


def _unpacked(attribute: str) -> str:
    """An attribute's value: escaped for HTML, and usually JSON text of a text."""
    text = html.unescape(attribute)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, str) else text


def _thoughts_apart(text: str) -> Iterator[Part]:
    """Thoughts at the beginning, then the answer."""
    thoughts, answer = split_thoughts(text)
    if thoughts:
        yield Part("thought", thoughts)
    if answer or not thoughts:
        yield Part("text", answer)
