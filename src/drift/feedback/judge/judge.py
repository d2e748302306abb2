"""The judge as a `Labeller`: windows of conversations to the server, verdicts checked, labels out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from drift.endpoint import Capabilities, Endpoint, Reply, Unanswered
from drift.feedback.judge.decide import chances, decide
from drift.feedback.judge.prompt import chat_request, prompt_version, repair_request
from drift.feedback.judge.rubric import Rubric
from drift.feedback.judge.verdict import (
    TurnVerdict,
    Unreadable,
    abstained,
    checked,
    label_chances,
    read_answer,
    regressed,
    with_chances,
)
from drift.feedback.judge.window import Window, windows
from drift.records import Conversation, FeedbackLabel, stable_hash

Backend = Literal["decisions", "chat"]
Turns = dict[str, set[int]]
"""User turns by conversation."""


@dataclass(slots=True)
class JudgeTally:
    """What became of the turns: judged, abstained by reason, and left without a label by the server's problem."""

    turns: int = 0
    repairs: int = 0
    abstained: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)


class JudgeLabeller:
    """A `Labeller`. `version` names the prompt, the rubric, the model and the way in which it was asked.

    `only`: the turns to judge, all if None. A turn that the server did not answer for gets no label, and is counted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        able: Capabilities,
        rubric: Rubric,
        backend: Backend = "chat",
        only: Turns | None = None,
    ) -> None:
        self.tally = JudgeTally()
        self._endpoint, self._able, self._rubric = endpoint, able, rubric
        self._backend: Backend = backend
        self._only = only
        self.version = stable_hash(prompt_version(rubric), endpoint.model, backend, able.decisions, able.logprobs)

    def label(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]:
        """Labels in the order of the conversations. Raises CostLimitReached and PrerequisiteError of the endpoint."""
        return (told for _, told in self.verdicts(conversations))

    def only(self, turns: Turns) -> "JudgeLabeller":
        """The same judge for these turns alone."""
        return JudgeLabeller(self._endpoint, self._able, self._rubric, self._backend, turns)

    def verdicts(self, conversations: Iterable[Conversation]) -> Iterator[tuple[Conversation, FeedbackLabel]]:
        """Each label with the conversation that it is about."""
        for window, verdicts, repaired in self._endpoint.each(self._judge, self.windows(conversations)):
            self.tally.turns += len(window.turns)
            self.tally.repairs += repaired
            if isinstance(verdicts, Unanswered):
                self.tally.unanswered[verdicts.problem] += len(window.turns)
                continue
            for verdict in verdicts:
                if verdict.reason:
                    self.tally.abstained[verdict.reason] += 1
                yield window.conversation, self._label(window.conversation, verdict)

    def windows(self, conversations: Iterable[Conversation]) -> Iterator[Window]:
        for conversation in conversations:
            only = None if self._only is None else self._only.get(conversation.conversation_id, set())
            yield from windows(conversation, only)

    def _judge(self, window: Window) -> tuple[Window, list[TurnVerdict] | Unanswered, bool]:
        """The window, the verdicts on it, and whether the answer had to be asked for a second time."""
        told, repaired = (self._decided(window), False) if self._backend == "decisions" else self._chat(window)
        if isinstance(told, Unanswered) and told.problem == "refused":
            told = [abstained(turn, "refused") for turn in window.turns]
        return window, told, repaired

    def _decided(self, window: Window) -> list[TurnVerdict] | Unanswered:
        told = decide(self._endpoint, window, self._rubric)
        if isinstance(told, Unanswered):
            return told
        return [regressed(verdict, self._rubric, from_server=True) for verdict in told]

    def _chat(self, window: Window) -> tuple[list[TurnVerdict] | Unanswered, bool]:
        request, repaired = chat_request(window, self._rubric, self._able), False
        reply = self._endpoint.ask(request)
        verdicts = self._read(window, reply)
        if isinstance(verdicts, Unreadable) and isinstance(reply, Reply):
            repaired = True
            reply = self._endpoint.ask(repair_request(request, reply.text, str(verdicts)))
            verdicts = self._read(window, reply)
        if isinstance(verdicts, Unreadable):
            return [abstained(turn, "unreadable") for turn in window.turns], repaired
        if isinstance(verdicts, Unanswered) or isinstance(reply, Unanswered):
            return verdicts, repaired
        found = self._chances(window, reply)
        if found is not None:
            verdicts = [with_chances(verdict, found[verdict.turn]) for verdict in verdicts]
        return [regressed(verdict, self._rubric, from_server=found is not None) for verdict in verdicts], repaired

    def _read(self, window: Window, reply: Reply | Unanswered) -> list[TurnVerdict] | Unreadable | Unanswered:
        if isinstance(reply, Unanswered):
            return reply
        try:
            return self._verdicts(window, reply.text)
        except Unreadable as problem:
            return problem

    def _verdicts(self, window: Window, answer: str) -> list[TurnVerdict]:
        texts = {turn: window.conversation.messages[turn].content for turn in window.turns}
        told = read_answer(answer, window.turns)
        return [checked(told[turn], texts[turn], self._rubric) for turn in window.turns]

    def _chances(self, window: Window, reply: Reply) -> dict[int, dict[str, float]] | None:
        """From the decision endpoint, else from log-probabilities, if the server has either."""
        if self._able.decisions:
            decided = chances(self._endpoint, window, self._rubric)
            if not isinstance(decided, Unanswered) and set(decided) >= set(window.turns):
                return {turn: dict(shares) for turn, shares in decided.items()}
        if self._able.logprobs:
            found = label_chances(reply.choices[0], window.turns)
            if found is not None:
                return dict(zip(window.turns, found, strict=True))
        return None

    def _label(self, conversation: Conversation, verdict: TurnVerdict) -> FeedbackLabel:
        return FeedbackLabel(
            conversation.conversation_id,
            verdict.turn - 1,
            verdict.turn,
            verdict.label,
            "judge",
            self.version,
            subtype=verdict.subtype,
            p_dsat=verdict.p_dsat,
            p_sat=verdict.p_sat,
            evidence=verdict.evidence,
            abstain_reason=verdict.reason,
            rubric=verdict.rubric,
        )
