"""The judge behind a decision endpoint: it writes nothing, it gives a probability for each option that it is offered.

First the label of every turn, then, of turns that are not neutral, the subtype, the passage that shows it (one of the
turn's own sentences) and, for the rubric, whether each item holds.
"""

import re
from collections.abc import Mapping, Sequence

from drift.endpoint import DecisionRequest, Endpoint, Question, Reply, Unanswered
from drift.endpoint.fence import escaped
from drift.feedback.judge.prompt import SUBTYPES, instructions
from drift.feedback.judge.rubric import HARDEST, Rubric
from drift.feedback.judge.verdict import TurnVerdict, abstained
from drift.feedback.judge.window import Window
from drift.records import Verdict

MOST_QUESTIONS = 64
"""Of one request (transformers serve refuses more)."""
MOST_PASSAGES = 20
HOLDS = 0.5

_OPTIONS = {
    "DSAT": "It says or shows that the reply was wrong, incomplete, unwanted or not what was asked.",
    "SAT": "It thanks, praises, accepts or confirms.",
    "NEUTRAL": "A follow-up, a new request, input or a new wish, without criticism.",
}
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def decide(endpoint: Endpoint, window: Window, rubric: Rubric) -> list[TurnVerdict] | Unanswered:
    """A verdict for each turn of the window; `Unanswered` if the server gave none for the labels."""
    labels = chances(endpoint, window, rubric)
    if isinstance(labels, Unanswered):
        return labels
    verdicts = []
    for turn in window.turns:
        if turn not in labels:
            verdicts.append(abstained(turn, "missing"))
            continue
        best: Verdict = max(("NEUTRAL", "SAT", "DSAT"), key=lambda name: labels[turn][name])
        told = TurnVerdict(
            turn, best, p_dsat=round(labels[turn]["DSAT"], 6), p_sat=round(labels[turn]["SAT"], 6)
        )  # fmt: skip
        verdicts.append(told if best == "NEUTRAL" else _explained(endpoint, window, rubric, told))
    return verdicts


def chances(endpoint: Endpoint, window: Window, rubric: Rubric) -> dict[int, Mapping[str, float]] | Unanswered:
    """The labels' probabilities for each turn that the server answered about."""
    questions = {
        str(turn): Question(f"What does message {turn} express about the reply before it?", _OPTIONS)
        for turn in window.turns
    }
    told = endpoint.ask(_request(window, rubric, questions))
    if isinstance(told, Unanswered):
        return told
    return {int(turn): shares for turn, shares in told.probabilities.items()}


def _explained(endpoint: Endpoint, window: Window, rubric: Rubric, told: TurnVerdict) -> TurnVerdict:
    passages = _passages(window.conversation.messages[told.turn].content)
    questions = {
        "subtype": Question(f"In what way does message {told.turn} express it?", SUBTYPES),
        "evidence": Question(
            f"Which passage of message {told.turn} shows it best?",
            {str(number): escaped(passage) for number, passage in enumerate(passages)},
        ),
        **{
            item.id: Question(f"Does this hold of message {told.turn}? {item.text}", {"yes": "It does.", "no": "No."})
            for item in (*rubric.dsat, *rubric.sat)
        },
    }
    found: dict[str, Mapping[str, float]] = {}
    for part in _parts(list(questions), MOST_QUESTIONS):
        answer = endpoint.ask(_request(window, rubric, {name: questions[name] for name in part}))
        found.update(answer.probabilities if isinstance(answer, Reply) else {})
    if "evidence" not in found:
        return abstained(told.turn, "evidence")
    impacts = tuple(
        (name, max(1, round(HARDEST * found[name]["yes"])))
        for name in rubric.ids
        if name in found and found[name]["yes"] > HOLDS
    )
    subtype = _best(found["subtype"]) if "subtype" in found else None
    evidence = passages[int(_best(found["evidence"]))]
    return TurnVerdict(told.turn, told.label, subtype, evidence, told.p_dsat, told.p_sat, impacts)


def _request(window: Window, rubric: Rubric, questions: Mapping[str, Question]) -> DecisionRequest:
    state = f"{instructions(rubric)}\n{window.text()}"
    return DecisionRequest(state, questions, owner=window.conversation.conversation_id)


def _passages(text: str) -> list[str]:
    """The sentences of a turn, each verbatim; the first and the last ones of a long turn."""
    found = [part for part in map(str.strip, _SENTENCE.findall(text)) if any(map(str.isalnum, part))]
    found = list(dict.fromkeys(part[:300].strip() for part in found)) or [text.strip()[:300]]
    half = MOST_PASSAGES // 2
    return found if len(found) <= MOST_PASSAGES else found[:half] + found[-half:]


def _best(shares: Mapping[str, float]) -> str:
    return max(shares, key=lambda name: shares[name])


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
