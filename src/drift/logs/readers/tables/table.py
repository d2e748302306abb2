"""Any table whose columns the user names (`--map`): one message per row, or one exchange (request and reply) per row.

A row becomes a `TableRow`; joiner.py joins those of one conversation. A column is a key of the row, or a dotted
path into its objects and lists (`payload.text`, `messages.0.content`), also where these are JSON text.
"""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drift.config import IngestionSettings
from drift.config.mapping_rules import SKIP
from drift.errors import DataError
from drift.logs.convert import consent_tags
from drift.logs.draft import (
    Evidence,
    RoleWords,
    as_cut,
    is_cut,
    last_reply,
    messages_of,
    name_of,
    seconds_of,
    structured,
    time_of,
)
from drift.logs.files.opening import Repair
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, short_form
from drift.logs.files.sources import NotALog, Source
from drift.logs.parts import are_known
from drift.logs.traces.endings import ended_early
from drift.logs.traces.streams import whole_reply
from drift.logs.traces.texts import PARTS, is_of_api, plain_messages, reply_messages
from drift.logs.traces.verdicts import judgement, stars_in
from drift.logs.unread import Keys
from drift.logs.values import FINISHES
from drift.records import Message, Reason

WRITTEN_STARS = "written stars"
"""The scale of ratings that are written as stars (`4/5`): numbers in the same column may be thumbs."""
_HEAD_ROWS = 200
_FIRST_TIME = 1e8  # in seconds since 1970; smaller numbers count messages
_MISSING = object()


@dataclass(slots=True)
class TableRow:
    """A row that belongs to a conversation.

    `conversation`: its id; None if the row is a conversation by itself, which `own_id` may name. `order`: its time as a
    number, if the log has one. `rating`: about `messages[rated]`; if that is None, about the reply before this row.
    `problem`: why the conversation cannot be used.
    """

    at: Place
    conversation: str | None
    messages: tuple[Message, ...] = ()
    own_id: str | None = None
    order: float | None = None
    started_at: str | None = None
    user: str | None = None
    model: str | None = None
    language: str | None = None
    session: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    rating: Evidence | None = None
    rated: int | None = None
    problem: tuple[Reason, str] | None = None


class Table:
    """Reads the rows of tables by one mapping. `repairs` counts times that cannot be read."""

    def __init__(self, settings: IngestionSettings) -> None:
        self.columns = dict(settings.map)
        self.roles = RoleWords(settings.roles)
        self.is_exchange = "request" in self.columns
        self.unknown_roles: Counter[str] = Counter()
        self.repairs: Counter[Repair] = Counter()
        self._paths = {key: column.split(".") for key, column in self.columns.items()}
        self._unseen = {key for key in self.columns if key not in self._required}

    @property
    def name(self) -> str:
        """Part of the identity of the conversations: other tables may use the same ids."""
        named = [self.columns[key] for key in ("conversation", "role", "content", "request", "reply", "id")
                 if key in self.columns]  # fmt: skip
        return f"table({', '.join(named)})"

    def head(self, source: Source, rows: Iterator[LogRow | Reject]) -> list[LogRow | Reject]:
        """The first rows. Raises NotALog if there is none, or if a mapped column is in none of them."""
        first = list(itertools.islice(rows, _HEAD_ROWS))
        values = [row for row in first if isinstance(row, LogRow)]
        if not values:
            raise NotALog(source.name, "no rows of a table", "Leave it out.")
        if missing := self.missing(values, source.has_columns):
            raise NotALog(source.name, missing, "Correct --map.")
        return first

    @property
    def keys(self) -> Keys:
        """The mapped columns, and those that say why a reply ended, as keys that are read."""
        known: dict[str, Any] = {}
        for path in self._paths.values():
            place = known
            for part in path[:-1]:
                place = place.setdefault(part, {}) if not part.isdecimal() else place
            place.setdefault(path[-1], {})
        return _as_keys(known) | dict.fromkeys((*self.columns.values(), *FINISHES))

    @property
    def _required(self) -> tuple[str, ...]:
        return ("request", "reply") if self.is_exchange else ("conversation", "role", "content")

    def missing(self, rows: Sequence[LogRow], are_complete: bool) -> str | None:
        """Which mapped column none of the first rows has, and the nearest one that they have; None if all are there.

        `are_complete`: every row names all columns. Elsewhere, optional ones may follow in later rows (`check_seen`).
        """
        values = [row.value for row in rows]
        for key in self.columns if are_complete else self._required:
            if all(self._value(value, key) is _MISSING for value in values):
                return self._unknown_column(key, _names_in(values))
        return None

    def check_seen(self) -> None:
        """Raises DataError if an optional column was mapped that no row of any table has."""
        if self._unseen:
            key = sorted(self._unseen)[0]
            raise DataError(f"--map {key}={self.columns[key]}: no row has this column. Correct it, or leave it out.")

    def _unknown_column(self, key: str, names: list[str]) -> str:
        column = self.columns[key]
        near = [name for name in names if re.sub(r" \(\d+\)$", "", name).lower() == column.lower()]
        near = near or difflib.get_close_matches(column, names, n=1, cutoff=0.5)
        hint = f"did you mean --map {key}={near[0]}? " if near else ""
        return f"no column {column!r} for {key}; {hint}columns: {', '.join(names[:20]) or 'none'}"

    def _value(self, row: Mapping[str, Any], key: str) -> Any:
        """What the row holds in the column of this key; _MISSING if the row does not have it."""
        value = row.get(self.columns[key], _MISSING)
        path = self._paths[key]
        if value is _MISSING and len(path) > 1:
            value = row
            for part in path:
                value = structured(value)
                if isinstance(value, Mapping):
                    value = value.get(part, _MISSING)
                elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                    value = value[int(part)]
                else:
                    return _MISSING
        return value

    def _get(self, row: Mapping[str, Any], key: str) -> Any:
        """What the row holds in the column of this key; None if it is missing, empty or not mapped."""
        if key not in self.columns:
            return None
        value = self._value(row, key)
        return None if value is _MISSING or value == "" else value

    def read(self, rows: Iterable[LogRow | Reject]) -> Iterator[TableRow | Reject]:
        """Yield the rows of conversations; a Reject for other rows, and for ratings that say neither good nor bad."""
        for row in rows:
            if isinstance(row, Reject):
                yield row
                continue
            if self._unseen:
                self._unseen = {key for key in self._unseen if self._value(row.value, key) is _MISSING}
            read = self._exchange(row) if self.is_exchange else self._message(row)
            if isinstance(read, TableRow):
                try:
                    read.rating = self._rating(row)
                except Unusable as error:
                    yield Reject(row.at, error.reason, error.detail, rows=0)
            yield read

    def unread_in(self, row: Mapping[str, Any]) -> Iterator[str]:
        """A comment is about a rating or a correction beside it; alone it says nothing."""
        comment, *judged = (self._get(row, key) for key in ("comment", "rating", "correction"))
        if comment is not None and judged == [None, None]:
            yield self.columns["comment"]

    def _message(self, row: LogRow) -> TableRow | Reject:
        value = row.value
        role, content = self._get(value, "role"), self._get(value, "content")
        calls = structured(self._get(value, "tool_calls"))
        if role is None and content is None and not calls:
            return Reject(row.at, Reason.NOT_A_CHAT, "an empty row")
        conversation = name_of(self._get(value, "conversation"))
        if conversation is None:
            column = self.columns["conversation"]
            return Reject(row.at, Reason.NO_CONVERSATION, f"no id of a conversation in column {column!r}")
        table_row = self._common(row, conversation)
        try:
            speaker = self._role(role)
            if speaker == SKIP:
                return Reject(row.at, Reason.NOT_A_CHAT, "a role that --roles skips")
            entry = {"role": speaker, "content": _content(content), "tool_calls": calls}
            entry |= {key: self._get(value, key) for key in ("tool_call_id", "name")}
            messages = messages_of([entry])
            table_row.messages = self._timed(as_cut(messages) if is_cut(value) else messages, table_row)
        except Unusable as error:
            table_row.problem = (error.reason, error.detail)
        else:
            table_row.rated = 0 if speaker == "assistant" and table_row.messages else None
        return table_row

    def _exchange(self, row: LogRow) -> TableRow | Reject:
        value = row.value
        request, reply = (self._get(value, key) for key in ("request", "reply"))
        if request is None and reply is None:
            return Reject(row.at, Reason.NOT_A_CHAT, "an empty row")
        conversation = name_of(self._get(value, "conversation")) if "conversation" in self.columns else None
        if conversation is None and "conversation" in self.columns:
            column = self.columns["conversation"]
            return Reject(row.at, Reason.NO_CONVERSATION, f"no id of a conversation in column {column!r}")
        table_row = self._common(row, conversation)
        table_row.own_id = name_of(self._get(value, "id"))
        try:
            history, reply = _texts(request), whole_reply(reply)
            if conversation is not None and len(history) > 1:
                detail = f"the request holds {len(history)} messages: leave `conversation` out of --map"
                raise Unusable(Reason.BAD_CONTENT, detail)
            before = [*_texts(self._get(value, "system"), "system"), *history]
            messages = [*(messages_of(before) if before else ()), *_replies(reply, len(before))]
            is_short = is_cut(value) or (isinstance(structured(reply), Mapping) and ended_early(reply))
            table_row.messages = self._timed(as_cut(messages) if is_short else messages, table_row)
        except Unusable as error:
            table_row.problem = (error.reason, error.detail)
        else:
            table_row.rated = None if reply is None else last_reply(table_row.messages)
        return table_row

    def _common(self, row: LogRow, conversation: str | None) -> TableRow:
        """The row without its messages."""
        value = row.value
        when = self._get(value, "time")
        order, started_at = _time(when)
        if when is not None and order is None:
            self.repairs[Repair.TIME_NOT_READ] += 1
        user, model, language, session = (
            name_of(self._get(value, key)) for key in ("user", "model", "language", "session")
        )
        return TableRow(
            at=row.at,
            conversation=conversation,
            order=order,
            started_at=started_at,
            user=user,
            model=model,
            language=language,
            session=session,
            tags=consent_tags(value),
        )

    def _timed(self, messages: Sequence[Message], row: TableRow) -> tuple[Message, ...]:
        return tuple(replace(message, timestamp=row.started_at, source_index=None) for message in messages)

    def _role(self, value: Any) -> str:
        """The role that a word of the log stands for, or SKIP. Raises Unusable."""
        word = str(value).lower() if isinstance(value, bool) else (name_of(value) or "").strip()
        role = self.roles.role_of(word)
        if role is None:
            self.unknown_roles[short_form(word or None)] += 1
            raise Unusable(Reason.UNKNOWN_ROLE, f"unknown role {self.roles.unknown(word)}")
        return role

    def _rating(self, row: LogRow) -> Evidence | None:
        """The judgement in a row; None if there is none. Raises Unusable if it says neither good nor bad."""
        value, comment = self._get(row.value, "rating"), self._get(row.value, "comment")
        correction = self._get(row.value, "correction")
        if value is None and correction is None:
            return None
        name = self.columns.get("rating", "correction")
        stars = stars_in(value)
        rating = judgement(row.at, [], name, value if stars is None else stars, None, comment, correction)
        if stars is None or rating.scale is None:
            return rating
        if stars < 1:
            raise Unusable(Reason.NO_VERDICT, f"{name} is {short_form(value)}: no rating")
        return replace(rating, scale=WRITTEN_STARS, stars=True)


def _as_keys(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _as_keys(inner) if inner else None for name, inner in tree.items()}


def _names_in(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of the rows, and the paths to what lies one level deeper."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(map(str, row))
    for row in rows[:20]:
        for name, value in row.items():
            if isinstance(inner := structured(value), Mapping):
                names |= dict.fromkeys(f"{name}.{key}" for key in list(inner)[:50])
    return list(names)


def _content(value: Any) -> Any:
    """A message's content: a text, the parts of a multimodal message, or a number as text. JSON text of other things
    is what a user or a model wrote."""
    if isinstance(value, str):
        parts = structured(value) if value.startswith("[{") else None
        if not isinstance(parts, list) or not are_known(parts):
            return value
        is_parts = all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in parts)
        return parts if is_parts else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return name_of(value)
    return "" if value is None else value


def _texts(value: Any, role: str = "user") -> list[dict[str, Any]]:
    """The messages of a request or a reply: a text, or what an API was sent or gave back."""
    if value is None:
        return []
    parsed = structured(value)
    if isinstance(parsed, Mapping | list) and (
        not isinstance(value, str) or (_is_enveloped(parsed) and is_of_api(parsed, role))
    ):
        messages = plain_messages(parsed, role)
        if not messages:
            raise Unusable(Reason.BAD_CONTENT, f"the {role}'s column holds {short_form(value)} and no text")
        return messages
    return [{"role": role, "content": _content(value)}]


def _is_enveloped(value: Any) -> bool:
    """Whether JSON text has the outer shape of a request or a response: nothing says that an API wrote this column."""
    if isinstance(value, list):
        return bool(value) and all(
            isinstance(one, Mapping) and (_is_enveloped(one) or one.get("type") in PARTS) for one in value
        )
    if isinstance(value.get("role"), str) and "content" in value:
        return True
    listed = [value.get(name) for name in ("messages", "contents", "choices", "candidates")]
    return value.get("object") == "response" or any(
        isinstance(one, list) and all(isinstance(entry, Mapping) for entry in one) for one in listed
    )


def _replies(value: Any, place: int) -> list[Message]:
    messages = _texts(value, "assistant")
    return reply_messages(messages, place) or list(messages_of(messages[:1])) if messages else []


def _time(value: Any) -> tuple[float | None, str | None]:
    """A time as a number to sort by and as ISO 8601. Small numbers count messages: they only sort."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,25}(\.\d{1,25})?", text := value.strip()):
        value = float(text) if "." in text else int(text)
    if isinstance(value, bool):
        return None, None
    if isinstance(value, int | float) and abs(value) < _FIRST_TIME:
        return float(value), None
    order = seconds_of(value)
    return order, None if order is None else time_of(value)
