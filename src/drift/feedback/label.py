"""The label stage: what logs bring along and what users wrote, as labels in the store and as rows for people."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from drift.errors import DataError
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.progress import report_progress
from drift.records import Conversation, FeedbackLabel, Labeller, LabelSource, Rating, Verdict, write_jsonl
from drift.store import Store
from drift.turns import is_refusal

_WORD = re.compile(r"[a-z']+|[^\W\d_]+")
_INSULTS = """
asshole bastard bitch bullshit crap cunt damn dick die dumb dumbass fuck fucked fucker fuckin fucking idiot
idiotic imbecile jerk kys loser moron moronic motherfucker pathetic piss retard retarded scum shit shitty shut
stfu stupid suck sucks trash useless worthless
"""
_FILLERS = """
a ai all an and are as ass assistant be bot chatbot chatgpt computer go god gpt hate hell holy i i'm is it
it's just kill little machine me my o of off oh omg piece please program really robot so such that that's the
thing this to totally u up ur very what wtf you you're your yourself
"""
_INSULT_WORDS = frozenset(_INSULTS.split())
_INSULT_OR_FILLER = _INSULT_WORDS | frozenset(_FILLERS.split())


def mark_unsafe_complaint(conversation: Conversation, label: FeedbackLabel) -> FeedbackLabel:
    """The label, with its subtype if it is such a complaint. What a reviewer said stands as it is."""
    if label.label != "DSAT" or label.labeller == "review":
        return label
    reply = conversation.messages[label.reply_index].content
    said = conversation.messages[label.user_index].content if label.user_index is not None else ""
    told = [place for place in (label.reply_index - 1, label.reply_index, label.user_index) if place is not None]
    if conversation.is_toxic(*(place for place in told if place >= 0)):
        return replace(label, subtype="toxic")
    if label.labeller == "judge":
        return label
    if is_refusal(reply):
        return replace(label, subtype="refusal_complaint")
    return replace(label, subtype="abuse") if is_bare_abuse(said) else label


def is_bare_abuse(text: str) -> bool:
    """Insults and nothing else: no word is left that could say what was wrong."""
    words = _WORD.findall(text.lower())
    return any(word in _INSULT_WORDS for word in words) and all(word in _INSULT_OR_FILLER for word in words)


VERSION = "1"


def labels_from_ratings(conversation: Conversation) -> Iterator[FeedbackLabel]:
    """One label per rating, in order: users' own acts by the labeller "rating", annotators' scores by "source"."""
    for rating in conversation.ratings:
        source: LabelSource = "source" if rating.kind == "score" else "rating"
        yield FeedbackLabel(
            conversation.conversation_id,
            rating.reply_index,
            _answering_user(conversation, rating.reply_index),
            _verdict(rating),
            source,
            VERSION,
            evidence=rating.comment,
        )


def _verdict(rating: Rating) -> Verdict:
    if rating.value == 0:
        return "NEUTRAL"
    return "SAT" if rating.value > 0 else "DSAT"


def _answering_user(conversation: Conversation, reply_index: int) -> int | None:
    after = reply_index + 1
    follows = after < len(conversation.messages) and conversation.messages[after].role == "user"
    return after if follows else None


CONVERSATIONS_PER_BATCH = 256


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
    while some := list(islice(stream, CONVERSATIONS_PER_BATCH)):
        by_id = {conversation.conversation_id: conversation for conversation in some}
        of_text = list(labeller.label(some))
        by_reply = {(told.conversation_id, told.reply_index): told for told in of_text}
        for conversation in some:
            yield from rating_labels(conversation, by_reply)
        yield from (mark_unsafe_complaint(by_id[told.conversation_id], told) for told in of_text)


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
        yield mark_unsafe_complaint(conversation, told)


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
        if done % CONVERSATIONS_PER_BATCH == 0:
            report_progress(done, total)
        yield conversation


def check_writable(option: str, out: Path) -> None:
    """Raises DataError, so that nothing is computed that could not be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("ab").close()
    except OSError as error:
        raise DataError(f"{option} {out}: cannot be written: {error.strerror}. Name a new file.") from None
