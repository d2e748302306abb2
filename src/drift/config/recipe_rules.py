"""Every recipe by name, with what it needs of a run. pairs/recipes/NAME.py builds its pairs."""

from difflib import get_close_matches
from typing import Literal, NamedTuple


class RecipeRules(NamedTuple):
    """What a recipe needs of a run.

    `prompts`: it uses the requests of disliked, liked or random replies. `samples`: the policy answers again in every
    iteration. `scored`: it can use a scorer. `ranks`: it ranks several samples of one prompt, so it needs a scorer.
    `fixed_rejected`: every iteration sets a fresh chosen reply against the same logged reply.
    """

    prompts: Literal["disliked", "liked", "random"] = "disliked"
    samples: bool = True
    scored: bool = True
    ranks: bool = False
    fixed_rejected: bool = False


RECIPE_RULES = {
    "drift": RecipeRules(fixed_rejected=True),
    "spin": RecipeRules(prompts="liked", scored=False),
    "best_of": RecipeRules(ranks=True, fixed_rejected=True),
    "iter_dpo": RecipeRules(ranks=True),
    "logs": RecipeRules(samples=False, scored=False),
    "random_turns": RecipeRules(prompts="random", fixed_rejected=True),
}
"""Every recipe, by name. pairs/recipes/NAME.py builds its pairs; a recipe needs no line anywhere else."""


def known_recipe(name: str) -> str:
    """Raises ValueError with the nearest right name."""
    if name not in RECIPE_RULES:
        near = get_close_matches(name, RECIPE_RULES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no such recipe: {name!r}; {hint}allowed: {', '.join(RECIPE_RULES)}")
    return name
