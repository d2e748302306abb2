"""The simulated deployment as a stage, and the true utility that the sandbox alone knows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from drift.config import PolicySettings, SamplingSettings
from drift.experiments.deployment import DeploymentSettings, World
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.records import ChatMessage, Counts, Truth, stable_hash, write_jsonl
from drift.sandbox.deployment import deploy, write_logs
from drift.sandbox.instructions.deployment import simulate_instructions, truth_of_instructions
from drift.sandbox.instructions.users import UserSettings
from drift.sandbox.instructions.world import instructions_world_hash
from drift.sandbox.long.deployment import deploy_lists
from drift.sandbox.long.world import heldout_lists, list_world_hash
from drift.sandbox.mistaken import contradict, with_mistaken_users
from drift.sandbox.oracle import Oracle
from drift.sandbox.world import heldout_tasks, world_hash

MeasuredPart = Literal["validation", "test"]

_HASHES = {"first": world_hash, "long": list_world_hash, "instructions": instructions_world_hash}


def world_hash_of(world: World) -> str:
    return _HASHES[world]()


def simulate(
    out: Path,
    answering: Path | str,
    policy: PolicySettings,
    sampling: SamplingSettings,
    deployment: DeploymentSettings,
    seed: int,
    world: str,
) -> Counts:
    """Let simulated users chat with the policy `answering`. Writes `out`/logs, the chat logs that an operator would
    have, and `out`/truth.jsonl, what the users really thought.

    `world`: hash of the simulated world; a changed world runs the stage again.
    """
    if deployment.world == "instructions":
        as_deployed = sampling.model_copy(update={"temperature": deployment.temperature})
        return simulate_instructions(
            out, answering, policy, as_deployed, deployment.users, deployment.turns, seed, world
        )
    loaded = load_policy(answering, policy)
    as_deployed = sampling.model_copy(update={"temperature": deployment.temperature, "top_p": 1.0})

    def answer(chats: Sequence[Sequence[ChatMessage]], keys: Sequence[str]) -> list[str]:
        replies = generate_replies(loaded, chats, keys, as_deployed)
        return [reply.text if reply else "" for reply in replies]

    simulate_users = deploy if deployment.world == "first" else deploy_lists
    sessions = simulate_users(answer, deployment.turns, seed, deployment.noise)
    sessions = with_mistaken_users(sessions, answer, deployment.mistaken, seed)
    files = write_logs(sessions, out / "logs", Path(answering).name)
    reactions = write_jsonl(out / "truth.jsonl", (reaction for session in sessions for reaction in session.reactions))
    replies = sum(message.role == "assistant" for session in sessions for message in session.messages)
    return {"replies": replies, "chats": len(sessions), "reactions": reactions, "files": len(files)}


def simulate_side_by_side(
    out: Path,
    answering: Mapping[str, Path | str],
    policy: PolicySettings,
    sampling: SamplingSettings,
    turns: int,
    seed: int,
    temperature: float = 1.0,
) -> Counts:
    """Two or more policies serve the same users of the first world on the same days; a hash of its id decides which one
    answers a chat. `answering`: policies by the name that the logs give them.

    Writes `out`/logs/NAME, the chats of each, and `out`/truth.jsonl. Side by side because users complain at a fixed
    rate over all replies of a round (deployment.py): one policy alone draws as many complaints as any other.
    """
    as_deployed = sampling.model_copy(update={"temperature": temperature, "top_p": 1.0})
    loaded = {name: load_policy(model, policy) for name, model in answering.items()}
    names = sorted(loaded)

    def name_of(source_id: str) -> str:
        return names[int(stable_hash("side by side", seed, source_id), 16) % len(names)]

    def answer(chats: Sequence[Sequence[ChatMessage]], keys: Sequence[str]) -> list[str]:
        replies = [""] * len(chats)
        served = [name_of(key.split()[1]) for key in keys]  # a key is "SEED CHAT TURN"
        for name, model in loaded.items():
            places = [place for place, its in enumerate(served) if its == name]
            its_chats, its_keys = [chats[place] for place in places], [keys[place] for place in places]
            for place, reply in zip(places, generate_replies(model, its_chats, its_keys, as_deployed), strict=True):
                replies[place] = reply.text if reply else ""
        return replies

    sessions = deploy(answer, turns, seed)
    counts: Counts = {"replies": turns, "chats": len(sessions)}
    for name in names:
        its_sessions = [session for session in sessions if name_of(session.source_id) == name]
        write_logs(its_sessions, out / "logs" / name, name)
        counts[f"chats.{name}"] = len(its_sessions)
    counts["reactions"] = write_jsonl(out / "truth.jsonl", (r for session in sessions for r in session.reactions))
    return counts


def sandbox_truth(part: MeasuredPart, count: int, world: World = "first", users: UserSettings | None = None) -> Truth:
    """The first `count` held-out requests of a part, and the oracle that scores any reply to them.

    `users`: of the instructions world; the held-out requests are of the kinds that they ask for.
    """
    if world == "instructions":
        return truth_of_instructions(part, count, users or UserSettings())
    tasks = heldout_tasks(part, count) if world == "first" else heldout_lists(part, count)
    prompts = tuple((ChatMessage("user", task.request),) for task in tasks)
    return Truth(prompts, Oracle(), world_hash_of(world), contradict=contradict if world == "first" else None)
