"""Labels into PromptItems: every reply that its user disliked, with the request before and the complaint after it.

Where the user liked a revised reply to the same request, both make a repair (DSAT -> SAT): chosen = the liked reply,
rejected = the disliked one. Repairs are the seeds of the warm start (DRIFT, algorithm 1).
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drift.pairs.candidates import Labelled, PromptCandidate, first_of_each, prompt_id_of
from drift.pairs.form import says_the_same
from drift.records import (
    ChatMessage,
    Conversation,
    Drop,
    FeedbackLabel,
    Message,
    PreferencePair,
    PromptItem,
    Reason,
    stable_hash,
)
from drift.turns import (
    as_text,
    complaint_of,
    exclusion_reason,
    is_broken,
    is_disliked,
    is_refusal,
    liked_exclusion_reason,
    needs_media,
    prompt_of,
    spoken_after,
)

MAX_LABEL_NOISE = 0.49
"""Probability; at one half a pair would say nothing."""


@dataclass(frozen=True, slots=True)
class LabelReliability:
    """How reliable the labels are. `include`: subtypes among turns.EXCLUDED_SUBTYPES that give pairs all the same.

    `fresh_not_better`: audited rate at which a fresh reply is not better than the disliked one. `correction`: audited
    precision of the labels over what their p_dsat promised.
    """

    include: frozenset[str] = frozenset()
    fresh_not_better: float = 0.0
    correction: float = 1.0

    def noise(self, p_dsat: float | None) -> float:
        corrected = None if p_dsat is None else min(1.0, p_dsat * self.correction)
        return label_noise(corrected, self.fresh_not_better)


def prompt_items(
    labelled: Labelled,
    min_p_dsat: float,
    reliability: LabelReliability = LabelReliability(),
    repeats: frozenset[str] = frozenset(),
    max_per_user: int | None = None,
) -> Iterator[PromptItem | Drop]:
    """One item or one named drop for each DSAT label of at least `min_p_dsat`.

    `repeats`: conversations that nearly repeat another one; they give no items. `max_per_user`: maximum items per user;
    the first by conversation id (a hash) are kept. Where the log names no user, a chat counts as one.

    DEVIATION: the paper has no limit per user. With it, no single user can plant a behaviour in the policy.
    """
    items_of_user: Counter[str] = Counter()
    candidates = disliked_candidates(
        labelled, min_p_dsat, reliability, repeats, lambda user: items_of_user[user] == max_per_user
    )
    return first_of_each(candidates, max_per_user, items_of_user)


def disliked_candidates(
    labelled: Labelled,
    min_p_dsat: float,
    reliability: LabelReliability,
    repeats: frozenset[str],
    is_full: Callable[[str], bool] = lambda user: False,
) -> Iterator[PromptCandidate[PromptItem]]:
    """Map: what depends on one conversation alone. `is_full`: a user whose further items would be dropped; in a flood,
    building them would take minutes."""
    for conversation, labels in labelled:
        liked = {label.reply_index: label for label in labels if label.label == "SAT"}
        user = conversation.writer
        for label in labels:
            if not is_disliked(label, min_p_dsat):
                continue
            prompt_id = prompt_id_of(label.conversation_id, label.reply_index)
            if is_full(user):
                yield PromptCandidate(prompt_id, user, Reason.USER_CAP)
                continue
            if conversation.conversation_id in repeats:
                yield PromptCandidate(prompt_id, user, Reason.NEAR_DUPLICATE_CONVERSATION)
                continue
            item = _item(conversation, label, liked, reliability)
            if isinstance(item, Reason):
                yield PromptCandidate(prompt_id, user, item)
            else:
                content = int(stable_hash(item.prompt, item.rejected), 16)  # an int needs half the memory of the text
                yield PromptCandidate(prompt_id, user, None, content, item)


def label_noise(p_dsat: float | None, fresh_not_better: float = 0.0) -> float:
    """Probability (below 0.5) that chosen and rejected are swapped: eps = (1 - p) / 2 + p q.

    If the user was not dissatisfied (1 - p), the order is a coin flip; if they were, it is wrong at the audited rate q.
    A person's label has p = 1.

    DEVIATION: the paper takes every label as correct. The estimate travels with the pair; the loss `robust` uses it.
    """
    p = 1.0 if p_dsat is None else p_dsat
    return min(MAX_LABEL_NOISE, (1.0 - p) / 2.0 + p * fresh_not_better)


def _item(
    conversation: Conversation,
    label: FeedbackLabel,
    liked: Mapping[int, FeedbackLabel],
    reliability: LabelReliability,
) -> PromptItem | Reason:
    messages, i = conversation.messages, label.reply_index
    if reason := exclusion_reason(conversation, label, reliability.include):
        return reason
    prompt = Reason.NEEDS_IMAGE if needs_media(conversation, i) else prompt_of(messages, i)
    if isinstance(prompt, Reason):
        return prompt
    correction = _correction(conversation, label)
    place = None if correction else revision(messages, label, liked)
    unfit = None if place is None else _unfit_revision(conversation, liked[place], reliability.include)
    revised = None if place is None or unfit else messages[place].chat()
    return PromptItem(
        prompt_id=prompt_id_of(label.conversation_id, label.reply_index),
        conversation_id=conversation.conversation_id,
        reply_index=i,
        prompt=prompt,
        split=conversation.split,
        rejected=messages[i].chat(),
        complaint=complaint_of(conversation, label),
        preferred=correction or revised,
        user_key=conversation.user_key,
        p_dsat=label.p_dsat,
        noise=reliability.noise(label.p_dsat),
        rejected_finish=conversation.finish_of(i),
        tools=conversation.tools,
        corrected=correction is not None,
        no_repair=unfit,
        family=conversation.family,
    )


def revision(messages: Sequence[Message], label: FeedbackLabel, liked: Container[int]) -> int | None:
    """The place of the next reply, if the user liked it and only the complaint (or a system message) stands between."""
    following = spoken_after(messages, label.reply_index)
    if following is not None and following == label.user_index:
        following = spoken_after(messages, following)
    return following if following is not None and following in liked else None


def _unfit_revision(conversation: Conversation, label: FeedbackLabel, include: frozenset[str]) -> Reason | None:
    """Why a reply that the user liked after the complaint is no example; None if nothing speaks against it."""
    place = label.reply_index
    if needs_media(conversation, place):  # of the reply, or of the complaint that it answers
        return Reason.NEEDS_IMAGE
    if conversation.finish_of(place) == "length":
        return Reason.TRUNCATED
    if any(map(is_broken, conversation.messages[place].tool_calls)):
        return Reason.BROKEN_TOOL_CALL
    return liked_exclusion_reason(conversation, label, (), include)


def _correction(conversation: Conversation, label: FeedbackLabel) -> ChatMessage | None:
    """The reply that the user wrote as a correction; it takes precedence over a revision that they liked."""
    corrected = [r.preferred for r in conversation.ratings if r.reply_index == label.reply_index and r.preferred]
    return ChatMessage("assistant", corrected[-1]) if corrected and label.labeller in ("rating", "review") else None


def repair_pairs(items: Iterable[PromptItem], drop_unfinished: bool = False) -> Iterator[PreferencePair | Drop]:
    """One pair or one named drop for each item whose user liked another reply. `drop_unfinished`: none of a reply that
    was cut."""
    for item in items:
        if item.rejected is not None and item.no_repair is not None:
            yield Drop(item.prompt_id, item.no_repair)
        if item.rejected is None or item.preferred is None:
            continue
        reason = why_no_repair(item.preferred, item.rejected)
        if reason is None and drop_unfinished and item.rejected_finish == "length":
            reason = Reason.TRUNCATED
        yield Drop(item.prompt_id, reason) if reason else logged_pair("repair", item, item.preferred, item.rejected)


def why_no_repair(preferred: ChatMessage, rejected: ChatMessage) -> Reason | None:
    """Why a reply that the user preferred is no better than the disliked one; None if nothing speaks against it."""
    if not preferred.content.strip() and not preferred.tool_calls:
        return Reason.EMPTY_CHOSEN
    if says_the_same(preferred, rejected):
        return Reason.IDENTICAL_REPLIES
    refuses = is_refusal(as_text(preferred)) and not is_refusal(as_text(rejected))
    return Reason.CHOSEN_REFUSES if refuses else None


def logged_pair(
    recipe: str, item: PromptItem, chosen: ChatMessage | None, rejected: ChatMessage | None
) -> PreferencePair:
    """Replies that stand in the logs: a pair, or one of them alone."""
    return PreferencePair(
        pair_id=stable_hash(recipe, item.prompt_id),
        prompt_id=item.prompt_id,
        conversation_id=item.conversation_id,
        reply_index=item.reply_index,
        recipe=recipe,
        iteration=0,
        policy_id="logs",
        prompt=item.prompt,
        chosen=() if chosen is None else (chosen,),
        rejected=() if rejected is None else (rejected,),
        user_key=item.user_key,
        noise=item.noise,
        split=item.split,
        rejected_finish=item.rejected_finish,
        tools=item.tools,
        family=item.family,
    )
