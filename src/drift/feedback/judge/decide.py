"""The judge behind a decision endpoint: it writes no text but gives a probability for each option.

It is asked for the label of every turn first. For turns that are not neutral it is then asked for the subtype, for the
passage that shows it (one of the turn's own sentences), and whether each item of the rubric holds.
"""

from collections.abc import Mapping, Sequence

from drift.endpoint import DecisionRequest, Endpoint, Question, Reply, Unanswered
from drift.endpoint.fence import escaped
from drift.feedback.judge.prompt import SUBTYPES, instructions
from drift.feedback.judge.rubric import HARDEST, Rubric
from drift.feedback.judge.verdict import TurnVerdict, abstained
from drift.feedback.judge.window import Window
from drift.feedback.sentences import sentences
from drift.records import Verdict

MOST_QUESTIONS = 64
"""Questions per request (transformers serve refuses more)."""
MOST_PASSAGES = 20
LONGEST_PASSAGE = 300
"""Characters; a longer sentence is offered in pieces."""
HOLDS_FROM = 0.5
"""Probability from which an item of the rubric holds."""

_OPTIONS = {
    "DSAT": "It says or shows that the reply was wrong, incomplete, unwanted or not what was asked.",
    "SAT": "It thanks, praises, accepts or confirms.",
    "NEUTRAL": "A follow-up, a new request, input or a new wish, without criticism.",
}


def decide(endpoint: Endpoint, window: Window, rubric: Rubric) -> list[TurnVerdict] | Unanswered:
    """A verdict for each turn of the window; `Unanswered` if the server did not answer for the labels."""
    labels = chances(endpoint, window, rubric)
    if isinstance(labels, Unanswered):
        return labels
    verdicts = []
    for turn in window.turns:
        if turn not in labels:
            verdicts.append(abstained(turn, "missing"))
            continue
        best: Verdict = max(("NEUTRAL", "SAT", "DSAT"), key=lambda name: labels[turn][name])
        verdict = TurnVerdict(
            turn, best, p_dsat=round(labels[turn]["DSAT"], 6), p_sat=round(labels[turn]["SAT"], 6)
        )  # fmt: skip
        verdicts.append(verdict if best == "NEUTRAL" else _explained(endpoint, window, rubric, verdict))
    return verdicts


def chances(endpoint: Endpoint, window: Window, rubric: Rubric) -> dict[int, Mapping[str, float]] | Unanswered:
    """The labels' probabilities for each turn that the server answered about."""
    questions = {
        str(turn): Question(f"What does message {turn} express about the reply before it?", _OPTIONS)
        for turn in window.turns
    }
    outcome = endpoint.ask(_request(window, rubric, questions))
    if isinstance(outcome, Unanswered):
        return outcome
    return {int(turn): shares for turn, shares in outcome.probabilities.items()}


def _explained(endpoint: Endpoint, window: Window, rubric: Rubric, verdict: TurnVerdict) -> TurnVerdict:
    passages = _passages(window.conversation.messages[verdict.turn].content)
    questions = {
        "subtype": Question(f"In what way does message {verdict.turn} express it?", SUBTYPES),
        "evidence": Question(
            f"Which passage of message {verdict.turn} shows it best?",
            {str(number): escaped(passage) for number, passage in enumerate(passages)},
        ),
        **{
            item.id: Question(
                f"Does this hold of message {verdict.turn}? {item.text}", {"yes": "It does.", "no": "No."}
            )
            for item in (*rubric.dsat, *rubric.sat)
        },
    }
    probabilities: dict[str, Mapping[str, float]] = {}
    for part in _parts(list(questions), MOST_QUESTIONS):
        answer = endpoint.ask(_request(window, rubric, {name: questions[name] for name in part}))
        probabilities.update(answer.probabilities if isinstance(answer, Reply) else {})
    if "evidence" not in probabilities:
        return abstained(verdict.turn, "evidence")
    impacts = tuple(
        (name, max(1, round(HARDEST * probabilities[name]["yes"])))
        for name in rubric.ids
        if name in probabilities and probabilities[name]["yes"] > HOLDS_FROM
    )
    subtype = _best(probabilities["subtype"]) if "subtype" in probabilities else None
    evidence = passages[int(_best(probabilities["evidence"]))]
    return TurnVerdict(verdict.turn, verdict.label, subtype, evidence, verdict.p_dsat, verdict.p_sat, impacts)


def _request(window: Window, rubric: Rubric, questions: Mapping[str, Question]) -> DecisionRequest:
    state = f"{instructions(rubric)}\n{window.text()}"
    return DecisionRequest(state, questions, owner=window.conversation.conversation_id)


def _passages(text: str) -> list[str]:
    """The sentences of a turn, each verbatim; the first and the last ones of a long turn."""
    passages = list(dict.fromkeys(sentences(text, LONGEST_PASSAGE))) or [text.strip()[:LONGEST_PASSAGE]]
    half = MOST_PASSAGES // 2
    return passages if len(passages) <= MOST_PASSAGES else passages[:half] + passages[-half:]


def _best(shares: Mapping[str, float]) -> str:
    return max(shares, key=lambda name: shares[name])


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
