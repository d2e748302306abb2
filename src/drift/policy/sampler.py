"""Fresh replies of the policy for every prompt: the y+ of DRIFT, guided by the complaint or from the request alone.

Every batch of completions is written to the disk as soon as it is done. A resumed run samples the missing batches only,
and the batches are the same as in a run that was not stopped, so the completions are too.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from drift.config import PolicySettings, SamplingSettings
from drift.policy.chat import ChatFormat, EncodedPrompt, ReadReply, read_completion
from drift.policy.decode import Generated, make_durably
from drift.policy.model import Policy
from drift.policy.samplers import BACKENDS, Backend, Job
from drift.policy.samplers.backend import SamplingRequest
from drift.policy.samplers.requests import FreshReplies, build_requests, fit_prompt
from drift.policy.samplers.transformers import generate
from drift.policy.spread import AnyPolicy
from drift.progress import report_note
from drift.records import ChatMessage, Completion, PromptItem, Reason, read_jsonl, write_jsonl
from drift.rundir import partial_work


def sample(
    out: Path,
    policy: Policy | Path | str,
    prompts: Path,
    sampling: SamplingSettings,
    fresh: FreshReplies,
    policy_settings: PolicySettings,
    iteration: int,
    seed: int,
) -> dict[str, int | float]:
    """Read PromptItems and write their Completions to `out`, in the same order; returns the stage's counts.

    `failed`: requests that a server refused, or did not answer after all retries. Their completions have finish `error`
    and make no pairs. A single failure does not end the run; a server that fails repeatedly does.
    """
    items = list(read_jsonl(prompts, PromptItem))
    with BACKENDS[sampling.backend](Job(policy, policy_settings, sampling, iteration, seed)) as backend:
        sampler = DurableSampler(backend, sampling, fresh, seed, partial_work(out))
        completions = sampler.sample(items, iteration)
    write_jsonl(out, completions)
    if failed := sampler.counts["failed"]:
        report_note(
            f"{failed} of {len(completions)} replies failed and make no pairs (to sample all replies again, delete "
            f"{out.name} and run the same command)"
        )
    return {"prompts": len(items), **sampler.counts}


class DurableSampler:
    """Implements `records.Sampler` with any backend. `work`: the folder for the journal of finished batches.

    A prompt that does not fit has no completion and is counted in `counts`. With the backend `transformers`, a
    completion depends on the policy, the seed, the prompt, the iteration and its sample number only.
    """

    def __init__(
        self, backend: Backend, sampling: SamplingSettings, fresh: FreshReplies, seed: int, work: Path
    ) -> None:
        self.backend = backend
        self.sampling = sampling
        self.fresh = fresh
        self.seed = seed
        self.work = work
        self.counts: dict[str, int] = {}

    def sample(self, prompts: Sequence[PromptItem], iteration: int) -> list[Completion]:
        requests, tally = build_requests(self.backend.facts, prompts, self.sampling, self.fresh, iteration, self.seed)
        chat = self.backend.facts.chat
        replies = [
            read_reply(chat, request.prompt, reply)
            for request, reply in zip(requests, self._answer(requests), strict=True)
        ]
        self.counts = {**tally, **_count(requests, replies)}
        return [self._completion(request, reply, iteration) for request, reply in zip(requests, replies, strict=True)]

    def _answer(self, requests: Sequence[SamplingRequest]) -> list[Generated]:
        plan = self.backend.plan(requests)

        def run(missing: Sequence[int]) -> Iterator[tuple[int, list[Generated]]]:
            return self.backend.run([(number, [requests[row] for row in plan[number]]) for number in missing])

        return make_durably(self.work, plan, [request.key for request in requests], run)

    def _completion(self, request: SamplingRequest, reply: Generated, iteration: int) -> Completion:
        return Completion(
            prompt_id=request.prompt_id,
            iteration=iteration,
            sample=request.sample,
            guided=request.guided,
            text=reply.text,
            finish=reply.finish,
            seed=self.seed,
            policy_id=self.backend.policy_id,
            sampler=self.backend.name,
            token_ids=reply.token_ids,
            reasoning=reply.reasoning,
            tool_calls=reply.tool_calls,
            guidance=self.fresh.guidance if request.guided else None,
        )


def generate_replies(
    policy: AnyPolicy,
    conversations: Sequence[Sequence[ChatMessage]],
    keys: Sequence[str],
    sampling: SamplingSettings,
    work: Path | None = None,
    tools: Sequence[str | None] = (),
) -> list[Generated | None]:
    """Replies to conversations, in order; None if the last user turn alone is too long, or the template refuses it.

    `work`: a folder for the journal of finished batches, from which the next command with the same policy and settings
    resumes.
    """
    schemas = tools or [None] * len(conversations)
    encoded = [
        fit_prompt(policy.facts, messages, sampling, tools=own)
        for messages, own in zip(conversations, schemas, strict=True)
    ]
    prompts = {row: prompt for row, prompt in enumerate(encoded) if not isinstance(prompt, Reason)}
    ids = [(*prompt.ids, *prompt.given) for prompt in prompts.values()]
    replies = generate(policy, ids, [keys[row] for row in prompts], sampling, work)
    reply_of = {
        row: read_reply(policy.chat, prompt, reply)
        for (row, prompt), reply in zip(prompts.items(), replies, strict=True)
    }
    return [reply_of.get(row) for row in range(len(encoded))]


def read_reply(chat: ChatFormat, prompt: EncodedPrompt, reply: Generated) -> Generated:
    """The reply with its thoughts, its calls and the text before its end token apart, and with the ids of the opening
    that the model was given."""
    if reply.token_ids is None:
        return reply
    ids = (*prompt.given, *reply.token_ids)
    read = read_completion(chat.tokenizer, prompt.form, ids)
    if read == ReadReply(reply.text) and not prompt.form.opening:
        return reply
    return replace(reply, text=read.text, token_ids=ids, reasoning=read.reasoning, tool_calls=read.tool_calls)


def _count(requests: Sequence[SamplingRequest], replies: Sequence[Generated]) -> Counter[str]:
    return Counter(
        completions=len(replies),
        guided=sum(request.guided for request in requests),
        truncated=sum(reply.finish == "length" for reply in replies),
        failed=sum(reply.finish == "error" for reply in replies),
        tokens=sum(len(reply.token_ids or ()) for reply in replies),
    )
