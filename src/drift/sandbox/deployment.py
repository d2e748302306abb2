"""A simulated deployment: users ask, the policy answers at temperature 1, users react or leave, and chat logs are kept.

Reactions come at WildFeedback's rates: 12 % of the replies draw a complaint, with weight 1 - utility, and 5 % draw
praise, with weight utility. 35 % of those who complain stay for another try; if that one is right, half of them say so.
`noise` is the share of complaints that fall on any reply whatever its utility.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from drift.records import ChatMessage, Verdict, write_jsonl
from drift.sandbox import users
from drift.sandbox.world import Task, tasks, utility

COMPLAINTS, PRAISES, STAYS, JUDGES_RETRY, GOES_ON = 0.12, 0.05, 0.35, 0.5, 0.4
ROUND = 1000
USERS = 600
DAYS = 5

Answer = Callable[[Sequence[Sequence[ChatMessage]], Sequence[str]], list[str]]
"""Chats that end with a request, and the key of each one's random stream, in; the replies out."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """The truth about one user turn: what it says about the reply before it, and that reply's utility."""

    source_id: str
    message_index: int
    label: Verdict
    utility: float


@dataclass(slots=True)
class Session:
    source_id: str
    user: str
    task: Task
    messages: list[ChatMessage]
    reactions: list[Reaction] = field(default_factory=list)
    has_complained: bool = False


@dataclass(frozen=True, slots=True)
class Rates:
    """Chance of a complaint and of praise for a reply of utility u, scaled to the mean utility of its round."""

    complaint: float
    praise: float
    noise: float

    @classmethod
    def of(cls, utilities: Sequence[float], noise: float) -> "Rates":
        bad = sum(1 - u for u in utilities) / len(utilities)
        good = sum(max(u, 0.0) for u in utilities) / len(utilities)
        return cls(COMPLAINTS / max(bad, 1e-9), PRAISES / max(good, 1e-9), noise)

    def verdict(self, u: float, is_retry: bool, rng: random.Random) -> Verdict:
        draw = rng.random()
        if is_retry:
            dislikes, likes = JUDGES_RETRY * (1 - u), JUDGES_RETRY * max(u, 0.0)
        else:
            dislikes = (1 - self.noise) * self.complaint * (1 - u) + self.noise * COMPLAINTS
            likes = self.praise * max(u, 0.0)
        if draw < dislikes:
            return "DSAT"
        return "SAT" if draw < dislikes + likes else "NEUTRAL"


def deploy(answer: Answer, turns: int, seed: int, noise: float = 0.0) -> list[Session]:
    """Serve `turns` replies to simulated users."""
    rng = random.Random(f"deployment {seed}")
    source = tasks(rng, "deployment")
    sessions: list[Session] = []
    waiting: list[Session] = []
    served = 0
    while served < turns:
        room = min(ROUND, turns - served)
        waiting = waiting[:room]
        for _ in range(room - len(waiting)):
            waiting.append(_arrive(len(sessions), next(source), rng))
            sessions.append(waiting[-1])
        keys = [f"{seed} {s.source_id} {len(s.messages)}" for s in waiting]
        replies = answer([s.messages for s in waiting], keys)
        served += len(replies)
        utilities = [utility(s.task, text) for s, text in zip(waiting, replies, strict=True)]
        rates = Rates.of(utilities, noise)
        waiting = [
            s for s, text, u in zip(waiting, replies, utilities, strict=True) if _react(s, text, u, rates, source, rng)
        ]
    return sessions


def _arrive(number: int, task: Task, rng: random.Random) -> Session:
    return Session(f"chat-{number:05d}", f"user-{rng.randrange(USERS)}", task, [ChatMessage("user", task.request)])


def _react(s: Session, text: str, u: float, rates: Rates, source: Iterator[Task], rng: random.Random) -> bool:
    """The user reads the reply. True if they wait for another one."""
    s.messages.append(ChatMessage("assistant", text))
    verdict = rates.verdict(u, s.has_complained, rng)
    said = ""
    if verdict == "DSAT":
        said = users.complain(rng, s.task.skill, s.task.request, text, s.task.answer, evasive=u <= 0)
        stays = rng.random() < STAYS
    else:
        stays = rng.random() < GOES_ON
        if verdict == "SAT":
            said = users.praise(rng, relieved=s.has_complained)
        elif stays:
            said = users.bridge(rng)
        if stays:
            s.task = next(source)
            said = users.joined(said, s.task.request)
    if said:
        s.reactions.append(Reaction(s.source_id, len(s.messages), verdict, u))
        s.messages.append(ChatMessage("user", said))
    s.has_complained = verdict == "DSAT"
    return stays


def write_logs(sessions: Sequence[Session], folder: Path, model: str) -> list[Path]:
    """One file of chats a day, in the native format. Nothing of the truth is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    per_day = -(-len(sessions) // DAYS)
    files = []
    for day in range(DAYS):
        files.append(folder / f"day-{day + 1}.jsonl")
        start = datetime(2026, 3, 2 + day, 8)
        write_jsonl(files[-1], (
            {"id": s.source_id, "user": s.user, "model": model, "messages": s.messages,
             "timestamp": (start + timedelta(seconds=20 * i)).isoformat() + "Z"}
            for i, s in enumerate(sessions[day * per_day : (day + 1) * per_day])
        ))  # fmt: skip
    return files
