"""Lists, sections, JSON, quotation marks, a title, bold print."""

import json
import re

from drift.sandbox.instructions.constraints import text as measure
from drift.sandbox.instructions.constraints.text import bare, lines, plain, words

_FENCED = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)\n?[ \t]*```", re.S)
_PLACEHOLDERS = {"title", "my title", "your title", "the title", "a title", "title here"}
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "”": "”"}
LONGEST_ITEM = 5
"""Words of an item in a list that stands in one line."""


def bullets(text: str, n: str) -> bool:
    """Exactly n bulleted items, all different. A line before or after the list is fine."""
    items = measure.bullets(text)
    return len(items) == int(n) and measure.all_differ(items)


def numbered(text: str, n: str) -> bool:
    """Items numbered from 1 to n in order, all different. A line before or after the list is fine."""
    items = measure.numbered(text)
    in_order = [number for number, _ in items] == list(range(1, int(n) + 1))
    return in_order and measure.all_differ([item for _, item in items])


def comma_list(text: str, n: str) -> bool:
    """Nothing but n short items, all different, with commas (or a last "and") between them."""
    line = plain(text).strip().rstrip(".")
    if "\n" in line or re.search(r"[:;!?]|\.\s", line):
        return False
    readings = (line, re.sub(r",?\s+and\s+(?=[^,]*$)", ", ", line))
    return any(_is_list([item.strip() for item in reading.split(",")], int(n)) for reading in readings)


def _is_list(items: list[str], n: int) -> bool:
    fits = all(0 < len(words(item)) <= LONGEST_ITEM for item in items)
    return len(items) == n and fits and measure.all_differ(items)


def sections(text: str, first: str, second: str) -> bool:
    """Two lines begin with the labels, in this order and once each, and at least two words follow each label."""
    found = lines(text)
    one, other = (_labelled(found, label) for label in (first, second))
    if len(one) != 1 or len(other) != 1 or one[0] >= other[0]:
        return False
    body = [" ".join(found[one[0] : other[0]]), " ".join(found[other[0] :])]
    return all(len(words(part)) - len(words(label)) >= 2 for part, label in zip(body, (first, second), strict=True))


def _labelled(found: list[str], label: str) -> list[int]:
    pattern = re.compile(rf"[#*_\s\-]*{re.escape(plain(label))}[*_\s]*(?::|$)", re.I)
    return [place for place, line in enumerate(found) if pattern.match(line)]


def json_object(text: str, first: str, second: str) -> bool:
    """Nothing but a JSON object with these two keys, each with a text that is not empty. A code fence may stand around
    it."""
    body = plain(text).strip()
    fenced = _FENCED.fullmatch(body)
    try:
        value = json.loads(fenced[1] if fenced else body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or set(value) != {first, second}:
        return False
    return all(isinstance(each, str) and bool(words(each)) for each in value.values())


def quoted(text: str) -> bool:
    """One pair of double quotation marks, straight or curly, around everything."""
    body = plain(text).strip()
    close = _QUOTES.get(body[:1])
    inside = body[1:-1]
    if close is None or len(body) < 3 or not body.endswith(close) or not words(inside):
        return False
    return body[0] not in inside and close not in inside


def title(text: str) -> bool:
    """It begins with a title of its own in double square brackets, and more follows."""
    match = re.match(r"\[\[([^\[\]\n]+)\]\]", re.sub(r"^#{1,6}\s+", "", bare(text)))
    if not match or not words(match[1]) or bare(match[1]).lower() in _PLACEHOLDERS:
        return False
    return len(words(text)) > len(words(match[1]))


def bold(text: str, n: str) -> bool:
    """At least n different pieces in Markdown's bold print, which together are no more than half of the words."""
    spans = [match[2] for match in re.finditer(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", plain(text)) if words(match[2])]
    in_bold = sum(len(words(span)) for span in spans)
    return len({bare(span).lower() for span in spans}) >= int(n) and 2 * in_bold <= len(words(text))
