"""Expands the phrase book into training examples: a turn that reacts to a reply, its verdict and its subtype."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drift.feedback.embedded.book import read_sections
from drift.feedback.embedded.features import Turn
from drift.records import Verdict

CHOICE = re.compile(r"\{([^{}]*)\}")
SLOT = re.compile(r"<([A-Za-z]+)2?>")
RENDITIONS: dict[Verdict, int] = {"DSAT": 24, "SAT": 40, "NEUTRAL": 48}
PAGES: dict[Verdict, str] = {"DSAT": "dissatisfied", "SAT": "satisfied", "NEUTRAL": "neutral"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of the book. `{a|b}` is a choice, `<slot>` is filled from a task."""

    verdict: Verdict
    subtype: str
    text: str

    def phrases(self) -> Iterator[str]:
        """Every way to make the choices; slots stay."""
        return _choices(self.text)


@dataclass(frozen=True, slots=True)
class PhraseTask:
    """One kind of request: its wordings, its replies, and the words that users have for it."""

    kind: str
    request: tuple[str, ...]
    noun: tuple[str, ...]
    ask: tuple[str, ...]
    constraint: tuple[str, ...]
    reply: tuple[str, ...]
    flaw: tuple[str, ...]

    @property
    def writes_code(self) -> bool:
        return any("`" in reply for reply in self.reply)


@dataclass(frozen=True, slots=True)
class PhraseExample:
    """A rendered pattern. `pattern`: the index of its line in the book."""

    turn: Turn
    verdict: Verdict
    subtype: str
    pattern: int


@dataclass(frozen=True, slots=True)
class Book:
    patterns: tuple[Pattern, ...]
    tasks: tuple[PhraseTask, ...]
    fillings: dict[str, tuple[str, ...]]


def read_book() -> Book:
    """The phrase book that ships with the project."""
    patterns = tuple(
        Pattern(verdict, section, line) for verdict, page in PAGES.items() for section, line in _lines(f"{page}.txt")
    )
    fillings = {section: _split(line) for section, line in _lines("fillings.txt")}
    return Book(patterns, tuple(_tasks()), fillings)


def expand(book: Book, seed: int) -> list[PhraseExample]:
    """Render each pattern several times, each time about a random task. The same seed gives the same examples."""
    writer = _Writer(book, random.Random(seed))
    return [
        writer.example(number, pattern)
        for number, pattern in enumerate(book.patterns)
        for _ in range(RENDITIONS[pattern.verdict] if "{" in pattern.text or "<" in pattern.text else 2)
    ]


class _Writer:
    """Writes turns; every random choice comes from one generator."""

    def __init__(self, book: Book, rng: random.Random):
        self.book = book
        self.rng = rng
        self.of: dict[Verdict, list[Pattern]] = {
            verdict: [pattern for pattern in book.patterns if pattern.verdict == verdict] for verdict in PAGES
        }

    def example(self, number: int, pattern: Pattern) -> PhraseExample:
        scene = self.scene(code="<error>" in pattern.text)
        text = self.sentence(pattern, scene)
        compose = {"DSAT": self.complain, "SAT": self.approve, "NEUTRAL": self.carry_on}[pattern.verdict]
        text = self.roughen(compose(text, scene))
        request = scene["request"] if self.rng.random() > 0.08 else ""
        if pattern.subtype == "continue" and self.rng.random() < 0.4:
            request = text if self.rng.random() < 0.7 else self.rng.choice(("continue", "Go on.", "next", "keep going"))
        return PhraseExample(Turn(text, scene["reply"], request), pattern.verdict, pattern.subtype, number)

    def complain(self, text: str, scene: dict[str, str]) -> str:
        """A complaint alone, or beside more: the request again, a second complaint, thanks, pasted text."""
        dice = self.rng.random()
        if dice < 0.60:
            return text
        if dice < 0.70:
            return f"{text} {scene['request']}"
        if dice < 0.82:
            return f"{text} {self.sentence(self.rng.choice(self.of['DSAT']), scene)}"
        if dice < 0.88:
            opener = self.rng.choice(
                ["Thanks", "Thank you", "Nice", "Ok", "Good try", "Great", "I see", "Better", "Ok thanks"]
            )
            return f"{opener}{self.rng.choice([', but ', ' but ', '. But ', ', however '])}{text[0].lower()}{text[1:]}"
        return self.beside(text, scene)

    def approve(self, text: str, scene: dict[str, str]) -> str:
        """Approval alone, twice, or before the next request."""
        dice = self.rng.random()
        if dice < 0.60:
            return text
        if dice < 0.75:
            return f"{text} {self.sentence(self.rng.choice(self.of['SAT']), scene)}"
        return f"{text} {self.sentence(self.rng.choice(self.of['NEUTRAL']), scene)}"

    def carry_on(self, text: str, scene: dict[str, str]) -> str:
        """Alone, after a short "ok", with more of its kind (long requests make many demands), or with pasted text."""
        dice = self.rng.random()
        if dice < 0.55:
            return text
        if dice < 0.65:
            opener = self.rng.choice(("Ok", "Okay", "Alright", "I see", "Hmm ok", "Right"))
            return f"{opener}{self.rng.choice(('. ', ', ', ' '))}{text}"
        if dice < 0.82:
            more = self.rng.choices(self.of["NEUTRAL"], k=self.rng.randint(1, 5))
            return " ".join([text, *(self.sentence(pattern, scene) for pattern in more)])
        return self.beside(text, scene)

    def beside(self, text: str, scene: dict[str, str]) -> str:
        """A text before, or after, what the user pastes."""
        parts = [text, self.pasted(scene)]
        return "\n".join(parts if self.rng.random() < 0.65 else parts[::-1])

    def scene(
        self, code: bool = False, kind: PhraseTask | None = None, near: dict[str, str] | None = None
    ) -> dict[str, str]:
        """A task with its slots filled, by name: request, other, reply, noun, ask, constraint, flaw, word ...

        `near`: another scene of this kind, of which this one may share the wording and some words.
        """
        coding = [task for task in self.book.tasks if task.writes_code] if code else []
        task = kind or self.rng.choice(coding or list(self.book.tasks))
        slots = self.fillings(near)
        wordings = self.rng.sample(task.request, 2)
        if near and self.rng.random() < 0.5:
            wordings[0] = near["wording"]
        for name, line in (("request", wordings[0]), ("other", wordings[1])):
            slots[name] = self.fill(line, slots)
        for name in ("noun", "ask", "constraint", "reply", "flaw"):
            slots[name] = self.fill(self.rng.choice(getattr(task, name)), slots)
        slots |= {"kind": task.kind, "wording": wordings[0]}
        return slots

    def fillings(self, near: dict[str, str] | None) -> dict[str, str]:
        rng = self.rng
        slots = {name: rng.choice(values) for name, values in self.book.fillings.items()}
        shared = rng.sample(near["list"].split(", "), 2) if near and rng.random() < 0.5 else []
        words = list(dict.fromkeys(shared + rng.sample(self.book.fillings["word"], 6)))
        rng.shuffle(words)
        top = rng.choice((10, 20, 100, 1000))
        numbers = rng.sample(range(2, top), 3)
        slots |= {"word": words[0], "word2": words[1], "list": ", ".join(words[: rng.randint(3, 6)])}
        slots |= {"n": str(numbers[0]), "m": str(numbers[1]), "k": str(numbers[2]), "place2": "Spain"}
        return slots | {"year": str(rng.randint(1500, 1990)), "year2": str(rng.randint(1500, 1990))}

    def fill(self, line: str, slots: dict[str, str]) -> str:
        """Choices made, slots filled; `<Word>` is `<word>` with a capital; unknown slots (HTML tags) stay."""

        def value(match: re.Match[str]) -> str:
            name = match[0][1:-1]
            filling = slots.get(name[0].lower() + name[1:])
            if name == "filler":
                filling = self.rng.choice(self.book.fillings["filler"])
            if filling is None:
                return match[0]
            return filling if name[0].islower() else filling[0].upper() + filling[1:]

        return SLOT.sub(value, line.replace("<br>", "\n"))

    def sentence(self, pattern: Pattern, scene: dict[str, str]) -> str:
        """One rendition of a pattern, ended like a sentence (or not, as people do)."""
        line = pattern.text
        while match := CHOICE.search(line):
            line = line[: match.start()] + self.rng.choice(match[1].split("|")) + line[match.end() :]
        slots = dict(scene)
        if "<new" in line or "<same" in line:
            slots |= self.next_request(scene)
        if "<pasted>" in line:
            slots["pasted"] = self.pasted(scene)
        for name in ("error", "code"):
            slots[name] = self.fill(slots[name], slots)
        text = " ".join(self.fill(line, slots).split(" ")).strip()
        return text if text[-1:] in "?!.:" else text + self.rng.choice((".", ".", "!", ""))

    def next_request(self, scene: dict[str, str]) -> dict[str, str]:
        """Another request, often of the same kind with other values: it looks like a repetition but is not one."""
        other = self.scene()
        kind = next((task for task in self.book.tasks if task.kind == scene["kind"]), None)
        same = scene if kind else other
        while same["request"] in (scene["request"], scene["other"]):
            same = self.scene(kind=kind, near=scene)
        new = same if self.rng.random() < 0.5 else other
        return {"new": new["request"], "newask": other["ask"], "same": same["request"]}

    def pasted(self, scene: dict[str, str]) -> str:
        """Text that a user copies in: code, or some paragraphs."""
        if self.rng.random() < 0.3:
            return self.fill(self.rng.choice(self.book.fillings["code"]), scene)
        return " ".join(self.rng.choices(self.book.fillings["filler"], k=self.rng.randint(1, 12)))

    def roughen(self, text: str) -> str:
        """Typed in a hurry: no capitals, no full stop, a lost or swapped letter, shouting."""
        rng = self.rng
        if rng.random() < 0.35:
            text = text.lower()
        elif rng.random() < 0.03:
            text = text.upper()
        if rng.random() < 0.35 and text.endswith("."):
            text = text[:-1]
        if rng.random() < 0.15:
            text = text.replace("'", "")
        if rng.random() < 0.08 and len(text) > 8:
            at = rng.randrange(1, min(len(text), 60) - 2)
            text = text[:at] + rng.choice(("", text[at + 1] + text[at])) + text[at + 2 :]
        return text + rng.choice(("!", "!!", "...", " :(", "??")) if rng.random() < 0.03 else text


def _choices(text: str) -> Iterator[str]:
    match = CHOICE.search(text)
    if match is None:
        yield " ".join(text.split())
        return
    for option in match[1].split("|"):
        yield from _choices(text[: match.start()] + option + text[match.end() :])


def _lines(name: str) -> Iterator[tuple[str, str]]:
    return ((section, line) for section, lines in read_sections(name).items() for line in lines)


def _tasks() -> Iterator[PhraseTask]:
    fields: dict[str, dict[str, tuple[str, ...]]] = {}
    for kind, line in _lines("tasks.txt"):
        name, _, value = line.partition(": ")
        fields.setdefault(kind, {})[name] = _split(value)
    for kind, values in fields.items():
        yield PhraseTask(kind, **values)


def _split(line: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in line.split(" / "))
