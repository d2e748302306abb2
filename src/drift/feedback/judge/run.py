"""The judge over a store: behind its server, within its budget, with a summary of what became of every turn."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drift.config import EndpointSettings, LabelSettings
from drift.endpoint import ANSWERS, CostLimitReached, Endpoint, Spending, probe, remedy, why_unreadable
from drift.errors import ConfigError, DataError
from drift.feedback.judge.judge import JudgeLabeller, JudgeTally, Turns
from drift.feedback.judge.prompt import TOKENS_MORE, TOKENS_PER_TURN
from drift.feedback.judge.rubric import Rubric, load_rubric
from drift.feedback.label import mark_unsafe_complaint, rating_labels
from drift.records import Conversation, FeedbackLabel


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """`unanswered`: turns without a label because the server failed, by problem; the same command asks them again.

    `unreadable`: turns whose answer could not be read, by reason. `server`: what it supports. `stopped`: why the judge
    did not reach the end, if it did not.
    """

    server: str
    spending: Spending
    turns: int
    repairs: int
    abstained: dict[str, int] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def is_complete(self) -> bool:
        return not self.stopped and not self.unanswered


class JudgeRun:
    """One pass of the judge over conversations. It ends early, without an error, when its money is spent."""

    def __init__(self, labeller: JudgeLabeller, endpoint: Endpoint, server: str) -> None:
        self._labeller, self._endpoint, self._server = labeller, endpoint, server
        self._stopped: str | None = None
        self._label_of_turn: dict[tuple[str, int], str] = {}

    def labels(self, conversations: Iterable[Conversation], only: Turns | None = None) -> Iterator[FeedbackLabel]:
        """The judge's labels, then those of the ratings. `only`: the user turns that are judged; None judges all."""
        labeller = self._labeller if only is None else self._labeller.only(only)
        self._labeller = labeller
        # A bare thumb down takes its evidence from the judge's label of the same reply. That comes later, so rated
        # conversations stay in memory until the end.
        rated: dict[str, Conversation] = {}
        labels_of_rated: dict[tuple[str, int], FeedbackLabel] = {}

        def remember_rated() -> Iterator[Conversation]:
            for conversation in conversations:
                if conversation.ratings:
                    rated[conversation.conversation_id] = conversation
                yield conversation

        try:
            for conversation, label in labeller.verdicts(remember_rated()):
                if label.user_index is not None:
                    self._label_of_turn[label.conversation_id, label.user_index] = label.label
                if label.conversation_id in rated:
                    labels_of_rated[label.conversation_id, label.reply_index] = label
                yield mark_unsafe_complaint(conversation, label)
        except CostLimitReached as limit:
            self._stopped = str(limit)
        if labeller.tally.all_unreadable:  # before the store takes a label of this judge
            raise self._all_unreadable(labeller.tally)
        for conversation in rated.values():
            yield from rating_labels(conversation, labels_of_rated)

    def _all_unreadable(self, tally: JudgeTally) -> DataError:
        limit = self._endpoint.settings.max_tokens or 2 * (TOKENS_PER_TURN + TOKENS_MORE)
        setting = "labels.endpoint.max_tokens (drift label: --judge-max-tokens)"
        return DataError(
            f"{self._endpoint.url}: all {tally.turns} judgements of {self._endpoint.model} were unreadable: "
            f"{why_unreadable(tally.unreadable)}. {remedy(tally.unreadable, setting, limit)}"
        )

    def judged(self, turns: Turns) -> tuple[int, int]:
        """Of these turns: how many have a verdict, and how many are DSAT."""
        labels = [self._label_of_turn.get((name, turn)) for name, user_turns in turns.items() for turn in user_turns]
        verdicts = [label for label in labels if label not in (None, "ABSTAIN")]
        return len(verdicts), verdicts.count("DSAT")

    def summary(self) -> JudgeSummary:
        tally = self._labeller.tally
        return JudgeSummary(
            server=self._server,
            spending=self._endpoint.spending,
            turns=tally.turns,
            repairs=tally.repairs,
            abstained=dict(tally.abstained),
            unanswered=dict(tally.unanswered),
            unreadable=dict(tally.unreadable),
            stopped=self._stopped,
        )


@contextmanager
def open_judge(settings: LabelSettings, folder: Path) -> Iterator[JudgeRun]:
    """The judge behind its server, probed; the server's answers are cached in `folder`.

    Raises ConfigError (no server, or the wrong kind) and PrerequisiteError (the server or its model is not there).
    """
    rubric = judge_rubric(settings)
    with Endpoint(judge_endpoint(settings), folder / ANSWERS) as endpoint:
        capabilities = probe(endpoint)
        if settings.judge_by == "decisions" and not capabilities.decisions:
            raise ConfigError(
                f"{endpoint.url} has no decision endpoint (it {capabilities.line()}). Leave out judge_by, or set it to "
                "chat."
            )
        labeller = JudgeLabeller(endpoint, capabilities, rubric, settings.judge_by)
        yield JudgeRun(labeller, endpoint, capabilities.line())


def judge_endpoint(settings: LabelSettings) -> EndpointSettings:
    if settings.endpoint is None:
        raise ConfigError("The judge needs a server: set labels.endpoint (drift label: --judge URL#MODEL).")
    return settings.endpoint


def judge_rubric(settings: LabelSettings) -> Rubric:
    return load_rubric(Path(settings.rubric) if settings.rubric else None)
