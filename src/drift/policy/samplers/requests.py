"""The requests to the policy: one for each sample of each prompt, the same for every backend."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from drift.config import RecipeSettings, SamplingSettings
from drift.policy.chat import EncodedPrompt, encode_prompt, without_turns
from drift.policy.guided import guided_messages
from drift.policy.model import PolicyFacts
from drift.policy.samplers.backend import SamplingRequest
from drift.records import ChatMessage, PromptItem, Reason


def build_requests(
    facts: PolicyFacts,
    items: Sequence[PromptItem],
    sampling: SamplingSettings,
    recipe: RecipeSettings,
    iteration: int,
    seed: int,
) -> tuple[list[SamplingRequest], Counter[str]]:
    """The requests, in the order of the items, and counts of what was shortened or dropped because it does not fit."""
    requests: list[SamplingRequest] = []
    tally: Counter[str] = Counter()
    for item in items:
        fitting = list(_requests(facts, item, sampling, recipe, iteration, seed))
        requests += fitting
        tally[f"dropped.{Reason.PROMPT_TOO_LONG}"] += not fitting
        tally["shortened_prompts"] += any(request.dropped_turns for request in fitting)
    return requests, tally


def fit_prompt(
    facts: PolicyFacts, messages: Sequence[ChatMessage], sampling: SamplingSettings, keep_turns: int = 1
) -> EncodedPrompt | None:
    """The prompt's ids with room left for the reply in the model's context. None: PROMPT_TOO_LONG."""
    room = facts.context_length - sampling.max_new_tokens
    return encode_prompt(facts.tokenizer, messages, min(sampling.max_prompt_length, room), keep_turns)


def _requests(
    facts: PolicyFacts,
    item: PromptItem,
    sampling: SamplingSettings,
    recipe: RecipeSettings,
    iteration: int,
    seed: int,
) -> Iterator[SamplingRequest]:
    """The samples of a prompt, without those (guided or not) whose prompt does not fit."""
    guided_samples = [_is_guided(item, recipe, iteration, number, seed) for number in range(recipe.samples)]
    prompts = {guided: _prompt(facts, item, sampling, guided) for guided in set(guided_samples)}
    for number, guided in enumerate(guided_samples):
        messages, encoded = prompts[guided]
        key = f"{seed}/{item.prompt_id}/{iteration}/{number}"
        if encoded is not None:
            yield SamplingRequest(
                item.prompt_id, item.conversation_id, number, guided, messages, encoded.ids, encoded.dropped_turns, key
            )


def _prompt(
    facts: PolicyFacts, item: PromptItem, sampling: SamplingSettings, guided: bool
) -> tuple[tuple[ChatMessage, ...], EncodedPrompt | None]:
    """What the policy sees, as messages and as ids; None: PROMPT_TOO_LONG."""
    messages = guided_messages(item) if guided else item.prompt
    encoded = fit_prompt(facts, messages, sampling, 1 + guided)
    return tuple(without_turns(messages, encoded.dropped_turns if encoded else 0)), encoded


def _is_guided(item: PromptItem, recipe: RecipeSettings, iteration: int, number: int, seed: int) -> bool:
    """Drawn from a hash of the prompt's id, so that the guided prompts do not depend on what else is sampled.

    Where a recipe ranks the samples (IterDPO), the share is of each prompt's samples: the first ones are guided.
    """
    if item.rejected is None or item.complaint is None:
        return False
    if recipe.rules.ranks:
        return number < round(recipe.guided_share * recipe.samples)
    digest = hashlib.sha256(f"guided/{seed}/{item.prompt_id}/{iteration}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < recipe.guided_share
