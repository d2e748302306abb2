"""The label stage: what logs bring along and what users wrote, as labels in the store and as rows for people."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from drift.errors import DataError
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.hostile import marked
from drift.feedback.ratings import labels_from_ratings
from drift.progress import report_progress
from drift.records import Conversation, FeedbackLabel, Labeller, LabelSource, Verdict, write_jsonl
from drift.store import Store

TOGETHER = 256


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A user turn and what it says about the reply before it. `message_index`: its place in the log's own list."""

    source_id: str | None
    message_index: int | None
    label: Verdict
    subtype: str | None
    p_dsat: float | None
    evidence: str | None
    labeller: LabelSource


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """`labels`: of the replies in the store, the label that counts; `added`: labels that the store did not hold yet;
    `rows`: of the file that was asked for."""

    conversations: int
    added: int
    labels: dict[str, int] = field(default_factory=dict)
    rows: int | None = None


def label(conversations: Iterable[Conversation], labeller: Labeller) -> Iterator[FeedbackLabel]:
    """All labels, of ratings and of text, as a stream; where both judge a reply, the store says which one counts."""
    stream = iter(conversations)
    while some := list(islice(stream, TOGETHER)):
        by_id = {conversation.conversation_id: conversation for conversation in some}
        of_text = list(labeller.label(some))
        by_reply = {(told.conversation_id, told.reply_index): told for told in of_text}
        for conversation in some:
            yield from rating_labels(conversation, by_reply)
        yield from (marked(by_id[told.conversation_id], told) for told in of_text)


def rating_labels(
    conversation: Conversation, by_reply: Mapping[tuple[str, int], FeedbackLabel]
) -> Iterator[FeedbackLabel]:
    """Labels of the conversation's ratings. `by_reply`: what a labeller of text said of the same replies.

    What the user wrote after a bare thumb down is its reason only if it reads as one: then it is the evidence.
    """
    for told in labels_from_ratings(conversation):
        of_text = by_reply.get((told.conversation_id, told.reply_index))
        if told.label == "DSAT" and told.evidence is None and of_text is not None and of_text.label == "DSAT":
            told = replace(told, evidence=of_text.evidence, subtype=of_text.subtype)
        yield marked(conversation, told)


def judged_rows(conversation: Conversation, labels: Iterable[FeedbackLabel]) -> Iterator[JudgedRow]:
    """One row per label that a user turn gave; labels without a turn (a thumb on the last reply) give none."""
    for told in labels:
        if told.user_index is not None:
            place = conversation.messages[told.user_index].source_index
            yield JudgedRow(
                conversation.source_id, place, told.label, told.subtype, told.p_dsat, told.evidence, told.labeller
            )


def label_store(store: Store, out: Path | None = None, labeller: Labeller | None = None) -> LabelSummary:
    """Label everything in the store (by default with the embedded labeller); `out` gets one JSONL row per judged turn.

    Raises DataError if the store is empty or `out` cannot be written, before anything is labelled.
    """
    if out is not None:
        check_writable("--out", out)
    store.require_conversations()
    total = store.size()
    added = store.add_labels(label(counted(store.conversations(), total), labeller or EmbeddedLabeller()))
    return summarise(store, total, added, out)


def summarise(store: Store, total: int, added: int, out: Path | None) -> LabelSummary:
    rows = write_jsonl(out, _rows(store)) if out else None
    return LabelSummary(total, added, store.counts().labels, rows)


def _rows(store: Store) -> Iterator[JudgedRow]:
    for conversation, labels in store.labelled():
        yield from judged_rows(conversation, labels)


def counted(conversations: Iterable[Conversation], total: int) -> Iterator[Conversation]:
    for done, conversation in enumerate(conversations):
        if done % TOGETHER == 0:
            report_progress(done, total)
        yield conversation


def check_writable(option: str, out: Path) -> None:
    """Raises DataError, so that nothing is computed that could not be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("ab").close()
    except OSError as error:
        raise DataError(f"{option} {out}: cannot be written: {error.strerror}. Name a new file.") from None
