"""Group log records by model call. Older OpenTelemetry SDKs write several records per call (`gen_ai.user.message`, ...,
`gen_ai.choice`); they share a span and come in any order."""

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from drift.logs.draft import seconds_of, structured
from drift.logs.files.rows import Place
from drift.logs.traces.otel.spans import TraceSpan

MESSAGE = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
CHOICE = "gen_ai.choice"
_MAX_OPEN_CALLS = 10_000  # calls without a request or a choice: so many may be interleaved
_MAX_COMPLETE_CALLS = 256  # calls with a request and a choice that may still get another choice or a late record

_Record = tuple[Place, TraceSpan, int]
_Key = tuple[str | None, str | None]


@dataclass(slots=True)
class CallRecords:
    """The records of one call as they came, each with the number of file rows that it accounts for.

    `choices`: the indices of its choices.
    """

    records: list[_Record] = field(default_factory=list)
    choices: set[float] = field(default_factory=set)
    has_request: bool = False

    def add(self, at: Place, span: TraceSpan, rows: int) -> None:
        self.records.append((at, span, rows))
        if span.name == CHOICE:
            self.choices.add(choice_index(span))
        else:
            self.has_request = True

    def messages(self) -> list[_Record]:
        """The messages of the request, in the order of time if all have a time, else as they came."""
        messages = [record for record in self.records if record[1].name != CHOICE]
        times = [seconds_of(span.started) for _, span, _ in messages]
        if None in times or all(before <= after for before, after in pairwise(times)):  # type: ignore[operator]
            return messages
        return [record for _, record in sorted(zip(times, messages, strict=True), key=lambda pair: pair[0] or 0.0)]

    def choice(self) -> TraceSpan | None:
        """The choice with the lowest index; None if there is none."""
        return min((span for _, span, _ in self.records if span.name == CHOICE), key=choice_index, default=None)

    def is_complete(self) -> bool:
        return self.has_request and bool(self.choices)

    def is_over(self, span: TraceSpan) -> bool:
        """True if `span` is the first record of another call: a web server's span, say, covers several calls."""
        first = self.records[0][1]
        if first.name != CHOICE:
            return span.name != CHOICE and self.is_complete()
        if span.name == CHOICE:
            return choice_index(span) in self.choices
        choice_time, request_time = seconds_of(first.started), seconds_of(span.started)
        return choice_time is not None and request_time is not None and request_time > choice_time


class Records:
    """Calls that wait for more records. If too many wait, the one that has waited longest is given up."""

    def __init__(self) -> None:
        self._open: OrderedDict[_Key, CallRecords] = OrderedDict()
        self._complete: OrderedDict[_Key, CallRecords] = OrderedDict()
        self._finished: list[CallRecords] = []

    def take(self, at: Place, record: TraceSpan, rows: int) -> None:
        """Add a record to its call."""
        key = record.trace, record.span
        call = self._open.pop(key, None) or self._complete.pop(key, None) or CallRecords()
        if call.records and call.is_over(record):
            self._finished.append(call)
            call = CallRecords()
        call.add(at, record, rows)
        # Without a span (an id of zeros), nothing shows which of the next records belong to this call.
        if record.name == CHOICE and not (record.span or "").removeprefix("0x").strip("0"):
            self._finished.append(call)
            return
        waiting, limit = (self._complete, _MAX_COMPLETE_CALLS) if call.is_complete() else (self._open, _MAX_OPEN_CALLS)
        waiting[key] = call
        if len(waiting) > limit:
            self._finished.append(waiting.popitem(last=False)[1])

    def finished(self) -> Iterator[CallRecords]:
        """Yield the calls that get no more records, each once."""
        done, self._finished = self._finished, []
        yield from done

    def close(self) -> Iterator[CallRecords]:
        """Yield all other calls, in the order of their first records."""
        left = [*self._open.values(), *self._complete.values()]
        self._open.clear()
        self._complete.clear()
        yield from sorted(left, key=lambda call: call.records[0][0])


def choice_index(choice: TraceSpan) -> float:
    """The index of a choice; 0 if it has none."""
    body = structured(choice.body if choice.body is not None else choice.attributes)
    number = body.get("index") if isinstance(body, dict) else None
    if isinstance(number, str) and number.isdecimal() and len(number) < 10:  # as OTLP writes whole numbers
        return int(number)
    return number if isinstance(number, int | float) and number == number else 0
