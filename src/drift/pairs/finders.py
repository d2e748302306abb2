"""What stages look for in the labelled replies of a store. Each finder does the same in one process and in pieces."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from drift.pairs.disliked import LabelReliability, PromptCandidate, candidates, prompt_items
from drift.pairs.form import in_one_form
from drift.pairs.others import liked_candidates, liked_items, liked_replies
from drift.records import Conversation, Drop, FeedbackLabel, PromptItem, Thinking, Verdict

Labelled = Iterable[tuple[Conversation, Sequence[FeedbackLabel]]]


class Finder(Protocol):
    """`about`: the verdict that gives items. `name`, `plan`: of the work in pieces, and the settings that tell it from
    other work. `max_per_user`: limit of the items of one user. `repeats`: as in `prompt_items`."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> Verdict: ...

    @property
    def plan(self) -> object: ...

    @property
    def max_per_user(self) -> int | None: ...

    def items(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptItem | Drop]:
        """Everything in one process."""
        ...

    def candidates(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptCandidate[PromptItem]]:
        """Map, of a part of the conversations; `first_of_each` reduces."""
        ...

    def row(self, item: PromptItem) -> object:
        """What the stage writes of an item."""
        ...


@dataclass(frozen=True, slots=True)
class DislikedFinder:
    """The items of disliked replies (`prompt_items`)."""

    min_p_dsat: float
    reliability: LabelReliability
    max_per_user: int | None = None
    name: str = "prompts"
    about: Verdict = "DSAT"

    @property
    def plan(self) -> object:
        known = self.reliability
        return [self.min_p_dsat, sorted(known.include), known.fresh_not_better, known.correction]

    def items(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptItem | Drop]:
        return prompt_items(labelled, self.min_p_dsat, self.reliability, repeats, self.max_per_user)

    def candidates(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptCandidate[PromptItem]]:
        return candidates(labelled, self.min_p_dsat, self.reliability, repeats)

    def row(self, item: PromptItem) -> PromptItem:
        return item


@dataclass(frozen=True, slots=True)
class LikedFinder:
    """The items of liked replies (`liked_items`). `thinking`: they are written as replies for SFT, in this form."""

    min_p_sat: float
    include: frozenset[str] = frozenset()
    max_per_user: int | None = None
    thinking: Thinking | None = None
    name: str = "liked"
    about: Verdict = "SAT"

    @property
    def plan(self) -> object:
        return [self.min_p_sat, sorted(self.include), self.thinking]

    def items(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptItem | Drop]:
        return liked_items(labelled, self.min_p_sat, repeats, self.max_per_user, self.include)

    def candidates(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptCandidate[PromptItem]]:
        return liked_candidates(labelled, self.min_p_sat, repeats, self.include)

    def row(self, item: PromptItem) -> object:
        if self.thinking is None:
            return item
        (reply,) = in_one_form(liked_replies([item]), self.thinking)
        return reply
