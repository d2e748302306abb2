"""Tool calls and JSON: does the answer parse, fit the schema, and hold the right values?

The tools stand in the request's text, so that the guard works with every chat template and every server.
"""

import json
import random
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from drift.gate.guards.arithmetic import DAYS, NAMES, THINGS
from drift.gate.items import DrawnItem, asked
from drift.records import Completion

Schema = Mapping[str, Any]
"""The part of JSON Schema that the requests use: type, properties, required, enum, items."""

CITIES = ("Oslo", "Lima", "Cairo", "Kyoto", "Porto", "Tallinn", "Quito", "Perth", "Bergen", "Lyon", "Pisa", "Riga")
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
JOBS = ("nurse", "baker", "pilot", "teacher", "plumber", "lawyer", "gardener", "cook")

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def draw_tools(rng: random.Random, number: int) -> DrawnItem:
    """JSON objects and calls take turns."""
    return _KINDS[number % len(_KINDS)](rng)


def json_problems(answer: Completion, schema: Schema, right: object) -> tuple[str, ...]:
    """What is wrong with an answer that must be one JSON value and nothing else; a code fence may stand around it."""
    text = answer.text.strip()
    if not text and answer.tool_calls:  # the template has parsed the call
        call = answer.tool_calls[0].function
        text = f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'
    fenced = _FENCED.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return ("not JSON",)
    if not fits(value, schema):
        return ("not the schema",)
    return () if _plain(value) == _plain(right) else ("wrong value",)


def fits(value: object, schema: Schema) -> bool:
    """Whether the value has the schema's types, all required keys, no others, and only allowed words."""
    kinds = _TYPES[schema["type"]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return all(fits(each, schema["items"]) for each in value)
    if isinstance(value, dict) and "properties" in schema:
        named = schema["properties"]
        known = set(value) <= set(named) and set(schema["required"]) <= set(value)
        return known and all(fits(each, named[name]) for name, each in value.items())
    return True


def _plain(value: object) -> object:
    """Case and white space around a text do not count."""
    if isinstance(value, str):
        return value.strip().lower()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT, _WHOLE, _TEXTS = {"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}


def _extraction(text: str, keys: str, schema: Schema, right: object) -> DrawnItem:
    request = f"Extract the facts as a JSON object with exactly the keys {keys}. Answer with the JSON alone.\n\n{text}"
    return asked(request, partial(json_problems, schema=schema, right=right))


def _person(rng: random.Random) -> DrawnItem:
    name, age, city = rng.choice(NAMES), rng.randint(18, 90), rng.choice(CITIES)
    return _extraction(
        f"{name} is {age} years old and lives in {city}.",
        '"name" (text), "age" (whole number) and "city" (text)',
        _object(name=_TEXT, age=_WHOLE, city=_TEXT),
        {"name": name, "age": age, "city": city},
    )


def _order(rng: random.Random) -> DrawnItem:
    thing, count, colour = rng.choice(THINGS), rng.randint(2, 40), rng.choice(COLOURS)
    return _extraction(
        f"Please send me {count} {colour} {thing}.",
        '"item" (text), "count" (whole number) and "colour" (text)',
        _object(item=_TEXT, count=_WHOLE, colour=_TEXT),
        {"item": thing, "count": count, "colour": colour},
    )


def _list(rng: random.Random) -> DrawnItem:
    names, job = rng.sample(NAMES, 3), rng.choice(JOBS)
    return _extraction(
        f"{names[0]}, {names[1]} and {names[2]} each work as a {job}.",
        '"people" (list of texts) and "job" (text)',
        _object(people=_TEXTS, job=_TEXT),
        {"people": names, "job": job},
    )


def _call(rng: random.Random) -> DrawnItem:
    """One of three tools is right; the request names all that it needs."""
    city, day, name, minutes = rng.choice(CITIES), rng.choice(DAYS), rng.choice(NAMES), rng.randrange(5, 60, 5)
    tool = rng.choice(list(_TOOLS))
    wanted, arguments = {
        "weather": (f"What will the weather be in {city} on {day.capitalize()}?", {"city": city, "day": day}),
        "timer": (f"Set a timer for {minutes} minutes.", {"minutes": minutes}),
        "message": (f"Send {name} the message: on my way to {city}", {"to": name, "text": f"on my way to {city}"}),
    }[tool]
    described = "\n".join(json.dumps({"name": each, "parameters": schema}) for each, schema in _TOOLS.items())
    request = (
        f"You can call one of these tools:\n{described}\n\n"
        'Answer with one call as JSON and nothing else: {"name": ..., "arguments": {...}}\n\n'
        f"{wanted}"
    )
    schema = _object(name={"type": "string", "enum": list(_TOOLS)}, arguments={"type": "object"})
    return asked(request, partial(json_problems, schema=schema, right={"name": tool, "arguments": arguments}))


_TOOLS: Mapping[str, Schema] = {
    "weather": _object(city=_TEXT, day={"type": "string", "enum": list(DAYS)}),
    "timer": _object(minutes=_WHOLE),
    "message": _object(to=_TEXT, text=_TEXT),
}
_KINDS: tuple[Callable[[random.Random], DrawnItem], ...] = (_person, _call, _order, _call, _list)
