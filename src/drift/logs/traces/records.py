"""Log records of which several are one model call (`gen_ai.user.message`, ..., `gen_ai.choice`), as older SDKs of
OpenTelemetry write them: put together by their span, in whatever order they come."""

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from drift.logs.draft import seconds_of, structured
from drift.logs.files.rows import Place
from drift.logs.traces.spans import TraceSpan

MESSAGE = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
CHOICE = "gen_ai.choice"
_OPEN_CALLS = 10_000  # records of as many calls may lie interleaved
_WHOLE_CALLS = 256  # that have a request and a choice, and wait for another choice, or for what came too late

_Record = tuple[Place, TraceSpan, int]
_Key = tuple[str | None, str | None]


@dataclass(slots=True)
class CallRecords:
    """Records of one call as they came, each with the rows of the file that it stands for. `choices`: their indices."""

    records: list[_Record] = field(default_factory=list)
    choices: set[float] = field(default_factory=set)
    is_asked: bool = False

    def add(self, at: Place, span: TraceSpan, rows: int) -> None:
        self.records.append((at, span, rows))
        if span.name == CHOICE:
            self.choices.add(choice_index(span))
        else:
            self.is_asked = True

    def messages(self) -> list[_Record]:
        """In the order of time, if all of them have one; else as they came."""
        found = [record for record in self.records if record[1].name != CHOICE]
        times = [seconds_of(span.started) for _, span, _ in found]
        if None in times or all(before <= after for before, after in pairwise(times)):  # type: ignore[operator]
            return found
        return [record for _, record in sorted(zip(times, found, strict=True), key=lambda pair: pair[0] or 0.0)]

    def choice(self) -> TraceSpan | None:
        """That with the lowest index."""
        return min((span for _, span, _ in self.records if span.name == CHOICE), key=choice_index, default=None)

    def is_whole(self) -> bool:
        return self.is_asked and bool(self.choices)

    def is_over(self, span: TraceSpan) -> bool:
        """Is `span` the first record of another call? One span may stand for several: a web server's, say."""
        first = self.records[0][1]
        if first.name != CHOICE:
            return span.name != CHOICE and self.is_whole()
        if span.name == CHOICE:
            return choice_index(span) in self.choices
        told, asked = seconds_of(first.started), seconds_of(span.started)
        return told is not None and asked is not None and asked > told


class Records:
    """Calls that wait for the rest of their records; those that have waited longest are given up first."""

    def __init__(self) -> None:
        self._open: OrderedDict[_Key, CallRecords] = OrderedDict()
        self._whole: OrderedDict[_Key, CallRecords] = OrderedDict()
        self._finished: list[CallRecords] = []

    def take(self, at: Place, record: TraceSpan, rows: int) -> None:
        key = record.trace, record.span
        call = self._open.pop(key, None) or self._whole.pop(key, None) or CallRecords()
        if call.records and call.is_over(record):
            self._finished.append(call)
            call = CallRecords()
        call.add(at, record, rows)
        # Without a span (an id of zeros) nothing says which of the next records are its own.
        if record.name == CHOICE and not (record.span or "").removeprefix("0x").strip("0"):
            self._finished.append(call)
            return
        waiting, limit = (self._whole, _WHOLE_CALLS) if call.is_whole() else (self._open, _OPEN_CALLS)
        waiting[key] = call
        if len(waiting) > limit:
            self._finished.append(waiting.popitem(last=False)[1])

    def finished(self) -> Iterator[CallRecords]:
        """Calls to which nothing is added any more; each is given once."""
        done, self._finished = self._finished, []
        yield from done

    def close(self) -> Iterator[CallRecords]:
        """All others, in the order in which they began."""
        left = [*self._open.values(), *self._whole.values()]
        self._open.clear()
        self._whole.clear()
        yield from sorted(left, key=lambda call: call.records[0][0])


def choice_index(choice: TraceSpan) -> float:
    """A number; choices that say none are the first one."""
    body = structured(choice.body if choice.body is not None else choice.attributes)
    number = body.get("index") if isinstance(body, dict) else None
    if isinstance(number, str) and number.isdecimal() and len(number) < 10:  # as OTLP writes whole numbers
        return int(number)
    return number if isinstance(number, int | float) and number == number else 0
