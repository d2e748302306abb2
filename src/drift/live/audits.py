"""What people said about the replies of the readout: the labeller's errors, over all models and on each of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from drift.feedback.estimate import Diagnosis
from drift.feedback.gold import TruthByReply, gold_truth
from drift.live.correction import LabellerErrors, errors_by_label, errors_by_truth
from drift.live.replies import JudgedReply
from drift.records import FeedbackLabel, LabelSource
from drift.review.estimate import audited, verdicts_of
from drift.review.queue import build_queue
from drift.statistics import Stratum
from drift.store import Store

FEWEST_AUDITED = 20
"""Audited turns with the truth DSAT, and without, from which a model gets errors of its own."""


class Audits:
    """Gold rows where they are given, else the reviews of `drift review`; both of turns of this store."""

    def __init__(self, store: Store, replies: Sequence[JudgedReply], gold: Path | None) -> None:
        self._replies = replies
        self._truth: TruthByReply | None = None
        self.left_out: dict[str, int] = {}
        if gold is not None:
            self._truth, left_out = gold_truth(store, gold)
            places = {(reply.conversation_id, reply.reply_index) for reply in replies}
            left_out["not_judged"] = sum(place not in places for place in self._truth)
            self.left_out = {f"gold_rows_{name}": count for name, count in left_out.items()}
        self._verdicts = {} if gold is not None else verdicts_of(store.decisions())
        if gold is None:
            self.left_out = {"outdated_reviews": store.outdated_reviews()}

    def errors(self) -> LabellerErrors | None:
        """None if nobody audited the labels, or too few of them, or if they are no better than chance."""
        return self._of(self._replies)

    def errors_by_group(self) -> Mapping[str, LabellerErrors]:
        """Of every model with enough audited turns."""
        groups: dict[str, list[JudgedReply]] = {}
        for reply in self._replies:
            groups.setdefault(reply.group, []).append(reply)
        by_group = {group: self._of(replies, FEWEST_AUDITED) for group, replies in groups.items()}
        return {group: errors for group, errors in by_group.items() if errors is not None}

    def _of(self, replies: Sequence[JudgedReply], fewest: int = 1) -> LabellerErrors | None:
        if self._truth is not None:
            diagnosis = _diagnosis(replies, self._truth)
            enough = min(diagnosis.positives, diagnosis.negatives) >= fewest
            return errors_by_truth(diagnosis) if enough else None
        if not self._verdicts:
            return None
        called, others = audited(build_queue(map(_as_label, replies)), self._verdicts)
        return errors_by_label(called, others) if _truths(called, others) >= fewest else None


def _truths(called: Stratum, others: Stratum) -> float:
    """How many of the audited turns are of the rarer truth."""
    disliked = called.hits + others.hits
    return min(disliked, called.judged + others.judged - disliked)


def _diagnosis(replies: Sequence[JudgedReply], truth: TruthByReply) -> Diagnosis:
    rows = [
        (truth[place] == "DSAT", reply.is_dsat)
        for reply in replies
        if (place := (reply.conversation_id, reply.reply_index)) in truth
    ]
    positives = sum(true for true, _ in rows)
    hits = sum(true and called for true, called in rows)
    rejections = sum(not true and not called for true, called in rows)
    return Diagnosis(positives, hits, len(rows) - positives, rejections)


def _as_label(reply: JudgedReply) -> FeedbackLabel:
    """What decides on its place in the queue of `drift review`."""
    labeller: LabelSource = "embedded"
    verdict = "DSAT" if reply.is_dsat else "NEUTRAL"
    return FeedbackLabel(reply.conversation_id, reply.reply_index, reply.reply_index + 1, verdict, labeller, "")
