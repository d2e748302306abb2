"""A simulated deployment as a stage: chat logs as an operator would have them, and apart from them the truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from drift.config import DeploymentSettings, PolicySettings, SamplingSettings
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.records import ChatMessage, Counts, Truth, write_jsonl
from drift.sandbox.deployment import deploy, write_logs
from drift.sandbox.long.deployment import deploy_lists
from drift.sandbox.long.world import heldout_lists, list_world_hash
from drift.sandbox.oracle import Oracle
from drift.sandbox.world import heldout_tasks, world_hash

World = Literal["first", "long"]
Part = Literal["validation", "test"]


def hash_of(world: World) -> str:
    return world_hash() if world == "first" else list_world_hash()


def simulate(
    out: Path,
    answering: Path | str,
    policy: PolicySettings,
    sampling: SamplingSettings,
    deployment: DeploymentSettings,
    seed: int,
    world: str,
) -> Counts:
    """Write `out`/logs and `out`/truth.jsonl, what only the world knows. `world` is the hash of what is simulated."""
    loaded = load_policy(answering, policy)
    as_deployed = sampling.model_copy(update={"temperature": deployment.temperature, "top_p": 1.0})

    def answer(chats: Sequence[Sequence[ChatMessage]], keys: Sequence[str]) -> list[str]:
        replies = generate_replies(loaded, chats, keys, as_deployed)
        return [reply.text if reply else "" for reply in replies]

    serve = deploy if deployment.world == "first" else deploy_lists
    sessions = serve(answer, deployment.turns, seed, deployment.noise)
    files = write_logs(sessions, out / "logs", Path(answering).name)
    reactions = write_jsonl(out / "truth.jsonl", (reaction for s in sessions for reaction in s.reactions))
    return {"replies": deployment.turns, "chats": len(sessions), "reactions": reactions, "files": len(files)}


def sandbox_truth(part: Part, count: int, world: World = "first") -> Truth:
    """The first `count` held-out requests of a part and the world's verdict on any reply."""
    tasks = heldout_tasks(part, count) if world == "first" else heldout_lists(part, count)
    return Truth(tuple((ChatMessage("user", task.request),) for task in tasks), Oracle(), hash_of(world))
