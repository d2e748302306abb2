"""Fresh replies of the policy for every prompt: the y+ of DRIFT, guided by the complaint or from the request alone.

Every completion is written down as soon as its batch is done. What a stopped run has sampled is not sampled again, and
the batches are the same as if it had not been stopped, so the completions are too.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from drift.config import PolicySettings, RecipeSettings, SamplingSettings
from drift.policy.decode import Generated, generate, make_durably
from drift.policy.model import Policy
from drift.policy.samplers import BACKENDS, Backend, Job
from drift.policy.samplers.backend import SamplingRequest
from drift.policy.samplers.requests import build_requests, fit_prompt
from drift.progress import report_note
from drift.records import ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl
from drift.rundir import partial_work


def sample(
    out: Path,
    policy: Policy | Path | str,
    prompts: Path,
    sampling: SamplingSettings,
    recipe: RecipeSettings,
    policy_settings: PolicySettings,
    iteration: int,
    seed: int,
) -> dict[str, int | float]:
    """Read PromptItems, write their Completions to `out` in the same order; returns what was done and dropped.

    `failed`: replies that a server did not give after all retries, or refused. They stay so, with finish `error` and
    no pair of them; one request among thousands ends no run (a server that fails again and again does).
    """
    items = list(read_jsonl(prompts, PromptItem))
    with BACKENDS[sampling.backend](Job(policy, policy_settings, sampling, iteration, seed)) as backend:
        sampler = DurableSampler(backend, sampling, recipe, seed, partial_work(out))
        completions = sampler.sample(items, iteration)
    write_jsonl(out, completions)
    if failed := sampler.counts["failed"]:
        report_note(
            f"{failed} of {len(completions)} replies could not be had: they make no pairs (to ask for all anew, delete "
            f"{out.name} and give the same command)"
        )
    return {"prompts": len(items), **sampler.counts}


class DurableSampler:
    """Implements `records.Sampler` with any backend. `work`: the folder in which finished batches are written down.

    A prompt that does not fit yields no completion; `counts` says how many. With the built-in backend a completion
    depends on the policy, the seed, the prompt, the iteration and its sample number, and on nothing else.
    """

    def __init__(
        self, backend: Backend, sampling: SamplingSettings, recipe: RecipeSettings, seed: int, work: Path
    ) -> None:
        self.backend = backend
        self.sampling = sampling
        self.recipe = recipe
        self.seed = seed
        self.work = work
        self.counts: dict[str, int] = {}

    def sample(self, prompts: Sequence[PromptItem], iteration: int) -> list[Completion]:
        requests, tally = build_requests(self.backend.facts, prompts, self.sampling, self.recipe, iteration, self.seed)
        replies = self._answered(requests)
        self.counts = {**tally, **_counted(requests, replies)}
        return [self._completion(request, reply, iteration) for request, reply in zip(requests, replies, strict=True)]

    def _answered(self, requests: Sequence[SamplingRequest]) -> list[Generated]:
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
        )


def generate_replies(
    policy: Policy,
    conversations: Sequence[Sequence[ChatMessage]],
    keys: Sequence[str],
    sampling: SamplingSettings,
    work: Path | None = None,
) -> list[Generated | None]:
    """Replies to conversations, in order; None where even the last user turn is too long (PROMPT_TOO_LONG).

    `work`: a folder in which finished batches are written down, for the next command with the same policy and settings.
    """
    encoded = [fit_prompt(policy.facts, messages, sampling) for messages in conversations]
    rows = [row for row, prompt in enumerate(encoded) if prompt is not None]
    replies = generate(
        policy,
        [prompt.ids for prompt in encoded if prompt is not None],
        [keys[row] for row in rows],
        sampling,
        work,
    )
    found = dict(zip(rows, replies, strict=True))
    return [found.get(row) for row in range(len(encoded))]


def _counted(requests: Sequence[SamplingRequest], replies: Sequence[Generated]) -> Counter[str]:
    return Counter(
        completions=len(replies),
        guided=sum(request.guided for request in requests),
        truncated=sum(reply.finish == "length" for reply in replies),
        failed=sum(reply.finish == "error" for reply in replies),
        tokens=sum(len(reply.token_ids or ()) for reply in replies),
    )
