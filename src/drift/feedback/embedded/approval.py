"""Thanks and praise by grammar: does a user turn open with approval of the reply, whatever it asks for next?

The classifier weighs all words of a turn, so a request after the thanks drowns them, and it knows only wordings like
those that it was fitted on. The grammar (book/approval.txt) reads the opening alone, word by word, and says nothing
where a word is left over, a complaint follows, or the approval is mockery.
"""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from itertools import islice
from typing import NamedTuple

from drift.errors import DataError
from drift.feedback.embedded import book
from drift.feedback.embedded.book import read_sections
from drift.feedback.embedded.spell import KNOWN
from drift.records import stable_hash

VERSION = "1"
"""Names the code of this file in a label's version."""
UNITS = ("gratitude", "praise", "acceptance")
"""The sections that approve; their names are the subtypes."""
P_SAT = 0.83
"""`p_sat` of such a turn: 14 of the 16 that the grammar added on 581 real chats were right, read one by one (Laplace's
rule: 15 of 18)."""
OPENING = 120  # characters of a turn that are read
FOLDED = 4  # letters of a word from which on swapped letters are no matter
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|\n")
_PATTERN = re.compile(r"<([a-z]+)>|([{|}])|([a-z0-9/]+)")
_ENDS = frozenset(".!?\n…)")
_SIGHS = re.compile("[🙄😒😑😤🤦👎💩😡😠🤡]|(?:^|\\s)/s\\b|\\bnot[.!]*$", re.IGNORECASE)
_CUES = ("bad", "fault", "miss", "broken")


class Approval(NamedTuple):
    """`subtype`: of the strongest approval, which begins at the character `start`. `rest`: what follows all approval,
    "" if nothing does. `mocks`: the turn opens like approval and is none."""

    subtype: str
    start: int
    rest: str
    mocks: bool = False


class Token(NamedTuple):
    """A word as `fold` gives it, or a mark; it begins and ends at these characters."""

    text: str
    begin: int
    end: int


Parts = tuple["str | WordChoice", ...]


@dataclass(frozen=True, slots=True, eq=False)
class WordChoice:
    """One of some sequences of words, sections (`<name>`) and further choices. Compared by identity, as a key."""

    options: tuple[Parts, ...]


@dataclass(slots=True)
class _Parse:
    """Where the lines of a section end that begin at a token. Every end is kept: the grammar is ambiguous."""

    tokens: Sequence[Token]
    known: dict[tuple[str, int], Set[int]] = field(default_factory=dict)

    def section(self, name: str, start: int) -> Set[int]:
        if (name, start) not in self.known:
            self.known[name, start] = self.choice(_grammar()[name], start)
        return self.known[name, start]

    def choice(self, choice: WordChoice, start: int) -> Set[int]:
        word = self.tokens[start].text if start < len(self.tokens) else ""
        ends: set[int] = set()
        fitting = _options(choice)
        for option in fitting.get(word) or fitting[""]:
            ends |= self.sequence(option, start)
        return ends

    def sequence(self, parts: Parts, start: int) -> Set[int]:
        ends: Set[int] = {start}
        for part in parts:
            reached: set[int] = set()
            for end in ends:
                reached |= self.part(part, end)
            if not reached:
                return reached
            ends = reached
        return ends

    def part(self, part: "str | WordChoice", at: int) -> Set[int]:
        if isinstance(part, WordChoice):
            return self.choice(part, at)
        if part.startswith("<"):
            return self.section(part[1:-1], at)
        fits = at < len(self.tokens) and self.tokens[at].text == part
        return {at + 1} if fits else set()


def approval(text: str) -> Approval | None:
    """What the turn approves of, or mocks, in its opening; None if the grammar finds neither."""
    first = tuple(fold(match[0]) for match in islice(_TOKEN.finditer(text[:OPENING]), 2))
    if not _can_open(first):
        return None
    tokens = [Token(fold(match[0]), *match.span()) for match in _TOKEN.finditer(text[:OPENING])]
    parse = _Parse(tokens)
    reached = _reach(parse)
    if parse.section("mockery", 0) or (reached and _SIGHS.search(text[:OPENING])):
        return Approval("", 0, text, mocks=True)
    if reached is None:
        return None
    subtype, start, end, weak, whole = reached
    if whole and len(text) <= OPENING:
        return Approval(subtype, start, "")
    gap = next((i for i in range(end, len(tokens)) if tokens[i].text[0].isalnum()), len(tokens))
    marks = "".join(token.text for token in tokens[end:gap])
    if "?" in marks or gap == len(tokens) or not _goes_on(parse, gap, bool(_ENDS & {*marks}), weak):
        return None
    return Approval(subtype, start, text[tokens[gap].begin :])


def _reach(parse: _Parse) -> tuple[str, int, int, bool, bool] | None:
    """The longest approval at the beginning: the subtype and the first character of its strongest unit, the token after
    its last one, is it weak, and is nothing left after it."""
    tokens = parse.tokens
    best: dict[int, tuple[int, str, int]] = {0: (0, "", 0)}  # by reached token: strength, subtype, first character
    ends: list[tuple[int, tuple[int, str, int]]] = []
    for at in range(len(tokens)):
        if at not in best:
            continue
        here = best[at]
        if not tokens[at].text[0].isalnum() and tokens[at].text != "?":
            best[at + 1] = max(best.get(at + 1, here), here)
        for end in parse.section("filler", at):
            best[end] = max(best.get(end, here), here)
        for name in UNITS:
            for end in parse.section(name, at):
                strength = _strength(parse, at, end)
                if strength:
                    said = here if here[0] >= strength else (strength, name, tokens[at].begin)
                    best[end] = max(best.get(end, said), said)
                    ends.append((end, said))
    if not ends:
        return None
    last, (strength, subtype, start) = max(ends)
    whole = len(tokens) in best and best[len(tokens)][0] > 0
    return subtype, start, last, strength == 1, whole


def _strength(parse: _Parse, at: int, end: int) -> int:
    """0: too faint to count, 1: weak, 2: approval."""
    if end in parse.section("faint", at):
        return 0
    return 1 if end in parse.section("weak", at) else 2


def _goes_on(parse: _Parse, at: int, is_sentence: bool, weak: bool) -> bool:
    """Does the turn go on, after its approval, with something that takes nothing back?"""
    tokens = parse.tokens
    stop = next((i for i in range(at, len(tokens)) if tokens[i].text in _ENDS), len(tokens))
    words = [token.text for token in tokens[at:stop]]
    asks = stop < len(tokens) and tokens[stop].text == "?"
    while at < len(tokens) - 1 and tokens[at].text in ("and", "so", "ok", "okay", "well"):
        at += 1
    asks_next = bool(parse.section("request", at))
    but = range(at, at + 2 if asks_next and is_sentence else stop)
    if any(parse.section("but", place) for place in but):
        return False
    if asks_next:
        return is_sentence or not weak
    return is_sentence and (asks or not any(word in _complaining() for word in words))


@lru_cache(maxsize=1 << 16)
def fold(word: str) -> str:
    """Small letters without apostrophes, all but the first sorted: what is typed in a hurry reads the same."""
    word = word.lower().replace("'", "").replace("’", "")
    return word[0] + "".join(sorted(word[1:])) if len(word) >= FOLDED and word.isalpha() else word


def grammar_version() -> str:
    """Identifies the grammar and the code that reads it."""
    return stable_hash(files(book).joinpath("approval.txt").read_text("utf-8"), VERSION)


@cache
def _grammar() -> dict[str, WordChoice]:
    """Raises DataError where a line names a section that is missing."""
    sections = read_sections("approval.txt")
    grammar = {name: WordChoice(tuple((_compiled(line),) for line in lines)) for name, lines in sections.items()}
    for name, lines in sections.items():
        for line in lines:
            if missing := {match[1] for match in _PATTERN.finditer(line) if match[1]} - {*sections}:
                raise DataError(f"approval.txt: section [{name}] names <{missing.pop()}>, which is no section.")
    return grammar


def _compiled(line: str) -> WordChoice:
    """`{a|b}` and `<section>` as a tree."""
    stack: list[list[list[str | WordChoice]]] = [[[]]]
    for name, brace, word in _PATTERN.findall(line):
        if brace == "{":
            stack.append([[]])
        elif brace == "|":
            stack[-1].append([])
        elif brace == "}":
            done = WordChoice(tuple(map(tuple, stack.pop())))
            stack[-1][-1].append(done)
        else:
            stack[-1][-1].append(f"<{name}>" if name else fold(word))
    return WordChoice(tuple(map(tuple, stack.pop())))


class Beginning(NamedTuple):
    """The words that some parts can begin with; `empty`: can they be no word at all?"""

    words: frozenset[str]
    empty: bool


def _can_open(first: tuple[str, ...]) -> bool:
    """Can the grammar begin with these two words (or marks)? Few turns pass: the rest need not be read."""
    approving, filling = _openings()
    if first in approving or first[:1] in approving or first in filling:
        return True
    follows = len(first) < 2 or not first[1].isalnum() or first[1] in _starters()
    return first[:1] in filling and follows


@cache
def _openings() -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """The first two words of all approval and mockery, or the one word of a shorter line; and those of filler."""
    approving = (_first_two(_grammar()[name]) for name in (*UNITS, "mockery"))
    return frozenset().union(*approving), _first_two(_grammar()["filler"])


@cache
def _starters() -> frozenset[str]:
    return frozenset(words[0] for openings in _openings() for words in openings if words)


@cache
def _first_two(choice: WordChoice) -> frozenset[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for parts in choice.options:
        said: set[tuple[str, ...]] = {()}
        for part in parts:
            if isinstance(part, str) and not part.startswith("<"):
                further = frozenset({(part,)})
            else:
                further = _first_two(part if isinstance(part, WordChoice) else _grammar()[part[1:-1]])
            said = {words if len(words) == 2 else (words + more)[:2] for words in said for more in further}
        found |= said
    return frozenset(found)


@cache
def _beginnings(choice: WordChoice) -> tuple[Beginning, ...]:
    """Of each option: a look at the next word rules most options out."""
    return tuple(map(_beginning, choice.options))


@cache
def _options(choice: WordChoice) -> dict[str, tuple[Parts, ...]]:
    """The options that can begin with each word, those that may be empty included; "" has the latter alone."""
    pairs = list(zip(choice.options, _beginnings(choice), strict=True))
    words = {"", *(word for _, beginning in pairs for word in beginning.words)}
    return {word: tuple(parts for parts, each in pairs if each.empty or word in each.words) for word in words}


def _beginning(parts: Sequence[str | WordChoice]) -> Beginning:
    words: frozenset[str] = frozenset()
    for part in parts:
        if isinstance(part, str) and not part.startswith("<"):
            return Beginning(words | {part}, False)
        inner = _beginnings(part if isinstance(part, WordChoice) else _grammar()[part[1:-1]])
        words = words.union(*(each.words for each in inner))
        if not any(each.empty for each in inner):
            return Beginning(words, False)
    return Beginning(words, True)


@cache
def _complaining() -> frozenset[str]:
    """Words that deny or find fault."""
    named = zip(range(1, len(KNOWN.words) + 1), KNOWN.words, strict=True)
    flags = [KNOWN.sections["not"], *(KNOWN.parts[name] for name in _CUES)]
    return frozenset(fold(word) for row, word in named if any(flag[row] for flag in flags))
