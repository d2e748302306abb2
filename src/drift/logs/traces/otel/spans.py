"""Read OpenTelemetry spans and log records from what SDKs and collectors write: OTLP's nested JSON, the SDK's own JSON
(`context`, `attributes`), and tables with columns named `attributes.x`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drift.logs.draft import name_of, structured

_GROUPS = (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords"))
STARTED = (
    "start_time", "start_timestamp", "startTimeUnixNano", "start_time_unix_nano", "timestamp", "timeUnixNano",
    "observedTimeUnixNano",
)  # fmt: skip
_VALUES = ("stringValue", "boolValue", "doubleValue", "intValue", "bytesValue")
_NESTED = ("openinference", "llm")  # attributes of Phoenix that hold others
_MOST_NAMES = 4  # of attributes inside each other


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """A span, or an event by itself, which has a `body` and names the span that it belongs to."""

    name: str
    attributes: dict[str, Any]
    trace: str | None
    span: str | None
    started: Any = None
    body: Any = None
    events: tuple["TraceSpan", ...] = ()


def spans(row: Mapping[str, Any]) -> Iterator[TraceSpan]:
    """Yield the spans and records of a row: one, or all of an OTLP request."""
    for outer, middle, inner in _GROUPS:
        if outer in row:
            for resource in _mappings(row[outer]):
                for scope in _mappings(resource.get(middle)):
                    yield from map(_span, _mappings(scope.get(inner)))
            return
    yield _span(row)


def attributes_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by dotted name, from a mapping, from OTLP's `[{key, value}]`, or from columns `attributes.x`.

    Phoenix's database and its API have them inside each other: `{"llm": {"model_name": ...}, "session": {"id": ...}}`.
    """
    attributes = structured(row.get("attributes"))
    plain: dict[str, Any] = {}
    if isinstance(attributes, list):
        plain = {str(pair["key"]): _value(pair.get("value")) for pair in _mappings(attributes) if "key" in pair}
    elif isinstance(attributes, Mapping):
        plain = {str(name): value for name, value in attributes.items()}
    given = ((name, value) for name, value in row.items() if name.startswith("attributes.") and value is not None)
    columns = {name.removeprefix("attributes."): value for name, value in given}
    found = {**plain, **columns}
    return dict(_flat(found)) if any(isinstance(found.get(name), Mapping) for name in _NESTED) else found


def _flat(attributes: Mapping[str, Any], depth: int = _MOST_NAMES) -> Iterator[tuple[str, Any]]:
    """The attributes by dotted name. `metadata` is the application's own object."""
    for name, value in attributes.items():
        if depth > 1 and name != "metadata" and isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", one) for inner, one in _flat(value, depth - 1))
        else:
            yield name, value


def _span(row: Mapping[str, Any]) -> TraceSpan:
    context = structured(row.get("context"))
    places = (row, context) if isinstance(context, Mapping) else (row,)
    attributes = attributes_of(row)
    event = row.get(
        "event_name", row.get("eventName", attributes.get("event.name", row.get("name", row.get("span_name"))))
    )
    trace, span = (
        next((name for place in places for key in keys if (name := name_of(place.get(key)))), None)
        for keys in (("trace_id", "traceId", "context.trace_id"), ("span_id", "spanId", "context.span_id"))
    )
    started = next((row[key] for key in STARTED if row.get(key)), None)
    events = tuple(_span({"trace_id": trace, "span_id": span, **event}) for event in _mappings(row.get("events")))
    return TraceSpan(str(event or ""), attributes, trace, span, started, _value(row.get("body")), events)


def _value(value: Any) -> Any:
    """OTLP's typed values as plain ones. Recursion is safe: a parsed row is never too deep."""
    if not isinstance(value, Mapping):
        return value
    for name in _VALUES:
        if name in value and len(value) == 1:
            return value[name]
    if len(value) == 1 and isinstance(inner := value.get("arrayValue"), Mapping):
        values = inner.get("values")
        return [_value(entry) for entry in values] if isinstance(values, list | tuple) else []
    if len(value) == 1 and isinstance(inner := value.get("kvlistValue"), Mapping):
        return {str(pair.get("key")): _value(pair.get("value")) for pair in _mappings(inner.get("values"))}
    return dict(value)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    value = structured(value)
    if isinstance(value, list | tuple):
        yield from (entry for entry in value if isinstance(entry, Mapping))
