"""The requests to the policy: one for each sample of each prompt, the same for every backend."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import Field, PositiveInt

from drift.config import RecipeSettings, SamplingSettings, Settings
from drift.errors import ConfigError
from drift.policy.chat import EncodedPrompt, encode_prompt
from drift.policy.guided import guided_messages, guided_turns
from drift.policy.model import PolicyFacts
from drift.policy.samplers.backend import SamplingRequest
from drift.records import ChatMessage, Guidance, PromptItem, Reason


class FreshReplies(Settings):
    """What a recipe asks of the policy: the part of it that the stage `completions` depends on. So with another scorer,
    `only_wins` or `pairs`, a resumed run keeps the fresh replies of its first iteration.

    `samples`: replies per prompt. `guided_share`: share of the prompts that are guided; with `guides_samples`, share of
    each prompt's samples.
    """

    samples: PositiveInt = 1
    guided_share: float = Field(default=0.0, ge=0.0, le=1.0)
    guides_samples: bool = False
    guidance: Guidance = "turn"

    @classmethod
    def of(cls, recipe: RecipeSettings) -> "FreshReplies":
        """Raises ConfigError for `guided_share: auto`."""
        if not recipe.rules.guides or not recipe.known_guided_share:
            return cls(samples=recipe.samples)
        return cls(
            samples=recipe.samples,
            guided_share=recipe.known_guided_share,
            guides_samples=recipe.rules.ranks,
            guidance=recipe.guidance,
        )


def build_requests(
    facts: PolicyFacts,
    items: Sequence[PromptItem],
    sampling: SamplingSettings,
    fresh: FreshReplies,
    iteration: int,
    seed: int,
) -> tuple[list[SamplingRequest], Counter[str]]:
    """The requests, in the order of the items, and counts of what was shortened, adapted to the template or dropped.

    An item of which no sample fits is dropped for the reason of its first one.
    """
    facts = replace(facts, chat=facts.chat.for_sampling)
    requests: list[SamplingRequest] = []
    tally: Counter[str] = Counter()
    for item in items:
        samples = list(_requests(facts, item, sampling, fresh, iteration, seed))
        fitting = [sample for sample in samples if isinstance(sample, SamplingRequest)]
        requests += fitting
        dropped = next((sample for sample in samples if isinstance(sample, Reason)), Reason.PROMPT_TOO_LONG)
        tally[f"dropped.{dropped}"] += not fitting
        tally["shortened_prompts"] += any(request.prompt.dropped_turns for request in fitting)
        tally.update({f"adapted.{name}": 1 for request in fitting for name in request.prompt.adapted})
        tally["tools_not_shown"] += any(request.prompt.hides_tools for request in fitting)
    return requests, tally


def fit_prompt(
    facts: PolicyFacts,
    messages: Sequence[ChatMessage],
    sampling: SamplingSettings,
    keep_turns: int = 1,
    tools: str | None = None,
    give_opening: bool = True,
) -> EncodedPrompt | Reason:
    """The prompt's ids with room left for the reply in the model's context. Raises ConfigError if the reply may take
    all of it."""
    room = facts.context_length - sampling.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"sampling.max_new_tokens: {sampling.max_new_tokens}: the model uses {facts.context_length} positions, so "
            "no prompt has room before such a reply. Lower it (in a command, --max-new-tokens)."
        )
    limit = min(sampling.max_prompt_length, room)
    return encode_prompt(facts.chat, messages, limit, keep_turns, tools, give_opening)


def _requests(
    facts: PolicyFacts,
    item: PromptItem,
    sampling: SamplingSettings,
    fresh: FreshReplies,
    iteration: int,
    seed: int,
) -> Iterator[SamplingRequest | Reason]:
    """The samples of a prompt; a reason for those (guided or not) whose prompt does not fit."""
    guided_samples = [_is_guided(item, fresh, iteration, number, seed) for number in range(fresh.samples)]
    prompts = {guided: _prompt(facts, item, sampling, fresh.guidance, guided) for guided in set(guided_samples)}
    for number, guided in enumerate(guided_samples):
        prompt = prompts[guided]
        key = f"{seed}/{item.prompt_id}/{iteration}/{number}"
        if isinstance(prompt, Reason):
            yield prompt
        else:
            ids = (*prompt.ids, *prompt.given)
            yield SamplingRequest(
                item.prompt_id, item.conversation_id, number, guided, prompt.messages, ids, key, prompt, item.tools
            )


def _prompt(
    facts: PolicyFacts, item: PromptItem, sampling: SamplingSettings, guidance: Guidance, guided: bool
) -> EncodedPrompt | Reason:
    """What the policy sees. A reply that was a call is sampled anew without an opening, which would be a text's."""
    messages = guided_messages(item, guidance) if guided else item.prompt
    is_text = item.rejected is None or not item.rejected.tool_calls
    return fit_prompt(facts, messages, sampling, guided_turns(guidance) if guided else 1, item.tools, is_text)


def _is_guided(item: PromptItem, fresh: FreshReplies, iteration: int, number: int, seed: int) -> bool:
    """Drawn from a hash of the prompt's id, so that the guided prompts do not depend on what else is sampled.

    Where a recipe ranks the samples (best_of, iter_dpo), the share is of each prompt's samples: the first ones are
    guided, and whether one more is, if the share is no whole number of them, is drawn.
    """
    if item.rejected is None or item.complaint is None:
        return False
    share = fresh.guided_share * fresh.samples - number if fresh.guides_samples else fresh.guided_share
    digest = hashlib.sha256(f"guided/{seed}/{item.prompt_id}/{iteration}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share
