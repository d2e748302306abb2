"""The inputs of a recipe, and the helpers that build a pair from two replies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, zip_longest

from drift.records import ChatMessage, Completion, Drop, Finish, PreferencePair, PromptItem, Reason, Score, stable_hash

PairsOrDrops = Iterator[PreferencePair | Drop]


@dataclass(frozen=True, slots=True)
class RecipeInputs:
    """What a recipe builds pairs from, by prompt_id and sample.

    `scores`: empty without a scorer. `unlearned`: prompts whose disliked reply is unlearned and so retired.
    """

    items: Mapping[str, PromptItem]
    completions: tuple[Completion, ...] = ()
    scores: Mapping[tuple[str, int], Score] = field(default_factory=dict)
    unlearned: frozenset[str] = frozenset()
    drop_unfinished: bool = False

    def score(self, completion: Completion) -> Score | None:
        return self.scores.get((completion.prompt_id, completion.sample))


def fresh_against(
    recipe: str,
    item: PromptItem,
    completion: Completion,
    chosen: ChatMessage,
    rejected: ChatMessage,
    rejected_finish: Finish = "stop",
) -> PreferencePair:
    """A pair of which at least one side is `completion`'s text; its token ids are kept if it is the chosen."""
    is_chosen = chosen == completion.message
    return PreferencePair(
        pair_id=stable_hash(recipe, item.prompt_id, completion.iteration, completion.sample),
        prompt_id=item.prompt_id,
        conversation_id=item.conversation_id,
        reply_index=item.reply_index,
        recipe=recipe,
        iteration=completion.iteration,
        policy_id=completion.policy_id,
        prompt=item.prompt,
        chosen=(chosen,),
        rejected=(rejected,),
        user_key=item.user_key,
        chosen_token_ids=completion.token_ids if is_chosen else None,
        finish=completion.finish if is_chosen else "stop",
        rejected_finish=rejected_finish,
        weight=item.weight,
        noise=item.noise,
        split=item.split,
        tools=item.tools,
        family=item.family,
    )


def with_margin(pair: PreferencePair, chosen: float | None, rejected: float | None, source: str) -> PreferencePair:
    """The pair with the scorer's margin: chosen minus rejected."""
    if chosen is None or rejected is None:
        return pair
    return replace(pair, margin=chosen - rejected, margin_source=source)


def unusable(completion: Completion, drop_unfinished: bool) -> Reason | None:
    """Why a fresh reply can be neither side of a pair."""
    if completion.finish == "error":
        return Reason.SAMPLING_ERROR
    if not completion.text.strip() and not completion.tool_calls:
        return Reason.CUT_THOUGHT if completion.reasoning else Reason.EMPTY_CHOSEN
    return Reason.TRUNCATED if completion.finish == "length" and drop_unfinished else None


def scored_samples(inputs: RecipeInputs, completions: Iterable[Completion]) -> list[tuple[float, Score, Completion]]:
    """The completions that can stand in a pair and have a score, each with its score's value first."""
    usable = (c for c in completions if unusable(c, inputs.drop_unfinished) is None)
    return [(s.score, s, c) for c in usable if (s := inputs.score(c)) is not None and s.score is not None]


def why_unscored(inputs: RecipeInputs, completions: Sequence[Completion]) -> Reason:
    """Why a prompt has no scored sample: none of them is usable, or nobody scored them."""
    reasons = [unusable(completion, inputs.drop_unfinished) for completion in completions]
    return Reason.UNSCORED if None in reasons else reasons[0] or Reason.EMPTY_CHOSEN


def resize_to(count: int, rows: Iterable[PreferencePair | Drop]) -> PairsOrDrops:
    """`count` pairs and all drops: pairs of different prompts first; from the beginning again where there are too few.

    So every arm of a comparison gets the same number of updates. Pairs beyond `count` are drops too. Without any pair,
    there are none to repeat.
    """
    groups: dict[str, list[PreferencePair]] = {}
    for row in rows:
        if isinstance(row, Drop):
            yield row
        else:
            groups.setdefault(row.prompt_id, []).append(row)
    ordered = sorted(groups.values(), key=lambda group: stable_hash("order", group[0].prompt_id))
    pairs = [pair for one_each in zip_longest(*ordered) for pair in one_each if pair is not None]
    yield from islice(cycle(pairs), count)
    yield from (Drop(pair.pair_id, Reason.BEYOND_RECIPE_PAIRS) for pair in pairs[count:])
