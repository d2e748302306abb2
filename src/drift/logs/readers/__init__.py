"""One file per format of chat logs. A format tells its rows from others and turns them into drafts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drift.logs.draft import Draft
from drift.logs.readers import drift_authors, lmsys, messages, sharegpt, wildchat, wildfeedback
from drift.logs.rows import Reject, Row


@dataclass(frozen=True, slots=True)
class Format:
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Iterable[Row | Reject]], Iterator[Draft | Reject]]


# In the order in which they are tried: the first that recognises one of the first rows reads the file.
READERS: dict[str, Format] = {
    "wildfeedback": Format(wildfeedback.recognises, wildfeedback.read),
    "drift": Format(drift_authors.recognises, drift_authors.read),
    "wildchat": Format(wildchat.recognises, wildchat.read),
    "lmsys": Format(lmsys.recognises, lmsys.read),
    "sharegpt": Format(sharegpt.recognises, sharegpt.read),
    "messages": Format(messages.recognises, messages.read),
}
