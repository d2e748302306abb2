"""One reviewer's audit of a store: the next reply, the decisions, and the estimates from them. Knows no web page."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drift.records import Conversation, FeedbackLabel, Verdict
from drift.review.estimate import (
    Quality,
    ReviewerAgreement,
    estimate_quality,
    reviewer_agreement,
    seconds_left,
    verdicts_of,
)
from drift.review.queue import Queue, build_queue, item_key
from drift.store import Review, Store, shown_turn


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """`decided` and `total`: of the queue. `seconds_left`: None before a pace is known. `agreement`: with each other
    reviewer, on the replies that both decided. `outdated`: this reviewer's decisions on words that have changed since;
    their replies are asked again."""

    decided: int
    total: int
    seconds_left: float | None
    quality: Quality
    agreement: dict[str, ReviewerAgreement]
    outdated: int


class Audit:
    """Raises DataError if the store holds no labels."""

    def __init__(self, store: Store, reviewer: str) -> None:
        self.store = store
        self.reviewer = reviewer
        self._labels: dict[tuple[str, int], FeedbackLabel] = {}
        self.queue: Queue = build_queue(self._remembering(store.labels(reviewed=False), set(self._verdicts())))
        self._labels |= {item_key(label): label for label in self.queue.order}

    def _remembering(self, labels: Iterable[FeedbackLabel], reviewed: set[tuple[str, int]]) -> Iterator[FeedbackLabel]:
        """Keep the labels that were decided on: the queue may not hold them any more, and a decision may be changed."""
        for label in labels:
            if item_key(label) in reviewed:
                self._labels[item_key(label)] = label
            yield label

    def current(self) -> FeedbackLabel | None:
        """The next reply to decide on; None at the end of the queue."""
        decided = self._verdicts()
        open_labels = (label for label in self.queue.order if item_key(label) not in decided)
        return next((label for label in open_labels if not self.is_gone(label)), None)

    def is_gone(self, label: FeedbackLabel) -> bool:
        """Whether its conversation was removed since the review began: then nothing of it may come back."""
        name = label.conversation_id
        return self.store.forgotten().holds(name) or self.store.conversation(name) is None

    def label(self, conversation_id: str, reply_index: int) -> FeedbackLabel | None:
        """The label of a reply of the queue, or of one that was decided on; None for any other."""
        return self._labels.get((conversation_id, reply_index))

    def decisions(self) -> list[Review]:
        """This reviewer's decisions, the latest first."""
        return list(self.store.reviews.all(Review, self.reviewer))[::-1]

    def valid_decisions(self) -> list[Review]:
        """Those on words that have not changed since, the latest first."""
        return [review for review in self.store.decisions() if review.reviewer == self.reviewer][::-1]

    def decide(self, label: FeedbackLabel, verdict: Verdict | None, shown: str) -> None:
        """Durable on return. If the reviewer agrees with the label, its subtype and evidence stay. `shown`: the words
        that they read, as `shown_of` has them."""
        agreed = verdict == label.label
        self.store.reviews.add(
            Review(
                self.reviewer,
                label.conversation_id,
                label.reply_index,
                label.user_index,
                verdict,
                label.subtype if agreed else None,
                label.evidence if agreed else None,
                shown,
            )
        )

    def undo(self) -> Review | None:
        """Take back the latest decision; its reply comes again."""
        last = next(iter(self.decisions()), None)
        if last is not None:
            self.store.reviews.remove(last)
        return last

    def progress(self) -> AuditProgress:
        by_reviewer: dict[str, list[Review]] = defaultdict(list)
        for review in self.store.decisions():
            by_reviewer[review.reviewer].append(review)
        own = by_reviewer.pop(self.reviewer, [])
        mine = verdicts_of(own)
        agreements = {name: reviewer_agreement(mine, verdicts_of(theirs)) for name, theirs in by_reviewer.items()}
        in_queue, total = sum(item_key(label) in mine for label in self.queue.order), len(self.queue.order)
        return AuditProgress(
            in_queue,
            total,
            seconds_left([review.decided_at for review in own], total - in_queue),
            estimate_quality(self.queue, mine),
            {name: agreement for name, agreement in agreements.items() if agreement is not None},
            len(self.decisions()) - len(own),
        )

    def _verdicts(self) -> dict[tuple[str, int], str | None]:
        return verdicts_of(self.valid_decisions())


def shown_of(conversation: Conversation | None, label: FeedbackLabel) -> str:
    """What a decision on the label is about; empty if the conversation is gone."""
    return shown_turn(conversation, label.reply_index, label.user_index) if conversation else ""
