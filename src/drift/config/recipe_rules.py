"""Every recipe by name, with what it needs of a run, and the values of its settings."""

from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from drift.records import LossName, PromptKind


class RecipeRules(NamedTuple):
    """What a recipe needs of a run.

    `prompts`: it uses the requests of these replies. `samples`: the policy answers again in every iteration; with
    `once`, in the first one alone. `scored`: it can use a scorer. `ranks`: it ranks several samples of one prompt, so
    it needs a scorer. `fixed_rejected`: every iteration sets a fresh chosen reply against the same logged reply.
    `loss`: the one loss that learns from its rows, because they are replies without a partner; None: its rows are
    pairs.
    """

    prompts: PromptKind = "disliked"
    samples: bool = True
    once: bool = False
    scored: bool = True
    ranks: bool = False
    fixed_rejected: bool = False
    loss: LossName | None = None

    @property
    def makes_pairs(self) -> bool:
        return self.loss is None

    @property
    def matches_length(self) -> bool:
        """True if `match_length` can choose among the samples of a prompt: nothing else does, and a logged reply says
        which length."""
        return self.fixed_rejected and not self.ranks

    @property
    def guides(self) -> bool:
        """True if there are complaints to show when the policy answers again."""
        return self.samples and self.prompts == "disliked"


RECIPE_RULES = {
    "drift": RecipeRules(fixed_rejected=True),
    "spin": RecipeRules(prompts="liked", scored=False),
    "best_of": RecipeRules(ranks=True, fixed_rejected=True),
    "iter_dpo": RecipeRules(ranks=True),
    "logs": RecipeRules(samples=False, scored=False),
    "random_turns": RecipeRules(prompts="random", fixed_rejected=True),
    "unpaired": RecipeRules(prompts="judged", samples=False, scored=False, loss="kto"),
    "liked": RecipeRules(prompts="liked", samples=False, scored=False, loss="sft"),
    "rlhi": RecipeRules(once=True, fixed_rejected=True),
    "follow_up": RecipeRules(prompts="followed", samples=False, scored=False, loss="self_distillation"),
    "fresh_follow_up": RecipeRules(prompts="followed", scored=False, loss="self_distillation"),
}
"""Every recipe, by name. pairs/recipes/NAME.py builds its pairs; a recipe needs no line anywhere else, unless it needs
another kind of prompts (start.py finds them)."""


def known_recipe(name: str) -> str:
    """Raises ValueError with the nearest right name."""
    if name not in RECIPE_RULES:
        near = get_close_matches(name, RECIPE_RULES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no such recipe: {name!r}; {hint}allowed: {', '.join(RECIPE_RULES)}")
    return name


def recipes_of(loss: LossName) -> tuple[str, ...]:
    """The recipes whose replies without a partner only this loss learns from; none for a loss that learns from pairs
    (`sft` takes their chosen side)."""
    return tuple(name for name, rules in RECIPE_RULES.items() if rules.loss == loss != "sft")


def check_loss(recipe: str, loss: LossName) -> None:
    """Raises ValueError if the loss cannot learn from the recipe's rows."""
    needed = RECIPE_RULES[recipe].loss
    if needed not in (None, loss):
        raise ValueError(
            f"recipe {recipe} gives replies without a partner, and training.loss={loss} needs pairs: set training.loss "
            f"to {needed}, or another recipe.name"
        )
    if needed is None and (fitting := recipes_of(loss)):
        raise ValueError(
            f"training.loss={loss} learns from replies without a partner, and recipe {recipe} makes pairs: set "
            f"recipe.name to {' or '.join(fitting)}, or another training.loss"
        )


def check_complaints(recipe: str, guided_share: float | Literal["auto"], own_majority: int | None) -> None:
    """Raises ValueError if the recipe cannot use the complaints as the settings say."""
    rules = RECIPE_RULES[recipe]
    if rules.once and guided_share != 1.0:
        raise ValueError(
            f"recipe {recipe} rewrites replies by what their user wrote, so all of its prompts are guided: set "
            f"recipe.guided_share=1, not {guided_share}, or recipe.name=drift"
        )
    if own_majority and rules.prompts != "disliked":
        raise ValueError(
            f"own_majority says which complaints are believed, and recipe {recipe} learns from other replies: remove it"
        )


def share_or_auto(share: Any) -> Any:
    """Raises ValueError for what is neither a share nor `auto`."""
    is_share = isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
    if share != "auto" and not is_share:
        raise ValueError(f"a share from 0 to 1, or auto; got {share!r}")
    return share
