"""Labels into PromptItems: every reply that its user disliked, with the request before and the complaint after it."""

from collections.abc import Iterable, Iterator, Sequence

from drift.records import ChatMessage, Conversation, Drop, FeedbackLabel, Message, PromptItem, Reason, stable_hash

STAGE = "prompts"


def prompt_items(
    labelled: Iterable[tuple[Conversation, Sequence[FeedbackLabel]]], min_p_dsat: float
) -> Iterator[PromptItem | Drop]:
    """One item or one named drop for each DSAT label of at least `min_p_dsat`."""
    seen: set[str] = set()
    for conversation, labels in labelled:
        liked = {label.reply_index for label in labels if label.label == "SAT"}
        for label in labels:
            if is_dissatisfied(label, min_p_dsat):
                item = _item(conversation, label, liked)
                if isinstance(item, PromptItem):
                    content = stable_hash(item.prompt, item.rejected)
                    item = Drop(item.prompt_id, STAGE, Reason.DUPLICATE_PROMPT) if content in seen else item
                    seen.add(content)
                yield item


def is_dissatisfied(label: FeedbackLabel, min_p_dsat: float) -> bool:
    """A label without a probability was made by a person and counts as it stands."""
    return label.label == "DSAT" and (label.p_dsat is None or label.p_dsat >= min_p_dsat)


def label_noise(p_dsat: float | None) -> float:
    """Chance that the pair is the wrong way round: a coin flip where the user was not dissatisfied at all."""
    return 0.0 if p_dsat is None else (1.0 - p_dsat) / 2.0


def _item(conversation: Conversation, label: FeedbackLabel, liked: set[int]) -> PromptItem | Drop:
    messages, i = conversation.messages, label.reply_index
    prompt_id = stable_hash(conversation.conversation_id, i)
    if i == 0 or messages[i - 1].role != "user" or not messages[i - 1].content.strip():
        return Drop(prompt_id, STAGE, Reason.NO_REQUEST)
    if not messages[i].content.strip():
        return Drop(prompt_id, STAGE, Reason.EMPTY_REJECTED)
    revised = revision(messages, label, liked)
    return PromptItem(
        prompt_id=prompt_id,
        conversation_id=conversation.conversation_id,
        reply_index=i,
        prompt=tuple(m.chat() for m in messages[:i]),
        split=conversation.split,
        rejected=messages[i].chat(),
        complaint=_complaint(conversation, label),
        preferred=_correction(conversation, label) or (None if revised is None else revised.chat()),
        user_key=conversation.user_key,
        p_dsat=label.p_dsat,
        noise=label_noise(label.p_dsat),
    )


def revision(messages: Sequence[Message], label: FeedbackLabel, liked: set[int]) -> Message | None:
    """The next reply, with nothing but the complaint between, if the user liked that one."""
    complained = label.user_index == label.reply_index + 1
    following = label.reply_index + (2 if complained else 1)
    return messages[following] if following in liked else None


def _correction(conversation: Conversation, label: FeedbackLabel) -> ChatMessage | None:
    """The reply as the user would have had it: what they wrote themselves outweighs a revision that they liked."""
    corrected = [r.preferred for r in conversation.ratings if r.reply_index == label.reply_index and r.preferred]
    return ChatMessage("assistant", corrected[-1]) if corrected and label.labeller in ("rating", "review") else None


def _complaint(conversation: Conversation, label: FeedbackLabel) -> ChatMessage | None:
    """The comment that came with a rating, else what the user wrote next."""
    comments = (r.comment for r in conversation.ratings if r.reply_index == label.reply_index and r.comment)
    comment = next(comments, None) if label.labeller == "rating" else None
    if comment:
        return ChatMessage("user", comment)
    return conversation.messages[label.user_index].chat() if label.user_index is not None else None
