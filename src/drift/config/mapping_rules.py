"""How the columns of a table become conversations: which keys `ingestion.map` has, and which roles `roles`.

A row is one message (`conversation`, `role`, `content`) or one exchange (`request`, `reply`).
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

MESSAGE_KEYS = ("conversation", "role", "content")
EXCHANGE_KEYS = ("request", "reply")
OF_MESSAGES = ("tool_calls", "tool_call_id", "name")
"""Optional, of a row that is one message."""
OF_EXCHANGES = ("conversation", "id", "system", "correction")
"""Optional, of a row that is one exchange."""
OPTIONAL_KEYS = ("time", "model", "user", "rating", "comment", "language", "session")
ALLOWED_KEYS = tuple(dict.fromkeys((*MESSAGE_KEYS, *EXCHANGE_KEYS, *OPTIONAL_KEYS, *OF_MESSAGES, *OF_EXCHANGES)))
SKIP = "skip"
"""In place of a role: such messages are left out and counted."""
ANY_OTHER = "*"
"""In place of a word: every word that stands for no other role."""
ALLOWED_ROLES = ("user", "assistant", "system", "tool", SKIP)
_EXAMPLE = "conversation=COLUMN,role=COLUMN,content=COLUMN or request=COLUMN,reply=COLUMN"


def known_columns(columns: dict[str, str]) -> dict[str, str]:
    """Raises ValueError if a key is unknown or missing, or if a column is mapped twice."""
    if not columns:
        return columns
    for key in columns:
        if key not in ALLOWED_KEYS:
            raise ValueError(f"unknown key {key!r}; {nearest(key, ALLOWED_KEYS)}")
    for key, column in columns.items():
        if not column:
            raise ValueError(f"{key} has no column; write {key}=COLUMN")
        if same := next((other for other in columns if other != key and columns[other] == column), None):
            raise ValueError(f"column {column!r} is mapped twice, as {same} and as {key}")
    of_messages = [key for key in ("role", "content") if key in columns]
    of_exchanges = [key for key in EXCHANGE_KEYS if key in columns]
    if of_messages and of_exchanges:
        raise ValueError(f"a row is a message or an exchange: remove {of_messages[0]} or {of_exchanges[0]}")
    required = EXCHANGE_KEYS if of_exchanges else MESSAGE_KEYS
    if missing := next((key for key in required if key not in columns), None):
        raise ValueError(f"{missing} is missing; needed: {_EXAMPLE}")
    others = OF_MESSAGES if of_exchanges else OF_EXCHANGES
    if wrong := next((key for key in others if key in columns and key not in required), None):
        kind = "message" if wrong in OF_MESSAGES else "exchange"
        raise ValueError(f"{wrong} is only for tables with one {kind} per row")
    return columns


def listed_roles(roles: Any) -> Any:
    """YAML's single values as lists of text: `user: customer`, `user: [customer, 1]`, `user: true`."""
    if not isinstance(roles, Mapping):
        return roles
    return {
        role: tuple(map(_text, values if isinstance(values, list | tuple) else (values,)))
        for role, values in roles.items()
    }


def known_roles(roles: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Raises ValueError if a role is unknown, or if a value of the log stands for two roles."""
    first: dict[str, str] = {}
    for role, values in roles.items():
        if role not in ALLOWED_ROLES:
            raise ValueError(f"unknown role {role!r}; {nearest(role, ALLOWED_ROLES)}; write ROLE=VALUE OF THE LOG")
        for value in values:
            if not value:
                raise ValueError(f"{role} has no value; write {role}=VALUE OF THE LOG")
            if first.setdefault(value.lower(), role) != role:
                raise ValueError(f"{value!r} cannot be both {first[value.lower()]} and {role}")
    return roles


def without_password(log: str) -> str:
    """The URL of a database without its password; a path as it is."""
    scheme, slashes, rest = log.partition("://")
    if not slashes:
        return log
    options = re.search(r"[?&](?:table|query)=", rest)  # a password may stand before these only
    end = len(rest) if options is None else options.start()
    login, rest = rest[:end], rest[end:]
    login = re.sub(r"^([^:/@]*):.*@", r"\1@", login, flags=re.DOTALL)
    login = re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", login)
    return scheme + slashes + login + re.sub(r"(&(?:ssl)?password=)[^&]*", r"\1***", rest)


def nearest(name: str, allowed: tuple[str, ...] | list[str]) -> str:
    """What may have been meant instead of an unknown name, in words."""
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"the nearest right one is {near[0]!r}" if near else f"allowed: {', '.join(allowed)}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
