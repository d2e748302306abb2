"""One reviewer's audit of a store: the next reply, the decisions, and the estimates from them. Knows no web page."""

from collections import defaultdict
from dataclasses import dataclass

from drift.records import FeedbackLabel, Verdict
from drift.review.estimate import Quality, ReviewerAgreement, estimate_quality, reviewer_agreement, verdicts_of
from drift.review.queue import Queue, build_queue, item_key
from drift.store import Review, Store


@dataclass(frozen=True, slots=True)
class Progress:
    """`agreement`: with each other reviewer, on the replies that both decided."""

    decided: int
    total: int
    quality: Quality
    agreement: dict[str, ReviewerAgreement]


class Audit:
    """Raises DataError if the store holds no labels."""

    def __init__(self, store: Store, reviewer: str) -> None:
        self.store = store
        self.reviewer = reviewer
        self.queue: Queue = build_queue(store.labels(reviewed=False))

    def current(self) -> FeedbackLabel | None:
        """The next reply to decide on; None at the end of the queue."""
        decided = self._verdicts()
        return next((label for label in self.queue.order if item_key(label) not in decided), None)

    def decide(self, label: FeedbackLabel, verdict: Verdict | None) -> None:
        """Durable on return. If the reviewer agrees with the label, its subtype and evidence stay."""
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
            )
        )

    def undo(self) -> Review | None:
        """Take back the latest decision; its reply comes again."""
        return self.store.reviews.undo(Review, self.reviewer)

    def progress(self) -> Progress:
        by_reviewer: dict[str, list[Review]] = defaultdict(list)
        for review in self.store.reviews.all(Review):
            by_reviewer[review.reviewer].append(review)
        mine = verdicts_of(by_reviewer.pop(self.reviewer, []))
        agreements = {name: reviewer_agreement(mine, verdicts_of(theirs)) for name, theirs in by_reviewer.items()}
        in_queue = sum(item_key(label) in mine for label in self.queue.order)
        return Progress(
            in_queue,
            len(self.queue.order),
            estimate_quality(self.queue, mine),
            {name: agreement for name, agreement in agreements.items() if agreement is not None},
        )

    def _verdicts(self) -> dict[tuple[str, int], str | None]:
        return verdicts_of(self.store.reviews.all(Review, self.reviewer))
