"""Simulated users: who says what about a reply, and the settings that experiments vary."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from drift.errors import ConfigError
from drift.records import stable_hash
from drift.sandbox.instructions.assignment import Assignment, RequestMix, instruction, protected_words, written
from drift.sandbox.instructions.book import chapters, phrases
from drift.sandbox.instructions.constraints import KINDS, Constraint
from drift.sandbox.instructions.truth import ReplyTruth

Style = Literal["specific", "vague", "mistaken", "rephrase"]
"""A complaint is about what failed, about nothing in particular, about what holds, or the instruction again."""

PARTS_TO_NAME = ("unfinished", "off_topic", "degenerate")


@dataclass(frozen=True, slots=True)
class UserSettings:
    """What simulated users want and how they react. The numbers are shares in [0, 1].

    `thanks`: of the users who got a right reply, those who say so. `complaints`: of those who got a wrong one.
    `wrong_thanks`, `wrong_complaints`: of all thanks (complaints) those about a wrong (right) reply.
    `of_all_replies`: `thanks` and `complaints` are shares of all replies instead (WildFeedback's are .05 and .12).
    `vague`, `mistaken`, `rephrase`: of the complaints; the others name what failed. `careless`: of the messages.
    `retries`: of those who complain, those who wait for another reply. `follow_ups`, `new_requests`: of the others,
    those who go on; the rest leaves. `two_constraints`, `three_constraints`: of the requests; the others have one.
    `kinds`: the only kinds of constraints that they ask for; empty for all.
    """

    thanks: float = 0.5
    complaints: float = 0.7
    wrong_thanks: float = 0.0
    wrong_complaints: float = 0.03
    of_all_replies: bool = False
    vague: float = 0.2
    mistaken: float = 0.08
    rephrase: float = 0.12
    careless: float = 0.1
    retries: float = 0.4
    follow_ups: float = 0.25
    new_requests: float = 0.2
    two_constraints: float = 0.3
    three_constraints: float = 0.1
    kinds: tuple[str, ...] = ()

    @property
    def mix(self) -> RequestMix:
        return RequestMix(self.two_constraints, self.three_constraints, self.kinds)

    def fingerprint(self) -> str:
        """What a stage that these users take part in depends on."""
        return stable_hash(self)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "kinds" and not 0.0 <= value <= 1.0:
                raise ConfigError(f"users.{field.name}: {value} is not a share; allowed: 0 to 1.")
        for name in ("wrong_thanks", "wrong_complaints"):
            if getattr(self, name) == 1.0:
                raise ConfigError(f"users.{name}: 1 leaves no deserved ones to count against; allowed: below 1.")
        absolute = [name for name, kind in KINDS.items() if not kind.relative]
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or (self.kinds and not set(self.kinds) & set(absolute)):
            raise ConfigError(
                f"users.kinds: {', '.join(unknown or self.kinds)} gives no requests; allowed: {', '.join(absolute)}."
            )
        if self.two_constraints + self.three_constraints > 1.0:
            raise ConfigError("users: two_constraints + three_constraints may not be more than 1.")
        if self.vague + self.mistaken + self.rephrase > 1.0 or self.follow_ups + self.new_requests > 1.0:
            raise ConfigError(
                "users: vague + mistaken + rephrase, and follow_ups + new_requests, may not be more than 1."
            )


@dataclass(frozen=True, slots=True)
class ReactionRates:
    """The chances of thanks and of a complaint after a right and after a wrong reply."""

    thanks_if_right: float
    thanks_if_wrong: float
    complaint_if_right: float
    complaint_if_wrong: float

    @classmethod
    def of(cls, settings: UserSettings, right: int, wrong: int) -> "ReactionRates":
        """For a batch with so many right and wrong replies.

        Where the deserved thanks are too few for the share of wrong ones (or the other way around), there are as many
        as the batch allows.
        """
        replies = right + wrong
        thanks, complaints = settings.thanks * right, settings.complaints * wrong
        if settings.of_all_replies:
            thanks = min(right, settings.thanks * replies * (1 - settings.wrong_thanks))
            complaints = min(wrong, settings.complaints * replies * (1 - settings.wrong_complaints))
        wrong_thanks = thanks * settings.wrong_thanks / (1 - settings.wrong_thanks)
        wrong_complaints = complaints * settings.wrong_complaints / (1 - settings.wrong_complaints)
        return cls(
            thanks_if_right=_chance(thanks, right),
            thanks_if_wrong=_chance(wrong_thanks, wrong),
            complaint_if_right=_chance(wrong_complaints, right),
            complaint_if_wrong=_chance(complaints, wrong),
        )

    def reaction(self, right: bool, rng: random.Random) -> Literal["SAT", "DSAT", "NEUTRAL"]:
        draw = rng.random()
        thanks = self.thanks_if_right if right else self.thanks_if_wrong
        complaint = self.complaint_if_right if right else self.complaint_if_wrong
        if draw < thanks:
            return "SAT"
        return "DSAT" if draw < thanks + complaint else "NEUTRAL"


def _chance(wanted: float, among: int) -> float:
    return min(1.0, wanted / among) if among else 0.0


def thank(rng: random.Random, settings: UserSettings) -> str:
    return written(rng, rng.choice(phrases("thanks")), settings.careless)


def bridge(rng: random.Random, settings: UserSettings) -> str:
    """A few words of no judgement before the next request; in half of the cases none at all."""
    return written(rng, rng.choice(phrases("bridges")), settings.careless) if rng.random() < 0.5 else ""


def complain(
    rng: random.Random, settings: UserSettings, assignment: Assignment, verdict: ReplyTruth
) -> tuple[str, Style, str | None]:
    """A complaint, its style, and the kind of constraint (or part of the truth) that it is about; None if vague.

    About a right reply, a complaint that would name what failed names something that holds.
    """
    style = _style(rng, settings)
    failed = verdict.failed
    held = [kind for kind, holds in verdict.holds if holds]
    if style == "specific" and not failed:
        style = "mistaken"
    if style == "mistaken" and not held:
        style = "vague"
    if style == "rephrase" and not (set(failed) - set(PARTS_TO_NAME)) and failed:
        style = "specific"
    if style == "vague":
        return written(rng, rng.choice(phrases("vague")), settings.careless), style, None
    kinds = [kind for kind, _ in verdict.holds]
    about = rng.choice(held if style == "mistaken" else failed or kinds)
    if style == "rephrase":
        about = rng.choice([kind for kind in failed if kind in kinds] or kinds)
    said = _about(rng, style, assignment, about)
    return written(rng, said, settings.careless, protected_words(assignment)), style, about


def _style(rng: random.Random, settings: UserSettings) -> Style:
    draw = rng.random()
    styles: tuple[Style, ...] = ("vague", "mistaken", "rephrase")
    for style, share in zip(styles, (settings.vague, settings.mistaken, settings.rephrase), strict=True):
        if draw < share:
            return style
        draw -= share
    return "specific"


def _about(rng: random.Random, style: Style, assignment: Assignment, about: str) -> str:
    if about in PARTS_TO_NAME:
        return rng.choice(phrases(about)).format(topic=assignment.topic)
    constraint = next(c for c in assignment.constraints if c.kind == about)
    if style == "rephrase" and not KINDS[about].relative:
        return rng.choice(phrases("rephrase")).format(instruction=_in_other_words(rng, constraint, assignment.asked))
    chapter = chapters()[about]
    return chapter.fill(rng.choice(chapter.complaints), constraint.values)


def _in_other_words(rng: random.Random, constraint: Constraint, asked: str) -> str:
    """The instruction in a wording that was not used yet."""
    for _ in range(20):
        text = instruction(rng, constraint, "logs")
        if text not in asked:
            break
    return text


def joined(said: Sequence[str]) -> str:
    """Several things in one message."""
    return " ".join(text for text in said if text)
