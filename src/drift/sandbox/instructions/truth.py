"""The truth about a reply: every constraint holds, it is finished, it is about the topic, and it is not degenerate."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from drift.records import ChatMessage, Finish
from drift.sandbox.instructions.assignment import Assignment
from drift.sandbox.instructions.book import shows, topics
from drift.sandbox.instructions.constraints.text import lines, sentences, words
from drift.sandbox.instructions.recognise import assignment_of

FEWEST_WORDS = 4
"""Of an answer, quotations of the request left out."""

SIGNS, SIGNS_IF_SHORT, SHORT = 2, 1, 12
"""Words that show the topic; in a reply of fewer than `SHORT` words one is enough. The topic's name counts as two."""

_SAYS_LITTLE = frozenset(
    ("time", "first", "aid", "work", "home", "hot", "light", "year", "board", "good", "table", "machine", "move")
)
"""Words of topics' names that stand in many texts."""

MOST_REPEATS = 3
"""A sentence or a line that stands this often, or a word that stands this often plus one on the spot, is a loop."""

LEAST_DISTINCT, ENOUGH_TRIGRAMS = 0.5, 12
"""Share of three-word sequences that differ from each other; measured where there are enough of them."""

ECHO = 0.7
"""A sentence of which at least this share of three-word sequences stands in the request is a quotation of it."""


@dataclass(frozen=True, slots=True)
class ReplyTruth:
    """The parts of the truth about one reply. `holds`: by constraint, in the order in which they were asked."""

    holds: tuple[tuple[str, bool], ...]
    finished: bool
    on_topic: bool
    degenerate: bool

    @property
    def all_hold(self) -> bool:
        return all(held for _, held in self.holds)

    @property
    def right(self) -> bool:
        return self.all_hold and self.finished and self.on_topic and not self.degenerate

    @property
    def score(self) -> float:
        """1 for a right reply, else 0: the mean over replies is the share of right ones."""
        return float(self.right)

    @property
    def share(self) -> float:
        """Share of the parts that are as they should be: each constraint, finished, on topic, not degenerate."""
        parts = [*(held for _, held in self.holds), self.finished, self.on_topic, not self.degenerate]
        return sum(parts) / len(parts)

    @property
    def failed(self) -> tuple[str, ...]:
        """The kinds and parts that are not as they should be."""
        parts = {"unfinished": not self.finished, "off_topic": not self.on_topic, "degenerate": self.degenerate}
        return (*(kind for kind, held in self.holds if not held), *(part for part, failed in parts.items() if failed))


def judge(assignment: Assignment, text: str, finish: Finish = "stop") -> ReplyTruth:
    """`finish`: "length" if the reply was cut at the token limit."""
    own = own_words(text, assignment.asked)
    return ReplyTruth(
        holds=tuple((c.kind, c.holds(text, assignment.before)) for c in assignment.constraints),
        finished=finish == "stop",
        on_topic=on_topic(own, assignment.topic),
        degenerate=len(words(own)) < FEWEST_WORDS or loops(text),
    )


def own_words(text: str, asked: str) -> str:
    """The sentences and lines that do not quote the request."""
    told = _trigrams(asked)
    return "\n".join(piece for piece in sentences(text) if not _quotes(piece, told))


def _quotes(sentence: str, told: set[tuple[str, ...]]) -> bool:
    found = _trigrams(sentence)
    return bool(found) and len(found & told) >= ECHO * len(found)


def _trigrams(text: str) -> set[tuple[str, ...]]:
    found = [word.lower() for word in words(text)]
    return set(zip(found, found[1:], found[2:], strict=False))


def on_topic(text: str, topic: str) -> bool:
    found = [part for word in words(text.lower()) for part in (word, *word.split("-")[1:])]
    needed = SIGNS_IF_SHORT if len(found) < SHORT else SIGNS
    return sum(_weight(word, topic) for word in found) >= needed


@lru_cache(maxsize=100_000)
def _weight(word: str, topic: str) -> int:
    """2 for a form of the topic's name, 1 for another word that shows it, else 0."""
    signs = [sign for sign in topics()[topic] if shows(word, sign)]
    name = set(words(topic.lower())) - _SAYS_LITTLE
    if any(shows(own, sign) for own in name for sign in signs if sign not in _SAYS_LITTLE):
        return 2
    return int(bool(signs))


def loops(text: str) -> bool:
    """Does it say the same thing again and again?"""
    found = [word.lower() for word in words(text)]
    run = 1
    for one, two in pairwise(found):
        run = run + 1 if one == two else 1
        if run > MOST_REPEATS:
            return True
    for pieces in (sentences(text), lines(text)):
        said = Counter(" ".join(words(piece)).lower() for piece in pieces)
        if max((count for piece, count in said.items() if piece), default=0) >= MOST_REPEATS:
            return True
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    return len(trigrams) >= ENOUGH_TRIGRAMS and len(set(trigrams)) < LEAST_DISTINCT * len(trigrams)


class InstructionOracle:
    """A Scorer (prompt, completion -> truth) for every conversation of this world, held out or logged."""

    def verdict(self, prompt: Sequence[ChatMessage], completion: str, finish: Finish = "stop") -> ReplyTruth:
        """Raises ValueError if no user message of the prompt is a request of this world."""
        assignment = assignment_of(prompt)
        if assignment is None:
            raise ValueError(f"not a request of the instructions world: {prompt[-1].content!r}")
        return judge(assignment, completion, finish)

    def score(self, prompt: Sequence[ChatMessage], completion: str, finish: Finish = "stop") -> float:
        """1 for a right reply, else 0. Raises ValueError as `verdict`."""
        return self.verdict(prompt, completion, finish).score


@dataclass(frozen=True, slots=True)
class KindTruth:
    """Of the replies whose request has a constraint of this kind: the share that keeps it, and that is right."""

    holds: float
    right: float
    replies: int


@dataclass(frozen=True, slots=True)
class TruthSummary:
    """Shares over replies. `holds`: every constraint holds. `kinds`: by name, those that occur."""

    replies: int
    right: float
    holds: float
    finished: float
    on_topic: float
    degenerate: float
    kinds: dict[str, KindTruth]


def summarize(verdicts: Sequence[ReplyTruth]) -> TruthSummary:
    """Raises ValueError if there are none."""
    if not verdicts:
        raise ValueError("no verdicts to summarize")
    by_kind: dict[str, list[tuple[bool, bool]]] = {}
    for verdict in verdicts:
        for kind, held in verdict.holds:
            by_kind.setdefault(kind, []).append((held, verdict.right))
    return TruthSummary(
        replies=len(verdicts),
        right=_share([v.right for v in verdicts]),
        holds=_share([v.all_hold for v in verdicts]),
        finished=_share([v.finished for v in verdicts]),
        on_topic=_share([v.on_topic for v in verdicts]),
        degenerate=_share([v.degenerate for v in verdicts]),
        kinds={
            kind: KindTruth(_share([held for held, _ in rows]), _share([right for _, right in rows]), len(rows))
            for kind, rows in sorted(by_kind.items())
        },
    )


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
