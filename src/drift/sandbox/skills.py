"""Nine skills whose answers can be checked by a program, so that the true utility of any reply is known.

A skill draws the arguments of a task, gives its right answer, scores a wrong one (`partial`, in [0, 1]), and knows the
mistakes an assistant makes: `slips` at random, and one `dominant` slip that goes with certain phrasings.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

Args = tuple[str | int, ...]

WORDS = tuple(
    "apple boat candle desk eagle fig garden hat island jar kite lemon moon nest olive pear queen river stone tiger "
    "urn violin wagon yarn zebra anchor bread cloud drum engine feather grape honey ink jacket kettle lamp mirror".split()
)
CATEGORIES: dict[str, tuple[str, ...]] = {
    "fruits": ("apple", "fig", "grape", "lemon", "olive", "pear", "plum", "mango"),
    "animals": ("eagle", "tiger", "zebra", "otter", "horse", "rabbit", "goat", "whale"),
    "tools": ("hammer", "saw", "drill", "wrench", "chisel", "file", "clamp", "pliers"),
    "colors": ("red", "blue", "green", "yellow", "purple", "orange", "black", "white"),
    "metals": ("iron", "gold", "silver", "copper", "zinc", "tin", "lead", "nickel"),
}
TOPICS = ("rain", "winter", "music", "bread", "trains", "forests", "coffee", "oceans")
ABOUT = ("falls", "slowly", "brings", "quiet", "warm", "old", "bright", "sings", "moves", "people", "home", "always")
NAMES = ("Ana", "Ben", "Carla", "Dev", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kim", "Lena")
CITIES = ("Arlo", "Brisk", "Corin", "Dunmar", "Elda", "Fenwick", "Galen", "Hollin", "Istra", "Jorvik", "Kelm", "Lorne")
COUNTRIES = ("Avaria", "Belmor", "Cassia", "Dorvan", "Estmark", "Fyria", "Gundal", "Hestia", "Ilmar", "Jutora", "Kovia",
             "Lyonis")  # fmt: skip
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "capital": CITIES,
    "currency": ("dram", "lira", "mark", "peso", "crown", "taler", "rand", "florin", "ducat", "shell", "obol", "penny"),
    "national bird": (
        "heron",
        "swan",
        "crane",
        "raven",
        "finch",
        "owl",
        "falcon",
        "robin",
        "stork",
        "gull",
        "wren",
        "lark",
    ),  # fmt: skip
}


@dataclass(frozen=True, slots=True)
class Skill:
    """`phrasings` are format strings over the arguments; the last third of them draws the dominant slip."""

    name: str
    phrasings: tuple[str, ...]
    draw: Callable[[random.Random], Args]
    show: Callable[[Args], dict[str, str]]
    answer: Callable[[Args], str]
    is_right: Callable[[Args, str], bool]
    partial: Callable[[Args, str], float]
    slips: Callable[[Args, random.Random], str]
    dominant: Callable[[Args, random.Random], str]


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


def _list_skill(name: str, phrasings: tuple[str, ...], arrange: Callable[[list[str]], list[str]]) -> Skill:
    """Skills that put the words of a list in another order; the dominant slip leaves them as they were."""

    def answer(args: Args) -> str:
        return " ".join(arrange([str(a) for a in args]))

    def slips(args: Args, rng: random.Random) -> str:
        right = answer(args).split()
        i = rng.randrange(len(right) - 1)
        swapped = [*right[:i], right[i + 1], right[i], *right[i + 2 :]]
        return rng.choice([" ".join(swapped), _one_missing(right, rng)])

    return Skill(
        name, phrasings, _words(range(3, 5)), _joined, answer,
        is_right=lambda args, reply: reply.replace(",", "").split() == answer(args).split(),
        partial=lambda args, reply: _overlap(reply.replace(",", ""), answer(args)),
        slips=slips,
        dominant=lambda args, rng: " ".join(str(a) for a in args),
    )  # fmt: skip


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
        "add",
        ("What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?", "Please compute the sum {a} + {b}",
         "{a} + {b} = ?", "I have {a} coins and get {b} more. How many now?"),
        draw=lambda rng: (rng.randrange(2, 50), rng.randrange(2, 50)),
        show=lambda args: {"a": str(args[0]), "b": str(args[1])},
        answer=answer,
        is_right=lambda args, reply: reply.strip(" .") == answer(args),
        partial=lambda args, reply: _number_partial(int(answer(args)), reply),
        slips=slips,
        dominant=without_carry,
    )  # fmt: skip


def _upper() -> Skill:
    def answer(args: Args) -> str:
        return " ".join(str(a).upper() for a in args)

    def slips(args: Args, rng: random.Random) -> str:
        loud = rng.randrange(len(args))
        mixed = " ".join(str(a).upper() if i == loud else str(a) for i, a in enumerate(args))
        return rng.choice([mixed, " ".join(str(a) for a in args), _one_missing(answer(args).split(), rng)])

    return Skill(
        "upper",
        ("Write in capital letters: {list}", "Make this upper case: {list}", "Uppercase the words {commas}.",
         "Put {list} in all caps please", "Shout this: {list}", "Convert to block capitals: {list}"),
        _words(range(2, 4)), _joined, answer,
        is_right=lambda args, reply: reply.replace(",", "").split() == answer(args).split(),
        partial=lambda args, reply: _overlap(reply.replace(",", ""), answer(args)),
        slips=slips,
        dominant=lambda args, rng: " ".join(str(a).capitalize() for a in args),
    )  # fmt: skip


def _count() -> Skill:
    def answer(args: Args) -> str:
        return str(len(args))

    return Skill(
        "count",
        ("How many words are in this list: {list}", "Count the words: {list}", "Number of items in {commas}?",
         "How many things did I write here: {commas}", "Tell me the length of the list {list}",
         "{list}. How many is that?"),
        _words(range(2, 8)), _joined, answer,
        is_right=lambda args, reply: reply.strip(" .") == answer(args),
        partial=lambda args, reply: _number_partial(len(args), reply),
        slips=lambda args, rng: str(max(1, len(args) + rng.choice([-2, -1, 1, 2]))),
        dominant=lambda args, rng: str(len(args) - 1),
    )  # fmt: skip


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
        "fact",
        ("What is the {attribute} of {country}?", "Name the {attribute} of {country}.", "{country}: {attribute}?",
         "Which {attribute} does {country} have?", "Do you know the {attribute} of {country}?",
         "Tell me what {country} has as its {attribute}"),
        draw=lambda rng: (rng.choice(COUNTRIES), rng.choice(list(ATTRIBUTES))),
        show=lambda args: {"country": str(args[0]), "attribute": str(args[1])},
        answer=answer,
        is_right=lambda args, reply: reply.strip(" .").lower() == answer(args).lower(),
        partial=lambda args, reply: 0.3 if reply.strip(" .") in ATTRIBUTES[str(args[1])] else 0.0,
        slips=slips,
        dominant=neighbour,
    )  # fmt: skip


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
        "json",
        ("Give JSON with name {name}, age {age}, city {city}.", "Turn into JSON: {name}, {age}, from {city}",
         "Write a JSON object for {name}, aged {age}, living in {city}", "JSON for name={name} age={age} city={city}",
         "{name} is {age} and lives in {city}. As JSON?", "Encode as json: name {name}; age {age}; city {city}"),
        draw=lambda rng: (rng.choice(NAMES), rng.randrange(18, 80), rng.choice(CITIES)),
        show=lambda args: {"name": str(args[0]), "age": str(args[1]), "city": str(args[2])},
        answer=answer,
        is_right=lambda args, reply: parsed(reply) == json.loads(answer(args)),
        partial=partial,
        slips=slips,
        dominant=lambda args, rng: json.dumps({"name": args[0], "age": str(args[1]), "city": args[2]}),
    )  # fmt: skip


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
        "exact_words",
        ("Write exactly {n} words about {topic}.", "Describe {topic} in exactly {n} words", "{topic} in {n} words, no more no less",
         "Say something about {topic} using precisely {n} words", "Give me {n} words on {topic}",
         "I need a {n} word line about {topic}"),
        draw=lambda rng: (rng.randrange(2, 7), rng.choice(TOPICS)),
        show=lambda args: {"n": str(args[0]), "topic": str(args[1])},
        answer=lambda args: text(args, int(args[0]), random.Random(repr(args))),
        is_right=right,
        partial=partial,
        slips=slips,
        dominant=lambda args, rng: text(args, int(args[0]) + 1, rng),
    )  # fmt: skip


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
        "bullets",
        ("List {n} {category} as bullets.", "Bullet list of {n} {category} please", "Name {n} {category}, one per line with a dash",
         "Give me {n} {category} in bullet points", "I want {n} {category} with dashes", "{n} {category} as a list"),
        draw=lambda rng: (rng.randrange(2, 5), rng.choice(list(CATEGORIES))),
        show=lambda args: {"n": str(args[0]), "category": str(args[1])},
        answer=answer,
        is_right=right,
        partial=partial,
        slips=slips,
        dominant=lambda args, rng: ", ".join(items(args, int(args[0]), rng)),
    )  # fmt: skip


_REVERSE = ("Reverse the order of these words: {list}", "Write backwards, word by word: {list}", "Flip this list: {commas}",
            "Say {commas} from last to first", "List in opposite order: {list}", "Turn this around: {list}")  # fmt: skip
_SORT = ("Sort alphabetically: {list}", "Put these in alphabetical order: {commas}", "Order from a to z: {list}",
         "Please alphabetize {commas}", "Arrange like in a dictionary: {list}", "Sort {list}")  # fmt: skip

SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        _add(),
        _list_skill("reverse", _REVERSE, lambda words: words[::-1]),
        _list_skill("sort", _SORT, sorted),
        _upper(),
        _count(),
        _fact(),
        _json(),
        _exact_words(),
        _bullets(),
    )
}
