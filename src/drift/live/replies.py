"""Out of a store: every reply that a user's next message judges, with the model that gave it and the label it got."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import permutations, product
from typing import get_args

import numpy as np

from drift.errors import ConfigError, DataError
from drift.live.sequence import Observed
from drift.logs.values import seconds_of
from drift.records import Conversation, FeedbackLabel, LabelSource
from drift.statistics import units_of
from drift.store import Store
from drift.turns import judged_reply, spoken_after

MOST_GROUPS = 40
"""Values of --by that can be compared: more are ids, not deployments."""
FEWEST_JUDGED = 30
"""From so many judged replies on, a model of which a labeller labelled none, but some of another, may be an error."""
MOST_BY_CHANCE = 0.001
"""It is one if a model without a label is less likely than this, over all pairs of models together, where the labeller
labels all alike."""
MOST_APART = {"judge": 0.5, "rating": 0.1, "source": 0.1}
"""The shares of two models' replies that a labeller labelled may be so far apart. The judge of a cascade sees what may
be dissatisfied, which one model has more of than another."""
STANDARD_ERRORS = 3
"""By so many more the shares have to be apart: chance does not look like two ways of labelling."""


@dataclass(frozen=True, slots=True)
class JudgedReply:
    """`group`: the model, or the value of --by. `day`: in UTC; None without a time. `second`: since 1970."""

    conversation_id: str
    reply_index: int
    group: str
    user: str
    chat: str
    second: float | None
    day: str | None
    language: str
    is_first: bool
    is_dsat: bool
    kind: str
    labeller: str


@dataclass(slots=True)
class Coverage:
    """What of one group could be counted. `replies`: all replies of the assistant; `abstained`: a user went on, and the
    labeller could not tell; `unlabelled`: a user went on, and there is no label yet; `rated_only`: a rating, and
    nothing was said; their verdicts by name."""

    conversations: int = 0
    replies: int = 0
    abstained: int = 0
    unlabelled: int = 0
    without_time: int = 0
    rated_only: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Judged:
    """`left_out`: labels that belong to no reply of the store, by reason."""

    replies: list[JudgedReply]
    coverage: dict[str, Coverage]
    left_out: dict[str, int]
    unnamed: str


def read_judged(store: Store, by: str = "model", labeller: str | None = None) -> Judged:
    """All judged replies of a store.

    `by`: what tells deployments apart: `model`, `source` or a tag. `labeller`: read this one's labels alone; else a
    rating counts before a judge, a judge before the embedded labeller. Reviews are no labels here, they audit them.
    Raises DataError if the store lost its conversations or has no labels, if no conversation has the tag, or if labels
    of two versions of a labeller, or models that different labellers labelled, would be compared; ConfigError for a
    labeller that does not exist.
    """
    labels = _labels(store, labeller)
    unnamed = f"(no {by})"
    judged = Judged([], defaultdict(Coverage), {}, unnamed)
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    total, joined, tags = 0, 0, set[str]()

    def counted() -> Iterator[FeedbackLabel]:
        nonlocal total
        for label in labels:
            total += 1
            versions[label.labeller][label.labeller_version] += 1
            yield label

    stream = counted()
    for conversation, of_conversation in store.labelled(labels=stream):
        joined += len(of_conversation)
        tags.update(conversation.tags)
        _add(judged, conversation, of_conversation, _group(conversation, by) or unnamed)
    for _ in stream:  # labels after the last conversation
        pass
    reactions = sum(coverage.unlabelled for coverage in judged.coverage.values())
    _check_labels(store, total, joined, reactions, versions, labeller)
    if set(judged.coverage) == {unnamed} and by not in ("model", "source"):
        there = ", ".join(sorted(tags)) or "none"
        raise DataError(
            f"--by {by}: no conversation has this tag. Tags in {store.path}: {there}. Or use --by model, --by source."
        )
    if len(judged.coverage) > MOST_GROUPS:
        raise DataError(
            f"--by {by}: {len(judged.coverage)} different values in {store.path}, and at most {MOST_GROUPS} can be "
            "compared. Name what tells deployments apart: --by model, source or another tag."
        )
    _check_mixture(judged, store)
    if joined < total:
        judged.left_out["labels_without_conversation"] = total - joined
    return judged


def _labels(store: Store, labeller: str | None) -> Iterable[FeedbackLabel]:
    if labeller is None:
        return store.labels(reviewed=False)
    allowed = [name for name in get_args(LabelSource) if name != "review"]
    if labeller not in allowed:
        raise ConfigError(f"--labeller {labeller}: allowed: {', '.join(allowed)}.")
    return store.labels_by(labeller)  # pyright: ignore[reportArgumentType]


def _group(conversation: Conversation, by: str) -> str | None:
    if by == "model":
        return conversation.model
    return conversation.source if by == "source" else conversation.tags.get(by)


def _add(judged: Judged, conversation: Conversation, labels: list[FeedbackLabel], group: str) -> None:
    messages = conversation.messages
    ends = [
        place for place, message in enumerate(messages)
        if message.role == "assistant"
        and ((after := spoken_after(messages, place)) is None or messages[after].role == "user")
    ]  # fmt: skip
    coverage = judged.coverage[group]
    coverage.conversations += 1
    coverage.replies += len(ends)
    turns = sum(judged_reply(messages, place) is not None for place in range(len(messages)))
    coverage.unlabelled += turns - sum(label.user_index is not None for label in labels)
    started = seconds_of(conversation.started_at)
    for label in labels:
        if label.user_index is None:
            coverage.rated_only[label.label] += 1
        elif label.label == "ABSTAIN":
            coverage.abstained += 1
        else:
            second = seconds_of(messages[label.reply_index].timestamp)
            second = started if second is None else second
            coverage.without_time += second is None
            judged.replies.append(
                JudgedReply(
                    conversation_id=conversation.conversation_id,
                    reply_index=label.reply_index,
                    group=group,
                    user=conversation.user,
                    chat=conversation.chat,
                    second=second,
                    day=None if second is None else datetime.fromtimestamp(second, UTC).date().isoformat(),
                    language=conversation.language or "unknown",
                    is_first=bool(ends) and label.reply_index <= ends[0],
                    is_dsat=label.label == "DSAT",
                    kind=label.subtype or "unnamed",
                    labeller=label.labeller,
                )
            )


def _check_labels(
    store: Store, total: int, joined: int, reactions: int, versions: dict[str, Counter[str]], labeller: str | None
) -> None:
    """`reactions`: messages of users after a reply that have no label."""
    if total and not joined:
        raise DataError(
            f"{store.path}: this store has lost its conversations: none is left of {total} labels. Put its folder "
            "conversations/ back, or ingest the logs again (the labels stay)."
        )
    if not total:
        store.require_conversations()
        if not reactions:
            raise DataError(
                f"{store.path}: in none of its {store.size()} conversations did a user write another message after a "
                "reply, so nothing says whether users are dissatisfied. Ingest chats that go on."
            )
        named = f"no label by {labeller}" if labeller else "no label yet"
        command = "drift label" if labeller in (None, "embedded") else f"drift label --labeller {labeller}"
        raise DataError(f"{store.path}: holds {named}. Run `{command} --store {store.path}` first.")
    for name, counts in versions.items():
        if len(counts) > 1 and name in ("embedded", "judge"):
            listed = ", ".join(f"{version}: {count}" for version, count in sorted(counts.items()))
            again = "drift label" if name == "embedded" else "drift label --labeller judge --judge URL#MODEL"
            raise DataError(
                f"{store.path}: labels of several versions of the labeller {name} ({listed}): a difference between "
                f"models could be one between labellers. Label all alike: {again} --store {store.path}"
            )


@dataclass(frozen=True, slots=True)
class Labelling:
    """The judged replies of one model by user, and those of each labeller by user."""

    replies: Counter[str] = field(default_factory=Counter)
    by: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def share(self, labeller: str) -> tuple[float, float]:
        """The share of the replies that are this labeller's, with its variance: as of so many equally busy users, of
        each of whom all replies are or none (Kish). With one more of either kind, so that few say little."""
        sizes = np.array(list(self.replies.values()), dtype=float)
        users = float(sizes.sum() ** 2 / (sizes @ sizes))
        share = (self.by[labeller].total() / self.replies.total() * users + 1) / (users + 2)
        return share, share * (1 - share) / (users + 2)


def _check_mixture(judged: Judged, store: Store) -> None:
    """Several labellers are fine if each labelled about the same share of every model."""
    used: dict[str, Labelling] = defaultdict(Labelling)
    for reply, user in zip(judged.replies, units_of(judged.replies), strict=True):
        used[reply.group].replies[user] += 1
        used[reply.group].by[reply.labeller][user] += 1
    for name, most in MOST_APART.items():
        if groups := _apart(used, name, most):
            parts = (
                f"{used[group].by[name].total()} of {used[group].replies.total()} replies of {group}"
                for group in groups
            )
            raise DataError(
                f"{store.path}: the labels are of the labeller {name} for {' and '.join(parts)}: a difference between "
                "these models could be one between labellers. Read one labeller's labels: --labeller embedded (or "
                "label all alike first: drift label)."
            )


def _apart(used: Mapping[str, Labelling], name: str, most: float) -> tuple[str, str] | None:
    """Two models of which the labeller labelled much more of the first; None if it labelled all about alike.

    Much more: none of the second, which chance gives in fewer than MOST_BY_CHANCE; or shares that are surely farther
    apart than `most`. For thumbs the shares alone count: those of one model may be a few users' who like to give them.
    """
    some = [group for group, labelled in used.items() if labelled.by[name]]
    none = [group for group in used if group not in some and used[group].replies.total() >= FEWEST_JUDGED]
    if name != "rating":
        likely = MOST_BY_CHANCE / max(len(some) * len(none), 1)
        for many, few in product(some, none):
            if _none_by_chance(used[many], used[few], name) < likely:
                return many, few
    shares = {group: labelled.share(name) for group, labelled in used.items()}
    for many, few in permutations(shares, 2):
        error = math.sqrt(shares[many][1] + shares[few][1])
        if shares[many][0] - shares[few][0] - STANDARD_ERRORS * error > most:
            return many, few
    return None


def _none_by_chance(many: Labelling, few: Labelling, labeller: str) -> float:
    """The chance that all users with a reply of this labeller are among one model's and none among the other's.

    A user counts once: what is labelled of one user's replies is alike. If all of them are labelled or none, every user
    is as likely; if each is by itself, a user with more replies is likelier. The larger of the two chances counts.
    """
    users = len(many.by[labeller])
    sizes = (len(many.replies), len(few.replies)), (many.replies.total(), few.replies.total())
    return max(_all_among(users, of_many, of_few) for of_many, of_few in sizes)


def _all_among(drawn: int, size: int, others: int) -> float:
    """The chance that all that are drawn out of size + others are among the first `size`: hypergeometric,
    C(size, drawn) / C(size + others, drawn)."""
    log, total = math.lgamma, size + others
    return math.exp(log(size + 1) - log(size - drawn + 1) + log(total - drawn + 1) - log(total + 1))


def observed(replies: list[JudgedReply]) -> Observed:
    dsat = np.fromiter((reply.is_dsat for reply in replies), float, len(replies))
    return Observed(dsat, codes(reply.user for reply in replies), codes(reply.chat for reply in replies))


def codes(names: Iterable[str | None]) -> np.ndarray:
    """Numbers from 0, the same for equal names: int64 [n]."""
    numbers: dict[str | None, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
