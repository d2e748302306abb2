"""Fill in the templates, and format their numbers and texts. Every text from a log is escaped: logs are untrusted."""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from drift.records import ChatMessage
from drift.statistics import OfUser, units_in_words, units_of
from drift.turns import LONGEST_SHOWN, as_text


def fill(template: str, filters: dict[str, Callable[..., object]], **values: object) -> str:
    """Render the template with these values, and with these filters in addition to the ones below."""
    return _environment(tuple(filters.items())).get_template(template).render(longest=LONGEST_SHOWN, **values)


@lru_cache(maxsize=8)
def _environment(filters: tuple[tuple[str, Callable[..., object]], ...]) -> Environment:
    """Kept with its compiled templates: in a small run, compiling them took a sixth of the time of the report."""
    environment = Environment(
        loader=PackageLoader("drift.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = (number, signed, sentence, clean, temperature, request, after_request, as_text, of_whom)
    environment.filters |= {word.__name__: word for word in own} | {"zip": zip} | dict(filters)
    return environment


def temperature(value: float) -> str:
    return f"temperature {value:g}" if value else "greedy"


def number(value: float | None) -> str:
    """For people: separated thousands, three decimals at most, a real minus sign."""
    if value is None:
        return "–"
    if float(value).is_integer():
        digits = f"{int(value):,}"
    elif abs(value) >= 10:
        digits = f"{value:,.1f}"
    else:
        digits = f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.2g}"
    return digits.replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def clean(text: str) -> str:
    """Replace control characters, which HTML forbids, by a visible mark."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)


def of_whom(prompts: Iterable[OfUser]) -> str:
    """After a number of prompts: of how many users they are, if these are fewer."""
    rows = list(prompts)
    return f" of {units_in_words(rows)}" if len(set(units_of(rows))) < len(rows) else ""


def request(prompt: tuple[ChatMessage, ...]) -> str:
    """The last message of the user, which the reply answers."""
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def after_request(prompt: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """The calls of tools and their answers that stand between the request and the reply."""
    last = next((place for place in reversed(range(len(prompt))) if prompt[place].role == "user"), len(prompt) - 1)
    return prompt[last + 1 :]
