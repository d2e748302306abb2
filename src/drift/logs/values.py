"""Single values of a log: ids, times, JSON in a text, and why a reply ended."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from drift.logs.files.rows import encodable

PYTHON_LIST = "a list as Python prints it, not JSON: write it with json.dumps"
_PYTHON_LIST = re.compile(r"\s*\[\s*\{\s*'\w+'\s*:")
FINISHES = (
    "finish_reason", "finishReason", "finish_reasons", "stop_reason", "stopReason", "done_reason", "doneReason",
    "completionReason", "finish_details", "incomplete_details", "gen_ai.response.finish_reasons",
    "ai.response.finishReason", "ai.finishReason", "llm.finish_reason",
)  # fmt: skip
"""Names under which APIs and applications say why a reply ended."""
_LIMITS = (
    "length", "max_tokens", "max_output_tokens", "max_new_tokens", "max_completion_tokens", "max_length",
    "model_length", "token_limit", "max_tokens_reached", "context_length", "context_length_exceeded",
    "context_length_reached", "model_context_window_exceeded", "max_predicted_tokens_reached", "error_limit",
)  # fmt: skip
_STOPPED = (
    "interrupted", "user_canceled", "user_cancelled", "user_cancel", "user_stopped", "canceled", "cancelled", "cancel",
    "abort", "aborted", "pause_turn", "timeout",
)  # fmt: skip
_FILTERED = (
    "content_filter", "content_filtered", "guardrail_intervened", "refusal", "sensitive", "error_toxic", "safety",
    "image_safety", "recitation", "blocklist", "prohibited_content", "spii", "language",
)  # fmt: skip
_FAILED = (
    "error", "failed", "network_error", "insufficient_system_resource", "model_unloaded", "malformed_function_call",
    "malformed_tool_use", "malformed_model_output", "malformed_response",
)  # fmt: skip
_CUT = frozenset(reason.replace("_", "") for reason in (*_LIMITS, *_STOPPED, *_FILTERED, *_FAILED))
"""Reasons of replies that did not end by themselves: at a limit, because somebody or a filter stopped them, or because
the model or its server failed. `refusal` is Anthropic's word for a filter. `other` may be anything, also an end."""
_TRUTHS: dict[Any, bool] = {
    **dict.fromkeys((1, "1", "1.0", "true", "t", "yes", "y"), True),
    **dict.fromkeys((0, "0", "0.0", "false", "f", "no", "n"), False),
}
_THING = (
    "$oid", "$uuid", "$numberLong", "$numberInt", "$numberDecimal", "id", "_id", "uuid", "uid", "user_id", "email",
    "name",
)  # fmt: skip
"""What names the thing that an object is: MongoDB's export writes ids and numbers as objects, and a row may hold the
whole user or model. The most exact first."""
_MOST_OBJECTS = 3  # one inside the other
_MOMENT = ("$date", "$numberLong", "seconds", "_seconds")  # of MongoDB and Firestore
_MAX_SECONDS = 1e11  # since 1970; a larger number is in milli-, micro- or nanoseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH).total_seconds()
_NUMBER = re.compile(r"(-?\d{1,25})(\.\d{1,25})?")
_COUNTING = 8  # digits; a shorter number is no time
_FIRST_COMPACT, _LAST_COMPACT = 19000101000000, 20991231235959
_ISO_BEGINS = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.]*(?:Z|[+-][\d:]+)?)?$")
_YEAR_FIRST = re.compile(r"^(\d{4})/(\d\d?)/(\d)")
_MONTH_FIRST = re.compile(r"(\d\d?)/(\d\d?)/(\d{4}) (\d\d:\d\d:\d\d [+-]\d\d:\d\d)", re.ASCII)
"""`7/26/2026 10:01:00 +00:00`, as .NET prints a time with its offset (exports of Microsoft 365). Without one nobody can
tell whether the day or the month comes first."""
_BEFORE_OFFSET = re.compile(r"(?<!\s)\s+(?=[+-]\d\d:?\d\d$)")
_MAIL_DATE = re.compile(
    r"(?:[a-z]{3,9}, ?)?\d\d?[ -][a-z]{3}[ -]\d{2,4} \d\d?:\d\d(?::\d\d)?"
    r"(?: ?[+-]\d{4}| (?:gmt|utc?|z|[ecmp][sd]t))?(?: \(\w+\))?"
    r"|[a-z]{3} [a-z]{3} [ \d]?\d \d\d:\d\d:\d\d \d{4}",
    re.IGNORECASE | re.ASCII,
)
"""Dates of HTTP and mail: `Wed, 01 May 2024 10:00:00 GMT`, `01-May-24`, `Wed May  1 10:00:00 2024`. Of others, Python's
parser reads what it knows and passes over the rest, also over PM and `+02:00`: hours that are wrong reorder a chat."""
_LAST_SECOND = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH).total_seconds()


def structured(value: Any) -> Any:
    """Parse a list or an object that a column or an attribute holds as JSON text; return anything else as it is."""
    if isinstance(value, (str, bytes)) and value[:1] in ("[", "{", b"[", b"{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def has(row: Mapping[str, Any], *names: str) -> bool:
    """Whether a row or an object holds something under each of these names. A null is nothing: tables and dumps of
    objects give every row the keys of all."""
    return all(row.get(name) is not None for name in names)


def has_any(row: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether it holds something under one of these names."""
    return any(row.get(name) is not None for name in names)


def is_python_list(value: Any) -> bool:
    """Whether a text is a list of objects as Python prints it, which is no JSON: pandas writes lists so into CSV."""
    return isinstance(value, str) and _PYTHON_LIST.match(value) is not None and isinstance(structured(value), str)


def time_of(value: Any) -> str | None:
    """A log's time: a string in ISO 8601 as it is, anything else that `seconds_of` reads in ISO 8601. A string that it
    cannot read stays, too."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    value = _inside(value, _MOMENT)
    if isinstance(value, str) and (_ISO_BEGINS.match(value) or (seconds := seconds_of(value)) is None):
        return name_of(value)
    seconds = seconds_of(value)
    return None if seconds is None else (_EPOCH + timedelta(seconds=seconds)).isoformat()


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970, from ISO 8601, a date of HTTP or mail, or a number of seconds, milli-, micro- or nanoseconds,
    also as text, or one like 20240501100000; also inside an object of MongoDB or Firestore.

    None if it is none of these, or outside the years 1 to 9999.
    """
    if isinstance(value, str):
        text = value.strip()
        if match := _NUMBER.fullmatch(text):
            return seconds_of(float(text) if match[2] else int(text)) if len(match[1]) > _COUNTING else None
        value = _date_in(text)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, Mapping):
        return seconds_of(_inside(value, _MOMENT))
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    if _FIRST_COMPACT <= value <= _LAST_COMPACT:  # as milliseconds, a time after the year 2570
        with suppress(ValueError):
            return datetime.strptime(str(int(value)), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    for unit in (1, 1e3, 1e6, 1e9):
        if abs(value) < _MAX_SECONDS * unit:
            return value / unit if _FIRST_SECOND <= value / unit <= _LAST_SECOND else None
    return None


def _date_in(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    if match := _MONTH_FIRST.fullmatch(text):
        month, day, year, rest = match.groups()
        text = f"{year}-{month:0>2}-{day:0>2} {rest}"
    plain = _BEFORE_OFFSET.sub("", _YEAR_FIRST.sub(r"\1-\2-\3", text.removesuffix(" UTC")))
    with suppress(ValueError):
        return datetime.fromisoformat(plain)
    with suppress(ValueError, OverflowError):
        return parsedate_to_datetime(text) if _MAIL_DATE.fullmatch(text) else None
    return None


def name_of(value: Any) -> str | None:
    """An id or a name as a string, also that of an object; None if the log has none.

    Tables with gaps give whole numbers as floats. Floats beyond 2**53 cannot be ids: different ids became equal.
    """
    if value is None:  # as most names of most rows
        return None
    if isinstance(value, str):
        return encodable(value) or None
    if isinstance(value, bytes):
        return encodable(value.decode(errors="backslashreplace")) or None
    if isinstance(value, float) and abs(value) < 2**53:
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, Mapping):
        return name_of(_inside(value, _THING))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _inside(value: Any, names: tuple[str, ...]) -> Any:
    """What an object holds under the first of these names, also if that is an object again: `{"_id": {"$oid": ...}}`.
    Not recursive: a row may be deep."""
    for _ in range(_MOST_OBJECTS):
        if not isinstance(value, Mapping):
            return value
        value = next((value[name] for name in names if value.get(name) not in (None, "")), None)
    return None if isinstance(value, Mapping) else value


def truth_of(value: Any) -> bool | None:
    """What a log holds as true or false: CSV has it as text, SQLite as a number. None if it is neither."""
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return _TRUTHS.get(value) if isinstance(value, bool | int | float) else None


def is_cut(place: Mapping[str, Any]) -> bool:
    """Whether a message, a choice or a response says that its reply did not end by itself."""
    return any(_names_a_cut(name, place[name]) for name in FINISHES if place.get(name))


def _names_a_cut(name: str, reason: Any) -> bool:
    """Of several reasons (`finish_reasons`) the first counts: the first choice is the one that is read."""
    reason = structured(reason)
    if name.endswith("reasons") and isinstance(reason, list | tuple):
        reason = reason[0] if reason else None
    if isinstance(reason, Mapping):
        reason = next((reason[name] for name in ("reason", "type", "unified") if name in reason), None)
    if not isinstance(reason, str):
        return False
    plain = reason.rpartition(".")[2].lower()  # `FinishReason.MAX_TOKENS`
    return plain.replace("_", "").replace("-", "") in _CUT
