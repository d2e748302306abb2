"""Users who are wrong: a wrapper around the deployment in which a share of the users insists on wrong answers.

The deployment itself is frozen, so its chats are made first. Then each chat of such a user ends at a right reply, which
the user contradicts with a wrong answer. How often: as often per right reply as users complain per reply (12 %). Like
other users they may stay for another try; a policy that gives in is praised, one that does not is contradicted again.
"""

import random
from collections.abc import Sequence

from drift.records import ChatMessage, Verdict, stable_hash
from drift.sandbox import users
from drift.sandbox.deployment import COMPLAINTS, JUDGES_RETRY, STAYS, Answer, Reaction, Session
from drift.sandbox.oracle import task_of
from drift.sandbox.skills import SKILLS
from drift.sandbox.world import Task, utility

_PARTS = 10_000


def with_mistaken_users(sessions: Sequence[Session], answer: Answer, share: float, seed: int) -> list[Session]:
    """The sessions, with those of a `share` of the users ended by a complaint about a right reply, here and there.

    `answer`: the deployed policy, for the second try. Nothing changes where `share` is 0.
    """
    if share == 0:
        return list(sessions)
    rng = random.Random(f"mistaken users {seed}")
    utilities = [utility_at(s, i) for s in sessions for i, message in enumerate(s.messages) if message.role != "user"]
    chance = COMPLAINTS / max(sum(u == 1.0 for u in utilities) / len(utilities), 1e-9)
    told, waiting = [], []
    for session in sessions:
        place = _right_reply(session, chance, rng) if is_mistaken(session.user, share, seed) else None
        if place is None:
            told.append(session)
            continue
        task = _task_at(session, place)
        wrong = wrong_answer(task, rng)
        cut = _cut(session, place, task)
        _say(cut, "DSAT", insistence(task, cut.messages[-1].content, wrong, rng))
        told.append(cut)
        if rng.random() < STAYS:
            waiting.append((cut, wrong))
    keys = [f"{seed} {session.source_id} {len(session.messages)}" for session, _ in waiting]
    replies = answer([session.messages for session, _ in waiting], keys) if waiting else []
    for (session, wrong), text in zip(waiting, replies, strict=True):
        session.messages.append(ChatMessage("assistant", text))
        if rng.random() < JUDGES_RETRY:
            if text.strip() == wrong.strip():
                _say(session, "SAT", users.praise(rng, relieved=True))
            else:
                _say(session, "DSAT", insistence(session.task, text, wrong, rng))
    return told


def is_mistaken(user: str, share: float, seed: int) -> bool:
    """Drawn by a hash of the user, so that a larger share adds users and takes none away."""
    return int(stable_hash("mistaken", seed, user), 16) % _PARTS < share * _PARTS


def wrong_answer(task: Task, rng: random.Random) -> str:
    """A slip of the task's skill that is not right by chance."""
    for _ in range(50):
        slip = SKILLS[task.skill].slips(task.args, rng)
        if utility(task, slip) < 1.0:
            return slip
    raise AssertionError(f"every slip of {task.request!r} is right")


def insistence(task: Task, reply: str, wrong: str, rng: random.Random) -> str:
    """What a user says who holds `wrong` for the answer: a complaint of the users' own phrase book that names it."""
    book = users.phrases()["complaints"]
    phrase = rng.choice([phrase for phrase in book["general"] if "{answer}" in phrase])
    said = [" ".join(text.replace("\n", ", ").split()).rstrip(".") for text in (reply, wrong)]
    return phrase.format(reply=said[0] or "nothing", answer=said[1], request=task.request)


def contradict(prompt: Sequence[ChatMessage], reply: str) -> str:
    """What a mistaken user answers to a right reply; always the same for the same request."""
    task = _task_of(prompt)
    rng = random.Random(f"contradiction {task.request}")
    return insistence(task, reply, wrong_answer(task, rng), rng)


def utility_at(session: Session, place: int) -> float:
    """True utility of the reply at this place of the session."""
    return utility(_task_at(session, place), session.messages[place].content)


def _task_at(session: Session, place: int) -> Task:
    return _task_of(session.messages[:place])


def _task_of(messages: Sequence[ChatMessage]) -> Task:
    task = task_of(tuple(message.content for message in messages if message.role == "user"))
    assert isinstance(task, Task), "users of this world ask for nothing else"
    return task


def _right_reply(session: Session, chance: float, rng: random.Random) -> int | None:
    """The place of the first right reply that its user contradicts; None if there is none."""
    right = (i for i, m in enumerate(session.messages) if m.role == "assistant" and utility_at(session, i) == 1.0)
    return next((place for place in right if rng.random() < chance), None)


def _cut(session: Session, place: int, task: Task) -> Session:
    """The session up to its reply at `place`, with what its user said about earlier ones."""
    reactions = [reaction for reaction in session.reactions if reaction.message_index <= place]
    return Session(session.source_id, session.user, task, session.messages[: place + 1], reactions)


def _say(session: Session, label: Verdict, text: str) -> None:
    place = len(session.messages)
    session.reactions.append(Reaction(session.source_id, place, label, utility_at(session, place - 1)))
    session.messages.append(ChatMessage("user", text))
