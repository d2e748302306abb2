"""The judge as a `Labeller`: it sends windows of conversations to the server, checks the verdicts, gives labels."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
from drift.records import Conversation, FeedbackLabel, JudgeBy, stable_hash

Turns = dict[str, set[int]]
"""User turns by conversation."""


@dataclass(slots=True)
class JudgeTally:
    """Counts of turns: all, abstained by reason, and without a label by the server's problem; and repaired answers.

    `unreadable`: turns whose answer could not be read, by reason.
    """

    turns: int = 0
    repairs: int = 0
    abstained: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def all_unreadable(self) -> bool:
        """Nothing was judged, and not because the server failed."""
        return self.turns > 0 and self.unreadable.total() == self.turns


class JudgeLabeller:
    """A `Labeller`. `version` names the prompt, the rubric, the model and the way in which it was asked.

    `only`: the turns to judge; None judges all. A turn for which the server failed gets no label, and is counted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        able: Capabilities,
        rubric: Rubric,
        backend: JudgeBy = "chat",
        only: Turns | None = None,
    ) -> None:
        self.tally = JudgeTally()
        self._endpoint, self._able, self._rubric = endpoint, able, rubric
        self._backend: JudgeBy = backend
        self._only = only
        self.version = stable_hash(prompt_version(rubric), endpoint.model, backend, able.decisions, able.logprobs)

    def label(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]:
        """Labels in the order of the conversations. Raises CostLimitReached and PrerequisiteError of the endpoint."""
        return (label for _, label in self.verdicts(conversations))

    def only(self, turns: Turns) -> "JudgeLabeller":
        """The same judge, for these turns only."""
        return JudgeLabeller(self._endpoint, self._able, self._rubric, self._backend, turns)

    def verdicts(self, conversations: Iterable[Conversation]) -> Iterator[tuple[Conversation, FeedbackLabel]]:
        """Each label with its conversation."""
        for window, verdicts, repaired, unreadable in self._endpoint.each(self._judge, self.windows(conversations)):
            self.tally.turns += len(window.turns)
            self.tally.repairs += repaired
            if unreadable:
                self.tally.unreadable[unreadable] += len(window.turns)
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

    def _judge(self, window: Window) -> tuple[Window, list[TurnVerdict] | Unanswered, bool, str | None]:
        """The window, its verdicts, whether a second answer had to be asked for, and why it was unreadable too."""
        if self._backend == "decisions":
            verdicts, repaired, unreadable = self._decided(window), False, None
        else:
            verdicts, repaired, unreadable = self._chat(window)
        if isinstance(verdicts, Unanswered) and verdicts.problem == "refused":
            verdicts = [abstained(turn, "refused") for turn in window.turns]
        return window, verdicts, repaired, unreadable

    def _decided(self, window: Window) -> list[TurnVerdict] | Unanswered:
        verdicts = decide(self._endpoint, window, self._rubric)
        if isinstance(verdicts, Unanswered):
            return verdicts
        return [regressed(verdict, self._rubric, from_server=True) for verdict in verdicts]

    def _chat(self, window: Window) -> tuple[list[TurnVerdict] | Unanswered, bool, str | None]:
        request, repaired = chat_request(window, self._rubric, self._able), False
        reply = self._endpoint.ask(request)
        verdicts = self._read(window, reply)
        if isinstance(verdicts, Unreadable) and isinstance(reply, Reply):
            repaired = True
            reply = self._endpoint.ask(repair_request(request, reply.answer, str(verdicts)))
            verdicts = self._read(window, reply)
        if isinstance(verdicts, Unreadable):
            why = reply.choices[0].unreadable if isinstance(reply, Reply) else "empty"
            return [abstained(turn, "unreadable") for turn in window.turns], repaired, why
        if isinstance(verdicts, Unanswered) or isinstance(reply, Unanswered):
            return verdicts, repaired, None
        chances_by_turn = self._chances(window, reply)
        if chances_by_turn is not None:
            verdicts = [with_chances(verdict, chances_by_turn[verdict.turn]) for verdict in verdicts]
        from_server = chances_by_turn is not None
        return [regressed(verdict, self._rubric, from_server) for verdict in verdicts], repaired, None

    def _read(self, window: Window, reply: Reply | Unanswered) -> list[TurnVerdict] | Unreadable | Unanswered:
        if isinstance(reply, Unanswered):
            return reply
        try:
            entries = read_answer(reply.answer, window.turns)
        except Unreadable as problem:
            return problem
        messages = window.conversation.messages
        return [checked(entries[turn], messages[turn].content, self._rubric) for turn in window.turns]

    def _chances(self, window: Window, reply: Reply) -> dict[int, dict[str, float]] | None:
        """By turn, from the decision endpoint, else from log-probabilities; None without either."""
        if self._able.decisions:
            decided = chances(self._endpoint, window, self._rubric)
            if not isinstance(decided, Unanswered) and set(decided) >= set(window.turns):
                return {turn: dict(shares) for turn, shares in decided.items()}
        if self._able.logprobs:
            in_order = label_chances(reply.choices[0], window.turns)
            if in_order is not None:
                return dict(zip(window.turns, in_order, strict=True))
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
