"""Which keys of the rows held something that nothing read.

A reader declares its keys: those of the row and, where it matters, of the objects inside. Everything else that holds
something is counted by name. A row whose keys are all known costs one comparison of sets.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from drift.logs.convert import WHO
from drift.logs.draft import name_of, seconds_of, structured
from drift.logs.files.rows import LogRow, Reject
from drift.logs.parts import unknown_types
from drift.logs.values import FINISHES

Keys = Mapping[str, "Keys | None"]
"""The keys that a reader knows in an object, or in each object of a list; with the keys inside, if these count too.
`EACH`: whatever the keys are, the values are alike (messages by their id). A name that ends with a dot: all keys that
begin with it."""
EACH = "*"
PARTS: Keys = {}
"""The keys of `content`, a text or a list of parts: parts of an unknown type are counted by their type."""
OTHERS = "(other keys)"
_NAMES = frozenset(WHO)
"""Keys of a row that hold a name or a time. A reader cannot know in which objects somebody writes these."""
MOST_NAMES = 1000  # where ids are keys, their number has no limit
_LONGEST_NAME = 60


def keys(names: str, **inside: Keys) -> Keys:
    """Keys by name, separated by spaces; those whose objects have known keys as arguments."""
    return {**dict.fromkeys(names.split()), **inside}


MESSAGE = keys(
    "role content from value timestamp name tool_calls tool_call_id function_call refusal reasoning_content reasoning"
    " thinking thoughts tool_name toolName tool_use_id call_id toolCallId audio images videos audios files attachments"
    f" experimental_attachments {' '.join(FINISHES)}",
    content=PARTS,
)
"""What `messages_of` knows of a message."""

BESIDE = keys(
    f"system system_prompt system_message tools functions images image videos video audios audio {' '.join(FINISHES)}"
)
"""What formats with one conversation per row keep beside the messages (convert.py)."""


class Unread:
    """Counts the keys that held something and were not read, over all files. `is_known`: keys that are read in every
    format, wherever they stand but on a message."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self.counts: Counter[str] = Counter()
        self._is_known = is_known

    def counted(
        self,
        rows: Iterable[LogRow | Reject],
        known: Keys,
        unread_in: Iterable[Callable[[Mapping[str, Any]], Iterable[str]]] = (),
    ) -> Iterator[LogRow | Reject]:
        """The rows as they are, counted. `unread_in`: tell the keys that are known, but not read in a row."""
        counter, looks = _Counter({"metadata": {}, **known}, self, ""), list(unread_in)
        for row in rows:
            if type(row) is LogRow:
                counter.look(row.value)
                for look in looks:
                    for name in look(row.value):
                        self.add(name)
            yield row

    def add(self, name: str) -> None:
        """Count a key; beyond MOST_NAMES different ones, as OTHERS."""
        self.counts[name if name in self.counts or len(self.counts) < MOST_NAMES else OTHERS] += 1

    def unknown(self, known: frozenset[str], names: Iterable[Any], are_of_rows: bool) -> list[str]:
        """The names that are not known. `are_of_rows`: not those of a message, where nothing reads a consent."""
        begun = _beginnings(known)
        others = [n for n in names if n not in known and not (isinstance(n, str) and n.startswith(begun))]
        return [name for name in others if not (are_of_rows and isinstance(name, str) and self._is_known(name))]


@lru_cache(maxsize=256)
def _beginnings(known: frozenset[str]) -> tuple[str, ...]:
    """The known names that end with a dot. Kept, as every object of every row is looked at."""
    return tuple(name for name in known if name.endswith("."))


class _Counter:
    """Looks at the objects that stand in one place."""

    def __init__(self, known: Keys, unread: Unread, prefix: str) -> None:
        self._unread = unread
        self._known = frozenset(known)
        self._has_parts = known.get("content") is PARTS
        self._names = _NAMES.intersection(n for n, inner in known.items() if inner is None) if not prefix else ()
        # most messages have only these
        self._flat = frozenset(name for name, inner in known.items() if inner is None or inner is PARTS)
        self._prefix = prefix
        self._each = _Counter(known[EACH] or {}, unread, prefix) if EACH in known else None
        self._inside = [
            (name, _Counter(inner, unread, f"{prefix}{name}."))
            for name, inner in known.items()
            if inner is not None and inner is not PARTS and name != EACH
        ]
        # by the keys of an object, because most rows of a log have the same
        self._shapes: dict[tuple[Any, ...], tuple[list[str], list[str], list[tuple[str, _Counter]]]] = {}

    def look(self, value: Any) -> None:
        if type(value) is dict:
            self._look_into(value)
        elif type(value) is list:
            flat, has_parts = self._flat, self._has_parts
            for entry in value:
                if type(entry) is dict and (
                    not flat.issuperset(entry) or (has_parts and type(entry.get("content")) is list)
                ):
                    self._look_into(entry)
        elif isinstance(parsed := structured(value), dict | list) and parsed is not value:
            self.look(parsed)

    def _look_into(self, value: dict[str, Any]) -> None:
        if self._each is not None:
            for entry in value.values():
                self._each.look(entry)
            return
        unknown, names, inside = self._shapes.get(shape := tuple(value)) or self._of_shape(shape)
        for name in unknown:
            inner = value[name]
            if inner is not None and inner != "" and inner != [] and inner != {}:
                self._add(name)
        for name in names:
            if type(value[name]) in (dict, list) and value[name] and not _is_name(value[name]):
                self._add(name)
        for name, counter in inside:
            if (inner := value[name]) is not None:
                counter.look(inner)
        if self._has_parts and type(parts := value.get("content")) is list:
            for kind in unknown_types(parts):
                self._add(f"content.{kind}")

    def _add(self, name: str) -> None:
        self._unread.add(self._prefix + (name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."))

    def _of_shape(self, shape: tuple[Any, ...]) -> "tuple[list[str], list[str], list[tuple[str, _Counter]]]":
        """Of the keys of an object: those that are not known, those that hold names, and those of which the objects
        inside have keys."""
        unknown = self._unread.unknown(self._known, shape, are_of_rows=not (self._has_parts and self._prefix))
        names = [name for name in shape if name in self._names]
        found = unknown, names, [(name, counter) for name, counter in self._inside if name in shape]
        if len(self._shapes) < MOST_NAMES:
            self._shapes[shape] = found
        return found


def _is_name(value: Any) -> bool:
    return name_of(value) is not None or seconds_of(value) is not None
