"""Nine skills whose answers can be checked by a program, so that the true utility of any reply is known.

A skill draws the arguments of a task, gives its right answer, scores a wrong one (`partial`, in [0, 1]), and knows the
mistakes an assistant makes: `slips` at random, and one `dominant` slip that goes with certain phrasings.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

Args = tuple[str | int, ...]

_BOOK = yaml.safe_load(resources.files("drift.sandbox").joinpath("tasks.yaml").read_text(encoding="utf-8"))
WORDS, TOPICS, ABOUT = _BOOK["words"], _BOOK["topics"], _BOOK["about"]
NAMES, CITIES, COUNTRIES = _BOOK["names"], _BOOK["cities"], _BOOK["countries"]
CATEGORIES: dict[str, list[str]] = _BOOK["categories"]
ATTRIBUTES: dict[str, list[str]] = {
    "capital": CITIES,
    "currency": _BOOK["currencies"],
    "national bird": _BOOK["birds"],
}


@dataclass(frozen=True, slots=True)
class Skill:
    """What can be asked, what is right, and how an assistant gets it wrong."""

    name: str
    draw: Callable[[random.Random], Args]
    show: Callable[[Args], dict[str, str]]
    answer: Callable[[Args], str]
    is_right: Callable[[Args, str], bool]
    partial: Callable[[Args, str], float]
    slips: Callable[[Args, random.Random], str]
    dominant: Callable[[Args, random.Random], str]

    @property
    def phrasings(self) -> list[str]:
        """Format strings over what `show` gives; the last third of them draws the dominant slip."""
        return _BOOK["phrasings"][self.name]


def _overlap(reply: str, answer: str) -> float:
    """Share of the answer's words that stand at their place in the reply."""
    got, wanted = reply.split(), answer.split()
    return sum(g == w for g, w in zip(got, wanted, strict=False)) / max(len(got), len(wanted), 1)


def _words(count: range) -> Callable[[random.Random], Args]:
    return lambda rng: tuple(rng.sample(WORDS, rng.choice(count)))


def _joined(args: Args) -> dict[str, str]:
    return {"list": " ".join(str(a) for a in args), "commas": ", ".join(str(a) for a in args)}


def _one_missing(words: list[str], rng: random.Random) -> str:
    gone = rng.randrange(len(words))
    return " ".join(word for i, word in enumerate(words) if i != gone)


def _list_skill(name: str, arrange: Callable[[list[str]], list[str]]) -> Skill:
    """Skills that put the words of a list in another order; the dominant slip leaves them as they were."""

    def answer(args: Args) -> str:
        return " ".join(arrange([str(a) for a in args]))

    def slips(args: Args, rng: random.Random) -> str:
        right = answer(args).split()
        i = rng.randrange(len(right) - 1)
        swapped = [*right[:i], right[i + 1], right[i], *right[i + 2 :]]
        return rng.choice([" ".join(swapped), _one_missing(right, rng)])

    return Skill(
        name=name,
        draw=_words(range(3, 5)),
        show=_joined,
        answer=answer,
        is_right=lambda args, reply: reply.replace(",", "").split() == answer(args).split(),
        partial=lambda args, reply: _overlap(reply.replace(",", ""), answer(args)),
        slips=slips,
        dominant=lambda args, rng: " ".join(str(a) for a in args),
    )


def _number_partial(wanted: int, reply: str) -> float:
    return 0.5 if reply.strip(" .").isdecimal() and abs(int(reply.strip(" .")) - wanted) <= 1 else 0.0


def _add() -> Skill:
    def answer(args: Args) -> str:
        return str(int(args[0]) + int(args[1]))

    def without_carry(args: Args, rng: random.Random) -> str:
        """Adds digit by digit and forgets the carry; without a carry it is off by one."""
        a, b = int(args[0]), int(args[1])
        forgot = (a // 10 + b // 10) * 10 + (a % 10 + b % 10) % 10
        return str(forgot if forgot != a + b else a + b + 1)

    def slips(args: Args, rng: random.Random) -> str:
        right = int(answer(args))
        return str(max(0, right + rng.choice([-10, -2, -1, 1, 2, 10])))

    return Skill(
        name="add",
        draw=lambda rng: (rng.randrange(2, 40), rng.randrange(2, 40)),
        show=lambda args: {"a": str(args[0]), "b": str(args[1])},
        answer=answer,
        is_right=lambda args, reply: reply.strip(" .") == answer(args),
        partial=lambda args, reply: _number_partial(int(answer(args)), reply),
        slips=slips,
        dominant=without_carry,
    )


def _upper() -> Skill:
    def answer(args: Args) -> str:
        return " ".join(str(a).upper() for a in args)

    def slips(args: Args, rng: random.Random) -> str:
        loud = rng.randrange(len(args))
        mixed = " ".join(str(a).upper() if i == loud else str(a) for i, a in enumerate(args))
        return rng.choice([mixed, " ".join(str(a) for a in args), _one_missing(answer(args).split(), rng)])

    return Skill(
        name="upper",
        draw=_words(range(2, 4)),
        show=_joined,
        answer=answer,
        is_right=lambda args, reply: reply.replace(",", "").split() == answer(args).split(),
        partial=lambda args, reply: _overlap(reply.replace(",", ""), answer(args)),
        slips=slips,
        dominant=lambda args, rng: " ".join(str(a).capitalize() for a in args),
    )


def _count() -> Skill:
    def answer(args: Args) -> str:
        return str(len(args))

    return Skill(
        name="count",
        draw=_words(range(2, 8)),
        show=_joined,
        answer=answer,
        is_right=lambda args, reply: reply.strip(" .") == answer(args),
        partial=lambda args, reply: _number_partial(len(args), reply),
        slips=lambda args, rng: str(max(1, len(args) + rng.choice([-2, -1, 1, 2]))),
        dominant=lambda args, rng: str(len(args) - 1),
    )


@cache
def facts() -> dict[tuple[str, str], str]:
    """The closed world: (country, attribute) -> value, each value used once."""
    rng = random.Random("facts")
    return {
        (country, attribute): value
        for attribute, values in ATTRIBUTES.items()
        for country, value in zip(COUNTRIES, rng.sample(values, len(values)), strict=True)
    }


def _fact() -> Skill:
    def answer(args: Args) -> str:
        return facts()[str(args[0]), str(args[1])]

    def slips(args: Args, rng: random.Random) -> str:
        return rng.choice([value for value in ATTRIBUTES[str(args[1])] if value != answer(args)])

    def neighbour(args: Args, rng: random.Random) -> str:
        """The value of the next country on the map."""
        following = COUNTRIES[(COUNTRIES.index(str(args[0])) + 1) % len(COUNTRIES)]
        return facts()[following, str(args[1])]

    return Skill(
        name="fact",
        draw=lambda rng: (rng.choice(COUNTRIES), rng.choice(list(ATTRIBUTES))),
        show=lambda args: {"country": str(args[0]), "attribute": str(args[1])},
        answer=answer,
        is_right=lambda args, reply: reply.strip(" .").lower() == answer(args).lower(),
        partial=lambda args, reply: 0.3 if reply.strip(" .") in ATTRIBUTES[str(args[1])] else 0.0,
        slips=slips,
        dominant=neighbour,
    )


def _json() -> Skill:
    def answer(args: Args) -> str:
        return json.dumps({"name": args[0], "age": args[1], "city": args[2]})

    def parsed(reply: str) -> object:
        try:
            return json.loads(reply)
        except ValueError:
            return None

    def partial(args: Args, reply: str) -> float:
        got, wanted = parsed(reply), json.loads(answer(args))
        if isinstance(got, dict):
            return sum(str(got.get(key)) == str(value) for key, value in wanted.items()) / len(wanted)
        return 0.3 if str(args[0]) in reply and str(args[2]) in reply else 0.0

    def slips(args: Args, rng: random.Random) -> str:
        right = json.loads(answer(args))
        dropped = json.dumps({k: v for k, v in right.items() if k != rng.choice(["age", "city"])})
        older = json.dumps(right | {"age": right["age"] + rng.choice([-1, 1])})
        return rng.choice([dropped, older, answer(args)[:-1], answer(args).replace('"', "'")])

    return Skill(
        name="json",
        draw=lambda rng: (rng.choice(NAMES), rng.randrange(18, 80), rng.choice(CITIES)),
        show=lambda args: {"name": str(args[0]), "age": str(args[1]), "city": str(args[2])},
        answer=answer,
        is_right=lambda args, reply: parsed(reply) == json.loads(answer(args)),
        partial=partial,
        slips=slips,
        dominant=lambda args, rng: json.dumps({"name": args[0], "age": str(args[1]), "city": args[2]}),
    )


def _exact_words() -> Skill:
    def text(args: Args, count: int, rng: random.Random) -> str:
        return " ".join([str(args[1]), *rng.sample(ABOUT, count - 1)])

    def right(args: Args, reply: str) -> bool:
        words = reply.strip(" .").split()
        about = {str(args[1]), *ABOUT}
        return len(words) == args[0] == len(set(words)) and str(args[1]) in words and set(words) <= about

    def partial(args: Args, reply: str) -> float:
        words = reply.split()
        return 0.5 * (str(args[1]) in words) + 0.5 * (len(words) == args[0])

    def slips(args: Args, rng: random.Random) -> str:
        return text(args, max(1, int(args[0]) + rng.choice([-2, -1, 1, 2])), rng)

    return Skill(
        name="exact_words",
        draw=lambda rng: (rng.randrange(2, 7), rng.choice(TOPICS)),
        show=lambda args: {"n": str(args[0]), "topic": str(args[1])},
        answer=lambda args: text(args, int(args[0]), random.Random(repr(args))),
        is_right=right,
        partial=partial,
        slips=slips,
        dominant=lambda args, rng: text(args, int(args[0]) + 1, rng),
    )


def _bullets() -> Skill:
    def items(args: Args, count: int, rng: random.Random) -> list[str]:
        return rng.sample(CATEGORIES[str(args[1])], count)

    def right(args: Args, reply: str) -> bool:
        lines = reply.split("\n")
        named = {line.removeprefix("- ") for line in lines}
        dashed = all(line.startswith("- ") for line in lines)
        return dashed and len(lines) == len(named) == args[0] and named <= set(CATEGORIES[str(args[1])])

    def partial(args: Args, reply: str) -> float:
        lines = reply.split("\n")
        return 0.5 * all(line.startswith("- ") for line in lines) + 0.5 * (len(lines) == args[0])

    def slips(args: Args, rng: random.Random) -> str:
        listed = items(args, max(1, int(args[0]) + rng.choice([-1, 1, 2])), rng)
        bare = items(args, int(args[0]), rng)
        return rng.choice(["\n".join(f"- {item}" for item in listed), "\n".join(bare)])

    def answer(args: Args) -> str:
        return "\n".join(f"- {item}" for item in items(args, int(args[0]), random.Random(repr(args))))

    return Skill(
        name="bullets",
        draw=lambda rng: (rng.randrange(2, 5), rng.choice(list(CATEGORIES))),
        show=lambda args: {"n": str(args[0]), "category": str(args[1])},
        answer=answer,
        is_right=right,
        partial=partial,
        slips=slips,
        dominant=lambda args, rng: ", ".join(items(args, int(args[0]), rng)),
    )


SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        _add(),
        _list_skill("reverse", lambda words: words[::-1]),
        _list_skill("sort", sorted),
        _upper(),
        _count(),
        _fact(),
        _json(),
        _exact_words(),
        _bullets(),
    )
}
