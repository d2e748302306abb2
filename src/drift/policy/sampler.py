"""Fresh replies of the policy for every prompt: the y+ of DRIFT, guided by the complaint or from the request alone."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drift.config import PolicySettings, RecipeSettings, SamplingSettings
from drift.policy.chat import EncodedPrompt, encode_prompt
from drift.policy.decode import Generated, generate
from drift.policy.guided import guided_messages
from drift.policy.model import Policy, load_policy
from drift.records import ChatMessage, Completion, PromptItem, Reason, read_jsonl, write_jsonl

SAMPLER = "transformers"


@dataclass(frozen=True, slots=True)
class _Request:
    """One completion to make."""

    item: PromptItem
    sample: int
    guided: bool
    prompt: EncodedPrompt
    key: str


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
    """Read PromptItems, write their Completions to `out` in the same order; returns what was done and dropped."""
    loaded = policy if isinstance(policy, Policy) else load_policy(policy, policy_settings)
    sampler = TransformersSampler(loaded, sampling, recipe, seed)
    items = list(read_jsonl(prompts, PromptItem))
    completions = sampler.sample(items, iteration)
    write_jsonl(out, completions)
    return {"prompts": len(items), **sampler.counts}


class TransformersSampler:
    """Implements `records.Sampler`. A prompt that does not fit yields no completion; `counts` says how many.

    A completion depends on the policy, the seed, the prompt, the iteration and its sample number, and on nothing else.
    """

    def __init__(self, policy: Policy, sampling: SamplingSettings, recipe: RecipeSettings, seed: int):
        self.policy = policy
        self.sampling = sampling
        self.recipe = recipe
        self.seed = seed
        self.counts: dict[str, int] = {}

    def sample(self, prompts: Sequence[PromptItem], iteration: int) -> list[Completion]:
        requests: list[_Request] = []
        tally: Counter[str] = Counter()
        for item in prompts:
            fitting = self._requests(item, iteration)
            requests += fitting
            tally[f"dropped.{Reason.PROMPT_TOO_LONG}"] += not fitting
            tally["shortened_prompts"] += any(request.prompt.dropped_turns for request in fitting)
        replies = generate(
            self.policy,
            [request.prompt.ids for request in requests],
            [request.key for request in requests],
            self.sampling,
        )
        tally["completions"] = len(replies)
        tally["guided"] = sum(request.guided for request in requests)
        tally["truncated"] = sum(reply.finish == "length" for reply in replies)
        tally["tokens"] = sum(len(reply.token_ids) for reply in replies)
        self.counts = dict(tally)
        return [self._completion(request, reply, iteration) for request, reply in zip(requests, replies, strict=True)]

    def _requests(self, item: PromptItem, iteration: int) -> list[_Request]:
        """The samples to draw for a prompt; none if it does not fit."""
        guided = [self._is_guided(item, iteration, number) for number in range(self.recipe.samples)]
        encoded = {
            way: fit_prompt(self.policy, guided_messages(item) if way else item.prompt, self.sampling, 1 + way)
            for way in set(guided)
        }
        return [
            _Request(item, number, way, prompt, f"{self.seed}/{item.prompt_id}/{iteration}/{number}")
            for number, way in enumerate(guided)
            if (prompt := encoded[way]) is not None
        ]

    def _is_guided(self, item: PromptItem, iteration: int, number: int) -> bool:
        """Seeded by prompt, so that the guided share is the same prompts whatever else is sampled.

        Samples that compete with each other (IterDPO) share a prompt: the first of them are the guided ones.
        """
        if item.rejected is None or item.complaint is None:
            return False
        if self.recipe.name == "iter_dpo":
            return number < round(self.recipe.guided_share * self.recipe.samples)
        digest = hashlib.sha256(f"guided/{self.seed}/{item.prompt_id}/{iteration}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < self.recipe.guided_share

    def _completion(self, request: _Request, reply: Generated, iteration: int) -> Completion:
        return Completion(
            prompt_id=request.item.prompt_id,
            iteration=iteration,
            sample=request.sample,
            guided=request.guided,
            text=reply.text,
            finish=reply.finish,
            seed=self.seed,
            policy_id=self.policy.policy_id,
            sampler=SAMPLER,
            token_ids=reply.token_ids,
        )


def generate_replies(
    policy: Policy,
    conversations: Sequence[Sequence[ChatMessage]],
    keys: Sequence[str],
    sampling: SamplingSettings,
) -> list[Generated | None]:
    """Replies to conversations, in order; None where even the last user turn is too long (PROMPT_TOO_LONG)."""
    encoded = [fit_prompt(policy, messages, sampling) for messages in conversations]
    rows = [row for row, prompt in enumerate(encoded) if prompt is not None]
    replies = generate(
        policy,
        [prompt.ids for prompt in encoded if prompt is not None],
        [keys[row] for row in rows],
        sampling,
    )
    found = dict(zip(rows, replies, strict=True))
    return [found.get(row) for row in range(len(encoded))]


def fit_prompt(
    policy: Policy, messages: Sequence[ChatMessage], sampling: SamplingSettings, keep_turns: int = 1
) -> EncodedPrompt | None:
    """The prompt's ids with room left for the reply in the model's context. None: PROMPT_TOO_LONG."""
    room = policy.context_length - sampling.max_new_tokens
    return encode_prompt(policy.tokenizer, messages, min(sampling.max_prompt_length, room), keep_turns)
