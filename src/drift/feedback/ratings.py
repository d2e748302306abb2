"""Labels out of what the log itself knows: thumbs, corrections and regenerations of users, scores of annotators."""

from collections.abc import Iterator

from drift.records import Conversation, FeedbackLabel, LabelSource, Rating, Verdict

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
