"""Labels of a store by one labeller: every reply that users judged, in words or by a rating, gets one.

Labels have two sources: the ratings that a log brings along, and a labeller that reads what users wrote. A complaint
that a model must not learn from (about a refusal, mere insults, flagged as toxic) stays DSAT and gets a subtype of its
own; pairs/disliked.py makes no pair of it unless `labels.include` names the subtype.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from drift.disk import new_file
from drift.engine import current_engine, in_pieces, rare_collections
from drift.errors import DataError
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.progress import report_progress
from drift.records import Conversation, FeedbackLabel, Labeller, LabelSource, Verdict, write_jsonl
from drift.store import Store
from drift.turns import is_refusal, is_toxic_complaint, judging_turn

CONVERSATIONS_PER_BATCH = 256
RATING_LABELS_VERSION = "1"
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


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """`labels`: of the replies in the store, by the label that counts; `added`: labels that the store did not hold yet;
    `rows`: rows written to the file of `--out`; `tool_calls`: of the store's conversations, which are read as part of
    the replies."""

    conversations: int
    added: int
    labels: dict[str, int] = field(default_factory=dict)
    rows: int | None = None
    tool_calls: int = 0


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A user turn and its label of the reply before it. `message_index`: its place in the log's own list."""

    source_id: str | None
    message_index: int | None
    label: Verdict
    subtype: str | None
    p_dsat: float | None
    evidence: str | None
    labeller: LabelSource


@rare_collections()
def label_store(store: Store, out: Path | None = None, labeller: Labeller | None = None) -> LabelSummary:
    """Label everything in the store (by default with the embedded labeller); `out` gets one JSONL row per judged turn.

    Raises DataError if the store is empty or `out` cannot be written, before anything is labelled.
    """
    if out is not None:
        check_writable("--out", out)
    store.require_conversations()
    total = store.size()
    if labeller is None and current_engine().workers > 1:
        return _label_in_pieces(store, total, out)
    calls: list[int] = []
    read = _calling(counted(store.conversations(), total), calls)
    added = store.add_labels(label(read, labeller or EmbeddedLabeller()))
    return replace(summarise(store, total, added, out), tool_calls=sum(calls))


@dataclass(frozen=True, slots=True)
class LabelledRange:
    """Of one range of conversations: the labels that are new, and the tool calls that were read."""

    added: int
    tool_calls: int


def _label_in_pieces(store: Store, total: int, out: Path | None) -> LabelSummary:
    """The same labels with the current engine: the conversations of a range depend on no others."""
    ranges = [store.within(ids) for ids in store.id_ranges()]
    with store.pieces("labels", EmbeddedLabeller().version, len(ranges)) as folder:
        work = partial(label_range, folder, len(ranges))
        done = in_pieces(work, list(enumerate(ranges)), LabelledRange, folder / "journal", len(ranges))
        store.adopt_labels([_labels_file(folder, number) for number, piece in enumerate(done) if piece.added])
    summary = summarise(store, total, sum(piece.added for piece in done), out)
    return replace(summary, tool_calls=sum(piece.tool_calls for piece in done))


def label_range(folder: Path, ranges: int, piece: tuple[int, Store]) -> LabelledRange:
    """Label one range of conversations, into a file of its own."""
    number, store = piece
    calls: list[int] = []
    labels = label(_calling(store.conversations(), calls), EmbeddedLabeller())
    with new_file(_labels_file(folder, number)) as out:
        return LabelledRange(store.write_new_labels(out, labels, number * (2**32 // ranges)), sum(calls))


def _labels_file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"


def _calling(conversations: Iterable[Conversation], calls: list[int]) -> Iterator[Conversation]:
    """The conversations; `calls` gets the number of tool calls of each that has some."""
    for conversation in conversations:
        if count := sum([len(message.tool_calls) for message in conversation.messages]):
            calls.append(count)
        yield conversation


def check_writable(option: str, out: Path) -> None:
    """Raises DataError if `out` cannot be written, so that nothing is computed in vain."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("ab").close()
    except OSError as error:
        raise DataError(f"{option} {out}: cannot be written: {error.strerror}. Name a new file.") from None


def counted(conversations: Iterable[Conversation], total: int) -> Iterator[Conversation]:
    """The conversations, with a progress report before each batch."""
    for done, conversation in enumerate(conversations):
        if done % CONVERSATIONS_PER_BATCH == 0:
            report_progress(done, total)
        yield conversation


def label(conversations: Iterable[Conversation], labeller: Labeller) -> Iterator[FeedbackLabel]:
    """Labels of ratings and of text, as a stream. A reply may get both; the store decides which one counts."""
    stream = iter(conversations)
    while batch := list(islice(stream, CONVERSATIONS_PER_BATCH)):
        by_id = {conversation.conversation_id: conversation for conversation in batch}
        text_labels = list(labeller.label(batch))
        by_reply = {(text.conversation_id, text.reply_index): text for text in text_labels}
        for conversation in batch:
            yield from rating_labels(conversation, by_reply)
        yield from (mark_unsafe_complaint(by_id[text.conversation_id], text) for text in text_labels)


def rating_labels(
    conversation: Conversation, by_reply: Mapping[tuple[str, int], FeedbackLabel]
) -> Iterator[FeedbackLabel]:
    """Labels of the conversation's ratings. `by_reply`: a text labeller's labels of the same replies.

    What the user wrote after a thumb down without a comment becomes its evidence only if the labeller calls it DSAT.
    """
    for rated in labels_from_ratings(conversation):
        text = by_reply.get((rated.conversation_id, rated.reply_index))
        if rated.label == "DSAT" and rated.evidence is None and text is not None and text.label == "DSAT":
            rated = replace(rated, evidence=text.evidence, subtype=text.subtype)
        yield mark_unsafe_complaint(conversation, rated)


def labels_from_ratings(conversation: Conversation) -> Iterator[FeedbackLabel]:
    """One label per rating, in order: users' own ratings by the labeller "rating", annotators' scores by "source"."""
    for rating in conversation.ratings:
        source: LabelSource = "source" if rating.kind == "score" else "rating"
        verdict: Verdict = "NEUTRAL" if rating.value == 0 else "SAT" if rating.value > 0 else "DSAT"
        yield FeedbackLabel(
            conversation.conversation_id,
            rating.reply_index,
            judging_turn(conversation.messages, rating.reply_index),
            verdict,
            source,
            RATING_LABELS_VERSION,
            evidence=rating.comment,
        )


def mark_unsafe_complaint(conversation: Conversation, label: FeedbackLabel) -> FeedbackLabel:
    """The label, with the subtype "toxic", "refusal_complaint" or "abuse" if it is a complaint of that kind.

    A reviewer's label stays as it is. A judge has read the request, so its own subtype stands unless the log's
    moderation flagged the complaint.
    """
    if label.label != "DSAT" or label.labeller == "review":
        return label
    if is_toxic_complaint(conversation, label):
        return replace(label, subtype="toxic")
    if label.labeller == "judge":
        return label
    if is_refusal(conversation.messages[label.reply_index].content):
        return replace(label, subtype="refusal_complaint")
    if label.user_index is not None and is_bare_abuse(conversation.messages[label.user_index].content):
        return replace(label, subtype="abuse")
    return label


def is_bare_abuse(text: str) -> bool:
    """Is the text nothing but insults? No word is left that could name a fault."""
    words = _WORD.findall(text.lower())
    return not _INSULT_WORDS.isdisjoint(words) and _INSULT_OR_FILLER.issuperset(words)


def summarise(store: Store, total: int, added: int, out: Path | None) -> LabelSummary:
    """Count the store's labels and write them to `out`, if it is given."""
    rows = None
    if out:
        labelled = store.labelled()
        rows = write_jsonl(out, (row for chat, labels in labelled for row in judged_rows(chat, labels)))
    return LabelSummary(total, added, store.counts().labels, rows)


def judged_rows(conversation: Conversation, labels: Iterable[FeedbackLabel]) -> Iterator[JudgedRow]:
    """One row per label that a user turn gave; a label without a turn (a thumb on the last reply) gives none."""
    for label in labels:
        if label.user_index is not None:
            index = conversation.messages[label.user_index].source_index
            yield JudgedRow(
                conversation.source_id, index, label.label, label.subtype, label.p_dsat, label.evidence, label.labeller
            )
