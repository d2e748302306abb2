"""`drift label --report`: the store's labels in numbers and examples, beside what people said of the same turns."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from drift.errors import DataError
from drift.feedback.estimate import rogan_gladen
from drift.feedback.label import check_writable
from drift.feedback.trust.agreement import Compared, compare, diagnosis
from drift.feedback.trust.results import JudgedExample, TrustReport
from drift.records import Conversation, FeedbackLabel, Verdict, stable_hash
from drift.store import Store

EXAMPLES = 4
CONTEXT = 300
"""Characters of a turn that are shown around its evidence, and of the reply before it."""
TRUTHS: tuple[Verdict, ...] = ("DSAT", "SAT", "NEUTRAL")
DISPUTED = "DISPUTED"


class GoldRow(BaseModel):
    """A line of a gold file: the log's own id (`source_id`, or `conversation_id`) and place, and the truth."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source_id: str | None = None
    conversation_id: str | None = None
    message_index: int
    label: str


def write_label_report(store: Store, out: Path, gold: Path | None = None) -> TrustReport:
    """Markdown if `out` ends in .md, else a self-contained HTML page. Raises DataError (no labels, a bad gold file)."""
    from drift.feedback.trust.page import as_html, as_markdown

    check_writable("--report", out)
    report = label_report(store, gold)
    out.write_text(as_markdown(report) if out.suffix == ".md" else as_html(report), encoding="utf-8")
    return report


def label_report(store: Store, gold: Path | None = None) -> TrustReport:
    store.require_conversations()
    told = list(store.labels())
    if not told:
        raise DataError(f"{store.path}: holds no label yet. `drift label --store {store.path}` makes them.")
    left_out: Counter[str] = Counter()
    machine = {(label.conversation_id, label.reply_index): label for label in store.labels(reviewed=False)}
    reviews = {(label.conversation_id, label.reply_index): label.label for label in store.labels_by("review")}
    sources = {"reviews": reviews, "gold": _gold_truth(store, gold, left_out) if gold else {}}
    rows = {name: _compared(machine, truth, left_out) for name, truth in sources.items() if truth}
    judged = [label for label in machine.values() if label.label != "ABSTAIN"]
    called = sum(label.label == "DSAT" for label in judged)
    truths = {**sources["gold"], **reviews}
    wrong = [label for key, label in machine.items() if key in truths and truths[key] != label.label]
    return TrustReport(
        store=str(store.path),
        labels=dict(Counter(label.label for label in told).most_common()),
        subtypes=dict(Counter(f"{label.label} {label.subtype}" for label in told if label.subtype).most_common()),
        labellers=dict(Counter(label.labeller for label in told).most_common()),
        abstained=dict(Counter(label.abstain_reason for label in told if label.abstain_reason).most_common()),
        compared={name: compare(some) for name, some in rows.items()},
        prevalence={name: rogan_gladen(called, len(judged), diagnosis(some)) for name, some in rows.items()},
        left_out=dict(left_out),
        examples=_examples(store, _drawn(told), truths),
        mistakes=_examples(store, sorted(wrong, key=_draw)[: 2 * EXAMPLES], truths),
    )


def truth_of(store: Store, gold: Path | None) -> dict[tuple[str, int], Verdict]:
    """What people said of replies: the gold file's rows, and above them the reviews in the store."""
    truth = _gold_truth(store, gold, Counter()) if gold else {}
    return {**truth, **{(label.conversation_id, label.reply_index): label.label for label in store.labels_by("review")}}


def read_gold(path: Path) -> Iterator[GoldRow]:
    """Raises DataError with file:line on a row that is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"--gold {path}: cannot be read: {error.strerror}.") from None
    for number, line in enumerate(lines, 1):
        try:
            row = GoldRow.model_validate(orjson.loads(line))
        except (orjson.JSONDecodeError, ValidationError) as error:
            told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{path}:{number}: no gold row: {told}. Write source_id, message_index, label.") from None
        if row.label not in (*TRUTHS, DISPUTED) or (row.source_id or row.conversation_id) is None:
            raise DataError(
                f"{path}:{number}: label {row.label!r}; allowed: {', '.join(TRUTHS)}, {DISPUTED}, with a source_id."
            )
        yield row


def _gold_truth(store: Store, path: Path, left_out: Counter[str]) -> dict[tuple[str, int], Verdict]:
    """The truth by reply. Disputed rows, and rows about turns that the store lacks, are left out and counted."""
    rows = list(read_gold(path))
    left_out["disputed"] = sum(row.label == DISPUTED for row in rows)
    wanted = {(row.source_id or row.conversation_id, row.message_index): row.label for row in rows}
    places = {
        (conversation.source_id, message.source_index): (conversation.conversation_id, index - 1)
        for conversation in store.conversations()
        for index, message in enumerate(conversation.messages)
        if message.role == "user" and index
    }
    left_out["not_in_store"] = sum(key not in places for key, label in wanted.items() if label != DISPUTED)
    truth: dict[tuple[str, int], Verdict] = {}
    for key, label in wanted.items():
        if key in places and label in TRUTHS:
            truth[places[key]] = label
    return truth


def _compared(
    labels: dict[tuple[str, int], FeedbackLabel], truth: dict[tuple[str, int], Verdict], left_out: Counter[str]
) -> list[Compared]:
    left_out["not_labelled"] += sum(key not in labels for key in truth)
    return [Compared(labels[key], verdict) for key, verdict in truth.items() if key in labels and verdict in TRUTHS]


def _drawn(labels: Iterable[FeedbackLabel]) -> list[FeedbackLabel]:
    """A few of each verdict, the same ones each time."""
    drawn: list[FeedbackLabel] = []
    by_verdict: dict[str, list[FeedbackLabel]] = {}
    for label in labels:
        if label.user_index is not None:
            by_verdict.setdefault(label.label, []).append(label)
    for verdict in ("DSAT", "SAT", "NEUTRAL", "ABSTAIN"):
        drawn += sorted(by_verdict.get(verdict, []), key=_draw)[:EXAMPLES]
    return drawn


def _draw(label: FeedbackLabel) -> str:
    return stable_hash("example", label.conversation_id, label.reply_index)


def _examples(
    store: Store, labels: list[FeedbackLabel], truths: dict[tuple[str, int], Verdict]
) -> tuple[JudgedExample, ...]:
    found = {name: store.conversation(name) for name in {label.conversation_id for label in labels}}
    return tuple(
        _example(conversation, label, truths.get((label.conversation_id, label.reply_index)))
        for label in labels
        if (conversation := found[label.conversation_id]) is not None and label.user_index is not None
    )


def _example(conversation: Conversation, label: FeedbackLabel, truth: str | None) -> JudgedExample:
    text = conversation.messages[label.user_index].content if label.user_index is not None else ""
    evidence = label.evidence if label.evidence and label.evidence in text else ""
    before, _, after = text.partition(evidence) if evidence else ("", "", text)
    before = before if len(before) <= CONTEXT else "… " + before[-CONTEXT:]
    after = after if len(after) <= CONTEXT else after[:CONTEXT] + " …"
    reply = conversation.messages[label.reply_index].content
    return JudgedExample(
        label.conversation_id, label.user_index or 0, label.label, label.subtype, label.labeller, label.p_dsat,
        reply if len(reply) <= CONTEXT else "… " + reply[-CONTEXT:], before, evidence, after, truth,
    )  # fmt: skip
