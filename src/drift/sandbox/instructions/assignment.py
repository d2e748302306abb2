"""What a user wants at one point of a conversation, drawn at random and put into words."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from drift.sandbox.instructions.book import Part, asks, chapters, follow_ups, instruct, topics, topics_of
from drift.sandbox.instructions.constraints import KINDS, Constraint
from drift.sandbox.instructions.constraints.text import parts_of_words
from drift.sandbox.instructions.constraints.words import translations

FOLLOW_UP_WEIGHTS = {"shorter": 0.25, "longer": 0.15, "change": 0.35, "switch": 0.25}
_SIGNS_WITHOUT_THE_LETTER = 4


@dataclass(frozen=True, slots=True)
class RequestMix:
    """What is asked for. `two`, `three`: shares of the requests with so many constraints; the others have one.

    `kinds`: the only kinds of constraints that requests and follow-ups bring; empty for all.
    """

    two: float = 0.3
    three: float = 0.1
    kinds: tuple[str, ...] = ()

    @property
    def absolute(self) -> list[str]:
        return [name for name, kind in KINDS.items() if not kind.relative and (not self.kinds or name in self.kinds)]

    def allows(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds


EVERYTHING = RequestMix()


@dataclass(frozen=True, slots=True)
class Assignment:
    """`asked`: the user's requests in their words. `before`: the reply that a follow-up wants changed, else empty."""

    topic: str
    constraints: tuple[Constraint, ...]
    asked: str
    before: str = ""


def compatible(constraints: Sequence[Constraint], topic: str) -> bool:
    """Can one reply about the topic keep all of them?"""
    kinds = [KINDS[constraint.kind] for constraint in constraints]
    if not all(one.fits(two) for i, one in enumerate(kinds) for two in kinds[i + 1 :]):
        return False
    for constraint in constraints:
        others = _demanded([other for other in constraints if other is not constraint])
        if constraint.kind == "avoid_word" and constraint.values[0] in parts_of_words(f"{topic} {others}"):
            return False
        if constraint.kind == "avoid_letter" and not _can_avoid(constraint.values[0], others, topic):
            return False
    return True


def _demanded(constraints: Sequence[Constraint]) -> str:
    """The words that these constraints put into a reply."""
    demanded = []
    for constraint in constraints:
        demanded += constraint.values
        if constraint.kind == "foreign_word":
            demanded += translations()[constraint.values[0]][constraint.values[1]]
    return " ".join(demanded).lower()


def _can_avoid(letter: str, demanded: str, topic: str) -> bool:
    signs = [sign for sign in topics()[topic] if letter not in sign]
    return letter not in demanded and letter not in topic.lower() and len(signs) >= _SIGNS_WITHOUT_THE_LETTER


def changed(assignment: Assignment, constraint: Constraint, asked: str, before: str) -> Assignment:
    """One more constraint: it replaces those that cannot stand beside it, among them one of its own kind."""
    kept = [c for c in assignment.constraints if not KINDS[c.kind].relative]
    kept = [c for c in kept if compatible((c, constraint), assignment.topic)]
    return Assignment(assignment.topic, (*kept, constraint), f"{assignment.asked}\n{asked}", before)


def switched(assignment: Assignment, topic: str, asked: str) -> Assignment:
    """The same about another topic. "Now shorter" was about the reply before and is over."""
    kept = tuple(c for c in assignment.constraints if not KINDS[c.kind].relative)
    return Assignment(topic, kept, f"{assignment.asked}\n{asked}")


def draw_request(rng: random.Random, part: Part, kind: str | None = None, mix: RequestMix = EVERYTHING) -> Assignment:
    """A request with one to three constraints. `kind`: of the first of them."""
    absolute = mix.absolute
    topic = rng.choice(topics_of(part))
    wanted = rng.choices((1, 2, 3), (1 - mix.two - mix.three, mix.two, mix.three))[0]
    constraints: tuple[Constraint, ...] = ()
    for _ in range(100):
        name = kind if kind and not constraints else rng.choice(absolute)
        more = (*constraints, draw_constraint(rng, name, part))
        if compatible(more, topic):
            constraints = more
        elif not constraints:
            topic = rng.choice(topics_of(part))
        if len(constraints) == wanted:
            break
    sentences = [rng.choice(asks(part)).format(topic=topic)]
    sentences += [instruction(rng, constraint, part) for constraint in constraints]
    return Assignment(topic, constraints, " ".join(sentences))


def draw_constraint(rng: random.Random, kind: str, part: Part) -> Constraint:
    return Constraint(kind, rng.choice(chapters()[kind].values[part]))


def instruction(rng: random.Random, constraint: Constraint, part: Part) -> str:
    return instruct(constraint, rng.choice(chapters()[constraint.kind].instructions[part]))


def draw_follow_up(
    rng: random.Random, part: Part, assignment: Assignment, before: str, mix: RequestMix = EVERYTHING
) -> tuple[str, Assignment]:
    """A follow-up that changes one thing, and what the user wants then."""
    weights = {way: weight for way, weight in FOLLOW_UP_WEIGHTS.items() if way not in KINDS or mix.allows(way)}
    for _ in range(1000):
        way = rng.choices(list(weights), list(weights.values()))[0]
        if way == "switch":
            topic = rng.choice(topics_of(part))
            asked = rng.choice(follow_ups("switch", part)).format(topic=topic)
            after = switched(assignment, topic, asked)
            if topic != assignment.topic and compatible(after.constraints, topic):
                return asked, after
            continue
        if way in KINDS and any(KINDS[c.kind].relative for c in assignment.constraints):
            continue  # shorter than short may be more than anybody can do
        constraint = Constraint(way) if way in KINDS else _new_constraint(rng, part, assignment, mix)
        if constraint in assignment.constraints:
            continue
        asked = instruction(rng, constraint, part)
        if way == "change":
            asked = rng.choice(follow_ups("change", part)).format(instruction=asked)
        after = changed(assignment, constraint, asked, before)
        lost = len(assignment.constraints) + 1 - len(after.constraints)
        if compatible((constraint,), assignment.topic) and lost <= (0 if way in KINDS else 1):
            return asked, after
    raise AssertionError("unreachable: another topic or constraint always fits")


def _new_constraint(rng: random.Random, part: Part, assignment: Assignment, mix: RequestMix) -> Constraint:
    """One of any kind, or (one time in two) another value of a kind that the assignment has."""
    had = [c.kind for c in assignment.constraints if len(chapters()[c.kind].values[part]) > 1]
    had = [kind for kind in had if not KINDS[kind].relative]
    kinds = had if had and rng.random() < 0.5 else mix.absolute
    return draw_constraint(rng, rng.choice(kinds), part)


def written(rng: random.Random, text: str, careless: float, protected: str = "") -> str:
    """As users write: with probability `careless` without capitals, punctuation and with a typing error.

    `protected`: words that stay as they are, since what is asked for depends on them.
    """
    if rng.random() >= careless:
        return text
    text = re.sub(r"[.,!?;:\"”“]+(?=\s|$)|(?<!\S)[\"“]+", "", text).replace("'", "").replace("’", "")
    kept = {word.lower() for word in re.findall(r"\w+", protected)}
    tokens = text.lower().split(" ")
    longer = [i for i, token in enumerate(tokens) if len(token) > 4 and token.isalpha() and token not in kept]
    for i in rng.sample(longer, min(len(longer), 1 + len(longer) // 12)):
        k = rng.randrange(1, len(tokens[i]) - 2)
        tokens[i] = tokens[i][:k] + tokens[i][k + 1] + tokens[i][k] + tokens[i][k + 2 :]
    return " ".join(tokens)


def protected_words(assignment: Assignment) -> str:
    values = [value for constraint in assignment.constraints for value in constraint.values]
    return " ".join([assignment.topic, *values])
