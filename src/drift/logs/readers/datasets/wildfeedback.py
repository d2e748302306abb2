"""WildFeedback (arXiv 2408.15549, huggingface.co/datasets/microsoft/WildFeedback, ODC-BY): its three files.

`sat_dsat_annotation.json` holds one utterance per row, in order. `UtterranceId` 0 starts a conversation, and the
satisfaction in a User row is about the PRECEDING Agent row. The misspelt keys are the file's own. Rows marked both
satisfied and dissatisfied get no rating: the labeller decides by the text. `user_preference.json` holds a conversation
and the preference that was extracted from it; `wildfeedback.json` holds `conversations`, `rejected` and `chosen`, like
many preference files, and is read as what it is with --format wildfeedback.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.draft import ConversationDraft, has, message_of, messages_of, truth_of
from drift.logs.files.rows import LogRow, Reject, Unusable
from drift.logs.judgements import no_reply
from drift.logs.readers.datasets.drift_authors import judged_draft
from drift.logs.unread import MESSAGE, keys
from drift.records import Message, Rating, Reason

_NUMBERS = ("UtterranceId", "UtteranceId")  # as the file spells it, and as a corrected copy may spell it
_TAGS = {"licence": "ODC-BY-1.0"}
_PREFERENCES = ("user_preference", "user_preferences", "preference", "preferences")

KEYS = {
    **keys("Role Content Satisfaction Disatisfaction", conversations=MESSAGE, conversation=MESSAGE, prompt=MESSAGE),
    **keys(" ".join((*_NUMBERS, *_PREFERENCES)), chosen=MESSAGE, rejected=MESSAGE),
    **keys("Satisfaction-Justificiation Disatisfaction-Justificiation Dissatisfaction-Justificiation"),
}


def recognises(row: Mapping[str, Any]) -> bool:
    """Not wildfeedback.json: LLaMA-Factory's preference files look the same, and have another licence."""
    annotated = _number(row) is not None and has(row, "Role", "Content")
    has_preference = not has(row, "rejected") and _preference(row) is not None
    return annotated or (has_preference and _history_key(row) is not None)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    """Yield drafts in order. An utterance out of order, and those that follow it, are one Reject together."""
    dialogue = _Dialogue()
    for row in rows:
        if isinstance(row, LogRow) and _number(row.value) is not None:
            yield from dialogue.take(row)
            continue
        yield from dialogue.close()
        yield row if isinstance(row, Reject) else _one_conversation(row)
    yield from dialogue.close()


class _Dialogue:
    """Collects the utterances of the current conversation."""

    def __init__(self) -> None:
        self._start: LogRow | None = None
        self._messages: list[Message] = []
        self._ratings: list[Rating] = []
        self._unused: list[Reject] = []  # judgements of no reply
        self._refused: Reject | None = None  # also counts all utterances up to the next conversation

    def take(self, row: LogRow) -> Iterator[ConversationDraft | Reject]:
        """Add an utterance; yields the conversation before it, if this one starts another."""
        number = _number(row.value)
        if number == 0:
            yield from self.close()
            self._start = row
        elif self._start is None or number != len(self._messages):
            yield from self._close_draft()
            self._refuse(row, Reason.ROLES_OUT_OF_ORDER, f"utterance {number!r:.40} does not follow the one before it")
            return
        try:
            self._append(row, len(self._messages))
        except Unusable as error:
            yield from self._close_draft()
            self._refuse(row, error.reason, error.detail)

    def close(self) -> Iterator[ConversationDraft | Reject]:
        """Yield the conversation that is complete now, and what was refused."""
        yield from self._close_draft()
        if self._refused is not None:
            yield self._refused
        self._refused = None

    def _close_draft(self) -> Iterator[ConversationDraft | Reject]:
        if self._start is not None and self._messages:
            yield ConversationDraft(
                at=self._start.at,
                messages=tuple(self._messages),
                ratings=tuple(self._ratings),
                tags=dict(_TAGS),
                rows=len(self._messages),
            )
        yield from self._unused
        self._start, self._messages, self._ratings, self._unused = None, [], [], []

    def _refuse(self, row: LogRow, reason: Reason, detail: str) -> None:
        if self._refused is None:
            self._refused = Reject(row.at, reason, detail)
        else:
            self._refused = replace(self._refused, rows=self._refused.rows + 1)

    def _append(self, at_row: LogRow, index: int) -> None:
        row = at_row.value
        message = message_of({"role": row.get("Role"), "content": row.get("Content")}, index)
        follows_reply = bool(self._messages) and self._messages[-1].role == "assistant"
        self._messages.append(message)
        satisfied, dissatisfied = (bool(truth_of(row.get(name))) for name in ("Satisfaction", "Disatisfaction"))
        if message.role == "user" and satisfied != dissatisfied and not follows_reply:
            self._unused.append(no_reply(at_row.at))
        elif message.role == "user" and satisfied != dissatisfied:
            comment = _justification(row, satisfied)
            self._ratings.append(Rating(index - 1, "score", 1.0 if satisfied else -1.0, comment))


def _one_conversation(row: LogRow) -> ConversationDraft | Reject:
    """Read a row of the two files that hold one conversation per row."""
    try:
        history = row.value.get(_history_key(row.value) or "conversations")
        if "rejected" not in row.value:
            tags = _TAGS if (preference := _preference(row.value)) is None else {**_TAGS, "preference": preference}
            return ConversationDraft(at=row.at, messages=messages_of(history), tags=dict(tags))
        draft = judged_draft(LogRow(row.at, {key: row.value.get(key) for key in ("rejected", "chosen")}), history)
    except Unusable as error:
        return Reject(row.at, error.reason, error.detail)
    draft.tags.update(_TAGS)
    return draft


def _number(row: Mapping[str, Any]) -> Any:
    return next((row[key] for key in _NUMBERS if key in row), None)


def _history_key(row: Mapping[str, Any]) -> str | None:
    return next((key for key in ("conversations", "conversation", "prompt") if isinstance(row.get(key), list)), None)


def _preference(row: Mapping[str, Any]) -> str | None:
    value = next((row[key] for key in _PREFERENCES if row.get(key)), None)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "\n".join(value)
    return value if isinstance(value, str) else None


def _justification(row: Mapping[str, Any], satisfied: bool) -> str | None:
    stems = ("Satisfaction",) if satisfied else ("Disatisfaction", "Dissatisfaction")
    texts = (row.get(f"{stem}-Justificiation") for stem in stems)
    return next((text for text in texts if isinstance(text, str) and text), None)
