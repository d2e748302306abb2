"""A simulated deployment: users ask, an assistant answers, users react, go on or leave, logs are kept."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from drift.records import ChatMessage, Finish, Verdict, write_jsonl
from drift.sandbox.instructions import users
from drift.sandbox.instructions.assignment import (
    Assignment,
    draw_follow_up,
    draw_request,
    protected_words,
    written,
)
from drift.sandbox.instructions.truth import ReplyTruth, judge
from drift.sandbox.instructions.users import ReactionRates, UserSettings

LARGEST_BATCH, FEWEST_BATCHES = 400, 5
"""Chats that are answered at once; and in how many batches at least, so that there is time for second replies."""

MOST_REPLIES = 6
"""Of one chat."""

USERS, DAYS, SECONDS_BETWEEN = 400, 5, 30


@dataclass(frozen=True, slots=True)
class AssistantReply:
    """`finish`: "length" if the reply was cut at the token limit."""

    text: str
    finish: Finish = "stop"


Answer = Callable[[Sequence[Sequence[ChatMessage]], Sequence[str]], list[AssistantReply]]
"""Chats that end with a user's message, and the key of each one's random stream, in; the replies out."""


@dataclass(frozen=True, slots=True)
class TrueReaction:
    """The truth about one user turn: what it says about the reply before it, and whether that reply was right.

    `utility`: 1 for a right reply, else 0. `failed`: the constraints and parts that failed. `style` and `about`: of a
    complaint, how it is put and what it names.
    """

    source_id: str
    message_index: int
    label: Verdict
    utility: float
    failed: tuple[str, ...] = ()
    style: users.Style | None = None
    about: str | None = None


@dataclass(slots=True)
class Chat:
    """`finishes`: of the assistant's messages, in order."""

    source_id: str
    user: str
    assignment: Assignment
    messages: list[ChatMessage]
    finishes: list[Finish] = field(default_factory=list)
    reactions: list[TrueReaction] = field(default_factory=list)


def chat_with(answer: Answer, replies: int, seed: int, settings: UserSettings | None = None) -> list[Chat]:
    """Let simulated users chat until the assistant has given so many replies. The same seed gives the same users.

    Everybody who waits is answered in one batch; who goes on, waits for the next one.
    """
    settings = settings or UserSettings()
    rng = random.Random(f"instructions deployment {seed}")
    chats: list[Chat] = []
    waiting: list[Chat] = []
    served, size = 0, min(LARGEST_BATCH, -(-replies // FEWEST_BATCHES))
    while served < replies:
        room = min(size, replies - served)
        waiting = waiting[:room]
        for _ in range(room - len(waiting)):
            chats.append(_arrive(len(chats), settings, rng))
            waiting.append(chats[-1])
        keys = [f"instructions {seed} {chat.source_id} {len(chat.messages)}" for chat in waiting]
        given = answer([tuple(chat.messages) for chat in waiting], keys)
        served += len(given)
        verdicts = [judge(chat.assignment, r.text, r.finish) for chat, r in zip(waiting, given, strict=True)]
        right = sum(verdict.right for verdict in verdicts)
        rates = ReactionRates.of(settings, right, len(verdicts) - right)
        reacted = zip(waiting, given, verdicts, strict=True)
        waiting = [chat for chat, reply, verdict in reacted if _react(chat, reply, verdict, rates, settings, rng)]
    return chats


def _arrive(number: int, settings: UserSettings, rng: random.Random) -> Chat:
    assignment = _typed(draw_request(rng, "logs", mix=settings.mix), settings, rng)
    message = ChatMessage("user", assignment.asked)
    return Chat(f"chat-{number:05d}", f"user-{rng.randrange(USERS)}", assignment, [message])


def _typed(assignment: Assignment, settings: UserSettings, rng: random.Random) -> Assignment:
    """The request as the user types it."""
    return replace(assignment, asked=written(rng, assignment.asked, settings.careless, protected_words(assignment)))


def _react(
    chat: Chat,
    reply: AssistantReply,
    verdict: ReplyTruth,
    rates: ReactionRates,
    settings: UserSettings,
    rng: random.Random,
) -> bool:
    """The user reads the reply. True if they wait for another one."""
    chat.messages.append(ChatMessage("assistant", reply.text))
    chat.finishes.append(reply.finish)
    reaction = rates.reaction(verdict.right, rng)
    style = about = None
    said = ""
    goes_on = len(chat.finishes) < MOST_REPLIES
    if reaction == "DSAT":
        said, style, about = users.complain(rng, settings, chat.assignment, verdict)
        goes_on = goes_on and rng.random() < settings.retries
    else:
        said = users.thank(rng, settings) if reaction == "SAT" else ""
        draw = rng.random()
        goes_on = goes_on and draw < settings.follow_ups + settings.new_requests
        if goes_on:
            is_follow_up = draw < settings.follow_ups
            said = _next_message(chat, reply.text, said, is_follow_up, settings, rng)
    if said:
        place = len(chat.messages)
        chat.reactions.append(
            TrueReaction(chat.source_id, place, reaction, verdict.score, verdict.failed, style, about)
        )
        chat.messages.append(ChatMessage("user", said))
    return goes_on


def _next_message(
    chat: Chat, reply: str, said: str, is_follow_up: bool, settings: UserSettings, rng: random.Random
) -> str:
    """What the user wants next, after what they said about the reply (if anything)."""
    if is_follow_up:
        asked, chat.assignment = draw_follow_up(rng, "logs", chat.assignment, reply, settings.mix)
        asked = written(rng, asked, settings.careless, protected_words(chat.assignment))
        return users.joined([said, asked])
    chat.assignment = _typed(draw_request(rng, "logs", mix=settings.mix), settings, rng)
    return users.joined([said or users.bridge(rng, settings), chat.assignment.asked])


def write_logs(chats: Sequence[Chat], folder: Path, model: str) -> list[Path]:
    """One file of chats a day, in the native format. Nothing of the truth is in them.

    A reply that was cut at the token limit says so, as servers do: `finish_reason: length`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    per_day = -(-len(chats) // DAYS)
    files = []
    for day in range(DAYS):
        files.append(folder / f"day-{day + 1}.jsonl")
        start = datetime(2026, 3, 2 + day, 8)
        write_jsonl(files[-1], (
            {"id": chat.source_id, "user": chat.user, "model": model, "messages": _rows(chat),
             "timestamp": (start + timedelta(seconds=SECONDS_BETWEEN * i)).isoformat() + "Z"}
            for i, chat in enumerate(chats[day * per_day : (day + 1) * per_day])
        ))  # fmt: skip
    return files


def _rows(chat: Chat) -> list[dict[str, str]]:
    finishes = iter(chat.finishes)
    rows = []
    for message in chat.messages:
        row = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            row["finish_reason"] = next(finishes)
        rows.append(row)
    return rows
