"""The judge's answer, checked: form, turns, evidence, and agreement of label and probability."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from drift.endpoint import Choice
from drift.endpoint.json_text import find_object, json_object
from drift.feedback.judge.prompt import LABELS, SUBTYPES
from drift.feedback.judge.rubric import HARDEST, Rubric
from drift.feedback.sentences import LONGEST_EVIDENCE
from drift.records import Verdict

AbstainReason = Literal["unreadable", "missing", "evidence", "inconsistent", "refused"]
EVEN_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class TurnVerdict:
    """The judge's verdict on one user turn, or the `reason` why it abstains."""

    turn: int
    label: Verdict
    subtype: str | None = None
    evidence: str | None = None
    p_dsat: float | None = None
    p_sat: float | None = None
    rubric: tuple[tuple[str, int], ...] = ()
    reason: AbstainReason | None = None


class _Item(BaseModel):
    id: str
    impact: Annotated[int, Field(ge=1, le=HARDEST)]


class _Turn(BaseModel):
    turn: int
    label: Literal["DSAT", "SAT", "NEUTRAL"]
    subtype: str | None = None
    evidence: str | None = None
    p_dsat: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    items: list[_Item] = []


class Unreadable(Exception):
    """The answer is not in the form that was asked for; the message says why in a few fixed words."""


def read_answer(text: str, turns: Sequence[int]) -> dict[int, _Turn]:
    """The entries for `turns`, from an answer without thoughts. Raises Unreadable if its form is another one."""
    answer = json_object(text, _has_turns) or json_object(text)
    if answer is None:
        raise Unreadable("it is no JSON object")
    entries = answer.get("turns")
    if not isinstance(entries, list):
        raise Unreadable('no list "turns"')
    entries_by_turn: dict[int, _Turn] = {}
    for entry in entries:
        try:
            turn = _Turn.model_validate(entry, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            raise Unreadable(f'an entry of "turns" has a wrong {".".join(map(str, first["loc"]))}') from None
        if turn.turn in entries_by_turn:
            raise Unreadable("a turn stands twice")
        entries_by_turn[turn.turn] = turn
    if missing := [turn for turn in turns if turn not in entries_by_turn]:
        raise Unreadable(f"no entry for turn {missing[0]}")
    return {turn: entries_by_turn[turn] for turn in turns}


def _has_turns(answer: Mapping[str, Any]) -> bool:
    return isinstance(answer.get("turns"), list)


def checked(entry: _Turn, text: str, rubric: Rubric) -> TurnVerdict:
    """The verdict on the user turn `text`. Abstains unless the evidence is verbatim and label and p_dsat agree."""
    if (entry.label == "DSAT") != (entry.p_dsat >= EVEN_CHANCE):
        return abstained(entry.turn, "inconsistent")
    impacts = tuple((item.id, item.impact) for item in entry.items if item.id in rubric.ids)
    if entry.label == "NEUTRAL":
        return TurnVerdict(entry.turn, "NEUTRAL", p_dsat=entry.p_dsat, rubric=impacts)
    evidence = (entry.evidence or "").strip()
    short = len(evidence) < 2 and evidence != text.strip()
    if short or not any(map(str.isalnum, evidence)) or evidence not in text or len(evidence) > LONGEST_EVIDENCE:
        return abstained(entry.turn, "evidence")
    subtype = entry.subtype if entry.subtype in SUBTYPES else None
    return TurnVerdict(entry.turn, entry.label, subtype, evidence, entry.p_dsat, rubric=impacts)


def abstained(turn: int, reason: AbstainReason) -> TurnVerdict:
    return TurnVerdict(turn, "ABSTAIN", reason=reason)


def with_chances(verdict: TurnVerdict, chances: Mapping[str, float]) -> TurnVerdict:
    """The server's probabilities in place of the stated one. Abstains if they contradict the label."""
    if verdict.label == "ABSTAIN":
        return verdict
    if chances[verdict.label] < max(chances.values()):
        return abstained(verdict.turn, "inconsistent")
    return replace(verdict, p_dsat=round(chances["DSAT"], 6), p_sat=round(chances["SAT"], 6))


def regressed(verdict: TurnVerdict, rubric: Rubric, from_server: bool) -> TurnVerdict:
    """p_dsat from the rubric's regression, if the rubric was fitted; the label follows it."""
    if rubric.regression is None or verdict.label == "ABSTAIN":
        return verdict
    p_dsat = round(regression_chance(rubric, dict(verdict.rubric), verdict.p_dsat if from_server else None), 6)
    if (verdict.label == "DSAT") == (p_dsat >= EVEN_CHANCE):
        return replace(verdict, p_dsat=p_dsat)
    if verdict.label == "DSAT":
        return replace(verdict, label="NEUTRAL", subtype=None, evidence=None, p_dsat=p_dsat)
    return abstained(verdict.turn, "inconsistent")


def regression_chance(rubric: Rubric, impacts: Mapping[str, int], p_server: float | None) -> float:
    """p_dsat = sigmoid(bias + sum w impact / 10 + v log-odds of the server's probability)."""
    if rubric.regression is None:
        raise ValueError("the rubric has no regression")
    odds = rubric.regression.bias + sum(
        rubric.regression.weights.get(name, 0.0) * impact / HARDEST for name, impact in impacts.items()
    )
    if p_server is not None:
        odds += rubric.regression.server * log_odds(p_server)
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))


def log_odds(p: float) -> float:
    bounded = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(bounded / (1 - bounded))


def label_chances(choice: Choice, turns: Sequence[int]) -> list[dict[str, float]] | None:
    """For each turn, in order, the labels' probabilities at the position where its label was written.

    A candidate counts for the label that it begins; None if the positions cannot be found in the tokens.
    """
    if not choice.tokens or "".join(choice.written) != choice.text:
        return None
    answer = find_object(choice.answer, _has_turns)
    start = choice.text.rfind(answer.source) if answer else 0
    if start < 0:
        return None
    begins = list(accumulate(map(len, choice.written[:-1]), initial=0))
    shares: list[dict[str, float]] = []
    for place in (start + place for place in _label_places(answer.source if answer else choice.text)):
        token = bisect_right(begins, place) - 1
        shares.append(_shares(choice, token, place - begins[token]))
    return shares if len(shares) == len(turns) and all(shares) else None


def _label_places(text: str) -> list[int]:
    """Positions where the values of "label" keys begin. A key quoted inside the evidence is not counted."""
    places, inside, key, at = [], False, "", 0
    while at < len(text):
        if text[at] != '"':
            at += 1
            continue
        end = at + 1
        while end < len(text) and text[end] != '"':
            end += 2 if text[end] == "\\" else 1
        word = text[at + 1 : end]
        if inside and key == "label":
            places.append(at + 1)
        rest = text[end + 1 :].lstrip()
        inside, key = rest.startswith(":"), word
        at = end + 1
    return places


def _shares(choice: Choice, token: int, lead: int) -> dict[str, float]:
    """`lead`: characters of the token, an opening quote for example, before the label begins."""
    mass = dict.fromkeys(LABELS, 0.0)
    for candidate in choice.tokens[token]:
        begun = candidate.token[lead:].rstrip('", ')
        for label in LABELS:
            if begun and (label.startswith(begun) or begun == label):
                mass[label] += math.exp(candidate.logprob)
    total = sum(mass.values())
    return {label: share / total for label, share in mass.items()} if total > EVEN_CHANCE else {}
