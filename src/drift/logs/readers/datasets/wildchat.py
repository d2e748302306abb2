"""WildChat-1M (huggingface.co/datasets/allenai/WildChat-1M): users are known only by `hashed_ip`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, has, messages_of, name_of, structured, time_of, truth_of
from drift.logs.files.rows import LogRow, Reject
from drift.logs.unread import MESSAGE, keys

KEYS = keys(
    "conversation_hash hashed_ip model language timestamp toxic redacted",
    conversation={**MESSAGE, **keys("hashed_ip toxic")},
)


def recognises(row: Mapping[str, Any]) -> bool:
    return has(row, "conversation_hash") or ("conversation_hash" in row and has(row, "conversation"))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    turns = structured(row.value.get("conversation"))
    messages = messages_of(turns)  # raises Unusable if turns is not a list of messages
    return ConversationDraft(
        at=row.at,
        messages=messages,
        source_id=name_of(row.value.get("conversation_hash")),
        user=_hashed_ip(row.value, turns),
        model=name_of(row.value.get("model")),
        language=name_of(row.value.get("language")),
        started_at=time_of(row.value.get("timestamp")),
        tags={flag: "true" for flag in ("toxic", "redacted") if truth_of(row.value.get(flag))} | _toxic_turns(turns),
    )


def _toxic_turns(turns: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The places of the messages that moderation flagged, if the log flags single messages."""
    flagged = [str(place) for place, turn in enumerate(turns) if truth_of(turn.get("toxic"))]
    return {"toxic_turns": ",".join(flagged)} if flagged else {}


def _hashed_ip(row: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> str | None:
    """From the row or, in older releases, from the user's turns."""
    return next((name for entry in (row, *turns) if (name := name_of(entry.get("hashed_ip")))), None)
