"""Arithmetic and short reasoning with one right answer: sums, word problems, sequences, weekdays, orders."""

import random
from collections.abc import Callable
from functools import partial

from drift.gate.guards.answers import only_number, only_word
from drift.gate.items import DrawnItem, asked
from drift.records import Completion

NAMES = ("Anna", "Boris", "Clara", "David", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kemal", "Lena")
THINGS = ("apples", "books", "coins", "stamps", "marbles", "pencils", "shells", "cards", "eggs", "tickets")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBER_ALONE, WORD_ALONE = "Answer with the number alone.", "Answer with one word."

ArithmeticQuestion = tuple[str, int | str, tuple[str, ...]]
"""What is asked, the right answer, and for a word the words that it could be."""


def draw_arithmetic(rng: random.Random, number: int) -> DrawnItem:
    """The kinds take turns, so that every stream has them in equal shares."""
    text, right, candidates = _KINDS[number % len(_KINDS)](rng)
    if isinstance(right, int):
        return asked(f"{text} {NUMBER_ALONE}", partial(number_problems, right=right))
    return asked(f"{text} {WORD_ALONE}", partial(word_problems, right=right, candidates=candidates))


def number_problems(answer: Completion, right: float) -> tuple[str, ...]:
    given = only_number(answer.text)
    return () if given == right else ("no number",) if given is None else ("wrong number",)


def word_problems(answer: Completion, right: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
    given = only_word(answer.text, candidates)
    return () if given == right.lower() else ("no answer",) if given is None else ("wrong answer",)


def _small_sum(rng: random.Random) -> ArithmeticQuestion:
    a, b = rng.randint(1, 12), rng.randint(1, 12)
    return f"What is {a} + {b}?", a + b, ()


def _sum(rng: random.Random) -> ArithmeticQuestion:
    a, b = rng.randint(11, 99), rng.randint(11, 99)
    return f"What is {a} + {b}?", a + b, ()


def _difference(rng: random.Random) -> ArithmeticQuestion:
    a, b = sorted((rng.randint(2, 60), rng.randint(2, 60)))
    return f"What is {b} - {a}?", b - a, ()


def _product(rng: random.Random) -> ArithmeticQuestion:
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    return f"What is {a} times {b}?", a * b, ()


def _more(rng: random.Random) -> ArithmeticQuestion:
    name, thing, a, b = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 20), rng.randint(2, 20)
    return f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?", a + b, ()


def _fewer(rng: random.Random) -> ArithmeticQuestion:
    name, thing, a, b = rng.choice(NAMES), rng.choice(THINGS), rng.randint(11, 30), rng.randint(2, 10)
    return f"{name} has {a} {thing} and gives {b} away. How many {thing} are left?", a - b, ()


def _boxes(rng: random.Random) -> ArithmeticQuestion:
    thing, a, b = rng.choice(THINGS), rng.randint(2, 9), rng.randint(3, 12)
    return f"There are {a} boxes with {b} {thing} each. How many {thing} are there in all?", a * b, ()


def _sequence(rng: random.Random) -> ArithmeticQuestion:
    start, step = rng.randint(1, 20), rng.randint(1, 9)
    shown = ", ".join(str(start + step * i) for i in range(4))
    return f"Which number comes next: {shown}?", start + 4 * step, ()


def _larger(rng: random.Random) -> ArithmeticQuestion:
    a, b = rng.sample(range(10, 1000), 2)
    return f"Which number is larger, {a} or {b}?", max(a, b), ()


def _weekday(rng: random.Random) -> ArithmeticQuestion:
    day, later = rng.randrange(7), rng.randint(1, 6)
    ask = f"Today is {DAYS[day].capitalize()}. What day of the week is it in {later} day{'s' * (later > 1)}?"
    return ask, DAYS[(day + later) % 7], DAYS


def _order(rng: random.Random) -> ArithmeticQuestion:
    one, two, three = rng.sample(NAMES, 3)
    more, least = rng.choice((("taller", "shortest"), ("older", "youngest"), ("faster", "slowest")))
    return f"{one} is {more} than {two}. {two} is {more} than {three}. Who is the {least}?", three, (one, two, three)


_KINDS: tuple[Callable[[random.Random], ArithmeticQuestion], ...] = (
    _small_sum, _sum, _difference, _product, _more, _fewer, _boxes, _sequence, _larger, _weekday, _order,
)  # fmt: skip
