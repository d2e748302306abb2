"""Any policy as the assistant of the instructions world: its replies come from the product's own sampler."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from drift.config import PolicySettings, SamplingSettings
from drift.policy.model import Policy, load_policy
from drift.policy.sampler import generate_replies
from drift.progress import part_of
from drift.records import ChatMessage, Counts, Finish, Truth, write_jsonl
from drift.rundir import partial_work
from drift.sandbox.instructions.chats import Answer, AssistantReply, Chat, chat_with, write_logs
from drift.sandbox.instructions.truth import InstructionOracle, ReplyTruth
from drift.sandbox.instructions.users import UserSettings
from drift.sandbox.instructions.world import instructions_truth

RIGHT = "right: "
"""Begins the name of a part that is the truth about the requests with one kind of constraint."""


def assistant_of(
    policy: Policy, sampling: SamplingSettings, work: Path | None = None, replies: int | None = None
) -> Answer:
    """The policy as an assistant; it gives an empty reply if the last message alone does not fit.

    `work`: a folder for finished replies, by turn, from which an interrupted deployment resumes. `replies`: how many
    there will be in all, for the progress; default: those of the turn.
    """
    turn = served = tokens = 0

    def answer(chats: Sequence[Sequence[ChatMessage]], keys: Sequence[str]) -> list[AssistantReply]:
        nonlocal turn, served, tokens
        turn += 1
        with part_of(replies or len(chats), served, tokens) as tokens_so_far:
            given = generate_replies(policy, chats, keys, sampling, work and work / f"turn-{turn}")
        served, tokens = served + len(chats) if replies else 0, tokens_so_far[0]
        return [AssistantReply(reply.text, reply.finish) if reply else AssistantReply("") for reply in given]

    return answer


def deploy_policy(
    policy: Policy,
    replies: int,
    seed: int,
    sampling: SamplingSettings,
    users: UserSettings | None = None,
    work: Path | None = None,
) -> list[Chat]:
    """Let simulated users chat with the policy until it has given so many replies, at `sampling.temperature`."""
    return chat_with(assistant_of(policy, sampling, work, replies), replies, seed, users)


def simulate_instructions(
    out: Path,
    answering: Path | str,
    policy: PolicySettings,
    sampling: SamplingSettings,
    users: UserSettings,
    replies: int,
    seed: int,
    world: str,
) -> Counts:
    """A deployment as a stage. Writes `out`/logs, the chat logs that an operator would have, and `out`/truth.jsonl,
    what the users really thought.

    `world`: hash of the simulated world; a changed world runs the stage again. If the stage is interrupted, the next
    one reuses the finished replies.
    """
    out.mkdir(parents=True, exist_ok=True)
    chats = deploy_policy(load_policy(answering, policy), replies, seed, sampling, users, partial_work(out))
    files = write_logs(chats, out / "logs", Path(answering).name)
    reactions = [reaction for chat in chats for reaction in chat.reactions]
    write_jsonl(out / "truth.jsonl", reactions)
    said = {label: sum(reaction.label == label for reaction in reactions) for label in ("SAT", "DSAT")}
    return {"replies": replies, "chats": len(chats), "reactions": len(reactions), "files": len(files), **said}


def heldout_truth(
    policy: Policy, prompts: Sequence[tuple[ChatMessage, ...]], seed: int, sampling: SamplingSettings
) -> list[tuple[AssistantReply, ReplyTruth]]:
    """The policy's reply to each held-out prompt, with the truth about it by part and kind."""
    keys = [f"instructions truth {seed} {i}" for i in range(len(prompts))]
    replies = assistant_of(policy, sampling)(prompts, keys)
    oracle = InstructionOracle()
    return [(r, oracle.verdict(p, r.text, r.finish)) for p, r in zip(prompts, replies, strict=True)]


def truth_of_instructions(part: Literal["validation", "test"], count: int, users: UserSettings) -> Truth:
    """Held-out prompts of the kinds that these users ask for, and the truth about any reply to them, with its parts."""
    return replace(instructions_truth(part, count, users.mix), parts=parts_of_truth)


def parts_of_truth(prompt: Sequence[ChatMessage], completion: str, finish: Finish = "stop") -> dict[str, float]:
    """The parts of the truth about one reply, each 0 or 1, and for each kind of constraint whether the reply is right.

    The mean over the replies that have a part is the share that experiments report.
    """
    verdict = InstructionOracle().verdict(prompt, completion, finish)
    parts = {
        "constraints hold": verdict.all_hold,
        "finished": verdict.finished,
        "on topic": verdict.on_topic,
        "not degenerate": not verdict.degenerate,
        **{f"{RIGHT}{kind}": verdict.right for kind, _ in verdict.holds},
    }
    return {name: float(value) for name, value in parts.items()}
