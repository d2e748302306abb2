"""A right reply to any assignment, put together from plain sentences about the topic's words.

It shows that every request can be answered rightly (a test draws thousands), stands as the assistant's earlier reply in
held-out conversations, and lets the world be tried without a model. Nobody would train on it: it is no good prose.
"""

import random
from collections.abc import Mapping, Sequence

from drift.sandbox.instructions.assignment import Assignment
from drift.sandbox.instructions.book import topics
from drift.sandbox.instructions.constraints.text import words
from drift.sandbox.instructions.constraints.words import personas, translations

_FRAMES = (
    "Most of it is about {a} and {b}.",
    "Think of {a} first and then of {b}.",
    "There is more to say about {a}.",
    "Some say that {a} matters most.",
    "Nobody should forget about {a}.",
    "Without {a} it would not be the same.",
    "Then there is {a} to talk about.",
    "Sooner or later you hear of {a}.",
    "After {a} comes {b}.",
    "Experts speak of {a} and of {b}.",
    "A good text about it mentions {a}.",
    "First of all there is {a}.",
    "We all know something about {a}.",
    "It takes both {a} and {b}.",
    "On some days it is all about {a}.",
    "{a} and {b} are part of {topic}.",
    "{topic} has a lot to do with {a}.",
    "Anyone who likes {topic} knows about {a}.",
    "Nobody can explain {topic} without {a}.",
)
_LONGEST_SENTENCE = 10
_SIZES = ("max_words", "min_words", "word_range")
_FEW, _SOME = 2, 5

Values = Mapping[str, tuple[str, ...]]


def right_answer(assignment: Assignment, rng: random.Random) -> str:
    """A reply that keeps every constraint, is about the topic and is not degenerate."""
    wanted = {c.kind: c.values for c in assignment.constraints}
    signs = [sign for sign in topics()[assignment.topic] if not _forbidden(sign, wanted)]
    rng.shuffle(signs)
    text = _structured(wanted, assignment.topic, signs, rng)
    if text is None:
        text = _prose(wanted, assignment, signs, rng)
    if "lower_case" in wanted:
        return text.lower()
    return text.upper() if "upper_case" in wanted else text


def _forbidden(text: str, wanted: Values) -> bool:
    letter = wanted.get("avoid_letter", ("",))[0]
    avoided = wanted.get("avoid_word", ("",))[0]
    return bool(letter and letter in text.lower()) or avoided in [word.lower() for word in words(text)]


def _structured(wanted: Values, topic: str, signs: Sequence[str], rng: random.Random) -> str | None:
    """A list of keywords or a JSON object."""
    included = [*wanted.get("include_word", ()), *wanted.get("include_two", ())]
    if "comma_list" in wanted:
        count = int(wanted["comma_list"][0]) - len(included)
        return ", ".join([*included, *signs, *(f"the {sign}" for sign in signs)][: count + len(included)])
    if "json_object" in wanted:
        first, second = wanted["json_object"]
        body = " ".join(
            [
                *_frames(wanted, topic, signs, rng)[: 1 if "max_words" in wanted else 2],
                *(f"There was a {word} too." for word in included),
            ]
        )
        return f'{{"{first}": "All about {signs[0]}", "{second}": "{body}"}}'
    return None


def _prose(wanted: Values, assignment: Assignment, signs: Sequence[str], rng: random.Random) -> str:
    special = _special_sentences(wanted, signs)
    limit = next((int(wanted[kind][0]) for kind in ("sentences", "max_sentences") if kind in wanted), None)
    closing = wanted["end_with"][0] if "end_with" in wanted else None
    if "end_question" in wanted:
        closing = f"What about {signs[0]}?"
    if limit is not None and special:
        about = f"it is about {signs[0]} with {signs[1]}."
        first, *more = [sentence.rstrip(".") for sentence in special]
        special = [" and ".join([first, *(part[:1].lower() + part[1:] for part in more), about])]
    if "begin_with" in wanted:
        opening = wanted["begin_with"][0]
        start = special.pop(0) if special and limit is not None else f"It is about {signs[0]}."
        special.insert(0, f"{opening} {start[:1].lower()}{start[1:]}")
    frames = _frames(wanted, assignment.topic, signs, rng)
    if "shorter" in wanted:  # few sentences have to show the topic
        frames.sort(key=lambda frame: -sum(sign in frame for sign in signs))
    body = [*special, *frames[: _number_of_frames(wanted, special, frames, closing, assignment.before, limit)]]
    if "exclamations" in wanted:
        body[-1] = body[-1].rstrip(".") + "!" * int(wanted["exclamations"][0])
    body = _stressed(wanted, body)
    return _laid_out(wanted, body, closing, signs)


def _frames(wanted: Values, topic: str, signs: Sequence[str], rng: random.Random) -> list[str]:
    """Short sentences about the topic, all different, without what must be avoided."""
    filled = [
        frame.format(a=a, b=signs[(i + 1 + shift) % len(signs)], topic=topic)
        for shift in range(3)
        for i, (frame, a) in enumerate(zip(rng.sample(_FRAMES, len(_FRAMES)), [*signs] * len(_FRAMES), strict=False))
    ]
    fitting = [frame for frame in dict.fromkeys(filled) if len(words(frame)) <= _LONGEST_SENTENCE]
    return [frame[:1].upper() + frame[1:] for frame in fitting if not _forbidden(frame, wanted)]


def _special_sentences(wanted: Values, signs: Sequence[str]) -> list[str]:
    """One sentence for each word, persona and name that is asked for."""
    said = [f"From {' to '.join(wanted['before'])} it goes."] if "before" in wanted else []
    said += [f"There was a {word} too." for word in wanted.get("include_word", ())]
    said += [f"There was a {word} too." for word in wanted.get("include_two", ())]
    if "word_times" in wanted:
        word, count = wanted["word_times"]
        said += [f"Here is {word} and {signs[i]}." for i in range(int(count))]
    if "foreign_word" in wanted:
        language, english = wanted["foreign_word"]
        said.append(f"They say {translations()[language][english][0]} there.")
    if "persona" in wanted:
        one, other = personas()[wanted["persona"][0]][:2]
        said.append(f"{one} and {other} it is.".capitalize())
    if "address" in wanted:
        said.append(f"Hello {wanted['address'][0]} and welcome.")
    return said


def _number_of_frames(
    wanted: Values, special: Sequence[str], frames: Sequence[str], closing: str | None, before: str, limit: int | None
) -> int:
    """How many sentences are needed besides the special ones, for the number or the length that is asked for."""
    if limit is not None:
        return limit - len(special) - (closing is not None)
    said = len(words(" ".join([*special, closing or ""])))
    if "shorter" in wanted:
        stressed = max(int(wanted.get(kind, ("0",))[0]) for kind in ("capital_words", "bold"))
        return 2 if "short_sentences" in wanted or "sections" in wanted or stressed > 2 else 1
    goal = next((int(wanted[kind][0]) for kind in ("min_words", "word_range") if kind in wanted), 0)
    said += 2 * _items(wanted) if "word_range" in wanted else 0
    if "longer" in wanted:
        goal = max(goal, len(words(before)) * 5 // 4 + 2)
    count = 0
    while count < len(frames) and said < goal:
        said += len(words(frames[count]))
        count += 1
    if any(kind in wanted for kind in _SIZES):
        return max(count, 1 if _items(wanted) else _FEW)
    return max(count, _SOME, _items(wanted))


def _items(wanted: Values) -> int:
    """The number of items of the list that is asked for, 0 for none."""
    return int(wanted.get("bullets", wanted.get("numbered", ("0",)))[0])


def _stressed(wanted: Values, body: list[str]) -> list[str]:
    """Some of the longer words in capitals or in bold print."""
    for kind in ("capital_words", "bold"):
        missing = int(wanted.get(kind, ("0",))[0])
        done: set[str] = set()
        for place, sentence in enumerate(body):
            tokens = sentence.split(" ")
            for i, token in enumerate(tokens):
                if len(done) < missing and token.isalpha() and len(token) > 2 and token.lower() not in done:
                    done.add(token.lower())
                    tokens[i] = token.upper() if kind == "capital_words" else f"**{token}**"
            body[place] = " ".join(tokens)
    return body


def _laid_out(wanted: Values, body: list[str], closing: str | None, signs: Sequence[str]) -> str:
    end = [closing] if closing else []
    if "bullets" in wanted or "numbered" in wanted:
        count = _items(wanted)
        intro, items = body[:-count], body[-count:]
        if any(kind in wanted for kind in ("max_words", "word_range", "shorter")):
            intro, items = body, [f"the {sign}" for sign in signs[:count]]
        marks = ["-"] * count if "bullets" in wanted else [f"{i}." for i in range(1, count + 1)]
        rows = [f"{mark} {item}" for mark, item in zip(marks, items, strict=True)]
        return "\n".join([*([" ".join(intro)] if intro else []), *rows, *end])
    if "sections" in wanted:
        first, second = wanted["sections"]
        return "\n".join([f"{first}: {' '.join(body[:-1])}", f"{second}: {body[-1]}", *end])
    if "paragraphs" in wanted:
        count = int(wanted["paragraphs"][0])
        pieces = [*body, *end]
        return "\n\n".join([*pieces[: count - 1], " ".join(pieces[count - 1 :])])
    if "last_line" in wanted:
        return " ".join(body) + f"\n{wanted['last_line'][0]} the {signs[0]}"
    text = " ".join([*body, *end])
    if "quoted" in wanted:
        return f'"{text}"'
    return f"[[All about {signs[0]}]]\n{text}" if "title" in wanted else text
