"""`drift label --report`: the store's labels in numbers and examples, compared with reviews and gold labels."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from drift.errors import DataError
from drift.feedback.estimate import rogan_gladen
from drift.feedback.gold import GoldVerdict, TruthByReply, gold_truth, reviewed
from drift.feedback.label import check_writable
from drift.feedback.trust.agreement import Compared, compare, diagnosis
from drift.feedback.trust.results import JudgedExample, TrustReport
from drift.records import Conversation, FeedbackLabel, stable_hash
from drift.store import Store
from drift.turns import as_text

EXAMPLES = 4  # labels of each verdict
CONTEXT = 300
"""Characters shown on each side of the evidence, and of the reply before the turn."""


def write_label_report(store: Store, out: Path, gold: Path | None = None) -> TrustReport:
    """Markdown if `out` ends in .md, else a self-contained HTML page. Raises DataError (no labels, a bad gold file)."""
    from drift.feedback.trust.page import as_html, as_markdown

    check_writable("--report", out)
    report = label_report(store, gold)
    out.write_text(as_markdown(report) if out.suffix == ".md" else as_html(report), encoding="utf-8")
    return report


def label_report(store: Store, gold: Path | None = None) -> TrustReport:
    store.require_conversations()
    labels = list(store.labels())
    if not labels:
        raise DataError(f"{store.path}: holds no label yet. Run `drift label --store {store.path}` first.")
    gold_labels: TruthByReply = {}
    left_out: Counter[str] = Counter()
    if gold:
        gold_labels, left_out = gold_truth(store, gold)
    machine = {(label.conversation_id, label.reply_index): label for label in store.labels(reviewed=False)}
    reviews = reviewed(store)
    if outdated := store.outdated_reviews():
        left_out["outdated_reviews"] = outdated
    sources = {"reviews": reviews, "gold": gold_labels}
    rows = {name: _compared(machine, truth, left_out) for name, truth in sources.items() if truth}
    judged = [label for label in machine.values() if label.label != "ABSTAIN"]
    called = sum(label.label == "DSAT" for label in judged)
    truths = gold_labels | reviews
    wrong = [label for key, label in machine.items() if key in truths and truths[key] != label.label]
    return TrustReport(
        store=str(store.path),
        labels=dict(Counter(label.label for label in labels).most_common()),
        subtypes=dict(Counter(f"{label.label} {label.subtype}" for label in labels if label.subtype).most_common()),
        labellers=dict(Counter(label.labeller for label in labels).most_common()),
        abstained=dict(Counter(label.abstain_reason for label in labels if label.abstain_reason).most_common()),
        compared={name: compare(compared) for name, compared in rows.items()},
        prevalence={name: rogan_gladen(called, len(judged), diagnosis(compared)) for name, compared in rows.items()},
        left_out=dict(left_out),
        examples=_examples(store, _drawn(labels), truths),
        mistakes=_examples(store, sorted(wrong, key=_draw)[: 2 * EXAMPLES], truths),
    )


def _compared(
    labels: dict[tuple[str, int], FeedbackLabel], truth: TruthByReply, left_out: Counter[str]
) -> list[Compared]:
    left_out["not_labelled"] += sum(key not in labels for key in truth)
    return [
        Compared(labels[key], verdict)
        for key, verdict in truth.items()
        if key in labels and verdict in get_args(GoldVerdict)
    ]


def _drawn(labels: Iterable[FeedbackLabel]) -> list[FeedbackLabel]:
    """EXAMPLES labels of each verdict, drawn by hash: the same ones each time."""
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


def _examples(store: Store, labels: list[FeedbackLabel], truths: TruthByReply) -> tuple[JudgedExample, ...]:
    conversations = {name: store.conversation(name) for name in {label.conversation_id for label in labels}}
    return tuple(
        _example(conversation, label, truths.get((label.conversation_id, label.reply_index)))
        for label in labels
        if (conversation := conversations[label.conversation_id]) is not None and label.user_index is not None
    )


def _example(conversation: Conversation, label: FeedbackLabel, truth: str | None) -> JudgedExample:
    text = conversation.messages[label.user_index].content if label.user_index is not None else ""
    evidence = label.evidence if label.evidence and label.evidence in text else ""
    before, _, after = text.partition(evidence) if evidence else ("", "", text)
    before = before if len(before) <= CONTEXT else "… " + before[-CONTEXT:]
    after = after if len(after) <= CONTEXT else after[:CONTEXT] + " …"
    reply = as_text(conversation.messages[label.reply_index])
    return JudgedExample(
        label.conversation_id, label.user_index or 0, label.label, label.subtype, label.labeller, label.p_dsat,
        reply if len(reply) <= CONTEXT else "… " + reply[-CONTEXT:], before, evidence, after, truth,
    )  # fmt: skip
