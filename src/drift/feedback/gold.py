"""Gold labels: what people, or a careful reading, said of user turns, in a JSON Lines file beside the logs."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from drift.errors import DataError, first_problem
from drift.records import Verdict
from drift.store import Store
from drift.turns import judged_reply

GoldVerdict = Literal["DSAT", "SAT", "NEUTRAL"]
GoldLabel = Literal[GoldVerdict, "DISPUTED"]
"""DISPUTED: the readers did not agree, so the row has no truth."""
TruthByReply = dict[tuple[str, int], Verdict]
"""By conversation_id and reply_index."""
FORMAT = "A row has source_id, message_index and label."


class GoldRow(BaseModel):
    """A line of a gold file. `source_id` (also called `conversation_id`): the id that the log gave the conversation;
    `message_index`: the place of the user turn in the log's own list."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    source_id: str | None = None
    conversation_id: str | None = None
    message_index: int
    label: GoldLabel

    @property
    def turn(self) -> tuple[str | None, int]:
        """What names the user turn in a log: as `Conversation.source_id` and `Message.source_index` do."""
        return self.source_id or self.conversation_id, self.message_index


def read_gold(path: Path) -> Iterator[tuple[str, GoldRow]]:
    """Each row with its `file:line`. Raises DataError if the file cannot be read, or a row is not a gold row."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"--gold {path}: cannot be read: {error.strerror}. Give a JSON Lines file. {FORMAT}") from None
    for number, line in enumerate(lines, 1):
        place = f"{path}:{number}"
        try:
            row = GoldRow.model_validate(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise DataError(f"{place}: invalid gold row: {error}. {FORMAT}") from None
        except ValidationError as error:
            if (first := error.errors()[0])["type"] == "literal_error":
                allowed = ", ".join(get_args(GoldLabel))
                raise DataError(f"{place}: label {first['input']!r}; allowed: {allowed}.") from None
            raise DataError(f"{place}: invalid gold row: {first_problem(error, 'row')}. {FORMAT}") from None
        if row.turn[0] is None:
            raise DataError(f"{place}: invalid gold row: no source_id. {FORMAT}")
        yield place, row


def gold_truth(store: Store, path: Path) -> tuple[TruthByReply, Counter[str]]:
    """The truth, and how many rows give none, by reason.

    `disputed`: the label is DISPUTED; `not_in_store`: the store lacks the message; `not_after_a_reply`: the message is
    not a user turn directly after a reply, so it judges none.
    """
    rows = [row for _, row in read_gold(path)]
    labels: dict[tuple[str | None, int | None], GoldLabel] = {row.turn: row.label for row in rows}
    replies: dict[tuple[str | None, int | None], tuple[str, int]] = {}
    stored: set[tuple[str | None, int | None]] = set()
    for conversation in store.conversations():
        for index, message in enumerate(conversation.messages):
            turn = conversation.source_id, message.source_index
            if turn in labels:
                stored.add(turn)
                if (reply := judged_reply(conversation.messages, index)) is not None:
                    replies[turn] = conversation.conversation_id, reply
    truth: TruthByReply = {}
    left_out = Counter(disputed=sum(row.label == "DISPUTED" for row in rows), not_in_store=0, not_after_a_reply=0)
    for turn, label in labels.items():
        if label == "DISPUTED":
            continue
        if turn in replies:
            truth[replies[turn]] = label
        else:
            left_out["not_after_a_reply" if turn in stored else "not_in_store"] += 1
    return truth, left_out


def truth_of(store: Store, gold: Path | None) -> TruthByReply:
    """What people said of replies: the rows of the gold file; a review in the store replaces the row of its reply."""
    truth: TruthByReply = gold_truth(store, gold)[0] if gold else {}
    return truth | reviewed(store)


def reviewed(store: Store) -> TruthByReply:
    """The verdicts of reviewers, who used `drift review`."""
    return {(label.conversation_id, label.reply_index): label.label for label in store.labels_by("review")}
