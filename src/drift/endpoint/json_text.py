"""JSON out of a model's text: models wrap it in prose and code fences, and break its strings."""

import re
from typing import Any

import orjson


def json_object(text: str) -> dict[str, Any] | None:
    """The one JSON object of an answer, with prose or a code fence around it; None if there is not exactly one.

    Everything from the first `{` to the last `}` must be that object. Searching on inside of a broken answer would be
    wrong: the judge quotes what users write, and a quoted object would be read as the judge's own answer. For the same
    reason two objects are no answer: the second may be a quotation as well as a correction.
    """
    begin, end = text.find("{"), text.rfind("}")
    try:
        value = orjson.loads(text[begin : end + 1]) if begin >= 0 else None
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def json_field(text: str, key: str) -> Any:
    """The value of `key` in the answer's object; if the object is broken, what the last `"key":` is followed by.

    For answers whose prompt asks for `key` last, behind texts that quote freely: there a later value is the answer,
    and an earlier one is a quotation or a draft. None if nothing is named so.
    """
    answer = json_object(text)
    if answer is not None and key in answer:
        return answer[key]
    values = re.findall(rf'"{re.escape(key)}"\s*:\s*"?([^",}}\n]*)', text)
    return values[-1] if values else None
