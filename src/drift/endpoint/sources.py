"""Marks of sources in the text of a reply.

Applications that search show sources as links; their logs hold marks such as `\ue200cite\ue202turn0search0\ue201`
(ChatGPT, LibreChat), `【3†source】` (ChatGPT, OpenAI's file search), `[cite: 1]` (Gemini) or `[^1^]` (Bing).
"""

import re

import orjson

_SIGNS_OF_SOURCES = ("cite", "[^", "\\ue20", "\ue200", "\ue202", "†")
_SPELT_OUT = re.compile(r"\\ue20([0-46])")  # LibreChat's models write the escape in place of the character
_CLOSED = "(?:\ue202[^\ue200\ue201]*)?\ue201"
_SPAN = rf"\ue200\w*(?:{_CLOSED}|(?:\ue202[^\ue200-\ue202\s]*)*)"  # one that is not closed ends at white space
_SOURCE = (
    rf"(?:{_SPAN}|\ue202turn\d+[a-z_]+\d+|【[\w:.-]{{1,40}}†[^】\n]{{0,200}}】"
    r"|(?::contentReference)?\[oaicite:\d+\](?:\{index=\d+\})?|\[cite:[ \d,–-]{1,200}\]|\[cite_(?:start|end)\]"
    r"|\[\^\d+\^\](?:\[\d+\])?)"
)
_SOURCES = re.compile(rf"(?<![ \t])(?P<before>[ \t]*)(?P<marks>{_SOURCE}(?:[ \t]*{_SOURCE})*)(?P<after>[ \t]*)")
_NAMED = re.compile("\ue200(?P<kind>entity|product_entity|product|url|link_title)\ue202(?P<shown>[^\ue200-\ue202]*)")
_CITED = re.compile(r'<(?:antml[:-])?cite index="[^"<>]{0,200}">')  # Claude's, around the words that have a source
_END_OF_CITED = re.compile(r"</(?:antml[:-])?cite>")
_HIGHLIGHTED = re.compile("\ue203([^\ue203\ue204]*)\ue204\ue206?")


def may_cite(text: str) -> bool:
    """False for nearly all texts without such marks. A fast check."""
    return any(sign in text for sign in (_SIGNS_OF_SOURCES[:3] if text.isascii() else _SIGNS_OF_SOURCES))


def without_marks(text: str) -> str:
    """The text without the marks, with the names that they show."""
    if "\\ue202turn" in text:
        text = _SPELT_OUT.sub(lambda escape: chr(0xE200 + int(escape[1])), text)
    plain = _SOURCES.sub(_instead_of_sources, text)
    plain = _HIGHLIGHTED.sub(r"\1", plain)
    plain = plain if plain == text else plain.strip("\n")
    return _END_OF_CITED.sub("", _CITED.sub("", plain)) if _CITED.search(plain) else plain


def _instead_of_sources(match: re.Match[str]) -> str:
    """The names that marks show, else nothing; and the white space that the words beside them need."""
    text, before, after = match.string, match["before"], match["after"]
    if shown := " ".join(filter(None, map(_shown, _NAMED.finditer(match["marks"])))):
        return f"{before}{shown}{after}"
    if text[match.start() - 1 : match.start()] in ("", "\n"):
        return before
    next_character = text[match.end() : match.end() + 1]
    return "" if next_character in ("", *"\r\n.,;:!?)") else before or after


def _shown(mark: re.Match[str]) -> str:
    """The words that ChatGPT shows in place of a mark: its first field, or the second entry of a list in it."""
    field = mark["shown"]
    try:
        value = orjson.loads(field)
    except orjson.JSONDecodeError:
        return field if mark["kind"] in ("url", "link_title") else ""
    return next((entry for entry in value[1:2] if isinstance(entry, str)), "") if isinstance(value, list) else ""
