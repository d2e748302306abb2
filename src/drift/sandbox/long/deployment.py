"""The second world's deployment: the first world's users, asking for lists."""

import random

from drift.sandbox.deployment import ROUND, Answer, Rates, Session, _arrive, _react
from drift.sandbox.long.world import list_tasks, list_utility


def deploy_lists(answer: Answer, turns: int, seed: int, noise: float = 0.0) -> list[Session]:
    """Serve `turns` replies to simulated users; as `drift.sandbox.deployment.deploy`, whose file is frozen."""
    rng = random.Random(f"list deployment {seed}")
    source = list_tasks(rng, "deployment")
    sessions: list[Session] = []
    waiting: list[Session] = []
    served = 0
    while served < turns:
        room = min(ROUND, turns - served)
        waiting = waiting[:room]
        arriving = [_arrive(len(sessions) + i, next(source), rng) for i in range(room - len(waiting))]
        sessions += arriving
        waiting += arriving
        replies = answer([s.messages for s in waiting], [f"{seed} {s.source_id} {len(s.messages)}" for s in waiting])
        served += len(replies)
        utilities = [list_utility(s.task, text) for s, text in zip(waiting, replies, strict=True)]
        rates = Rates.of(utilities, noise)
        judged = zip(waiting, replies, utilities, strict=True)
        waiting = [s for s, text, u in judged if _react(s, text, u, rates, source, rng)]
    return sessions
