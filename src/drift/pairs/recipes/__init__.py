"""A recipe is a way to build pairs; everything else of the loop is the same for all of them."""

from drift.pairs.recipes import drift, iter_dpo, logs, random_turns, spin
from drift.pairs.recipes.recipe import Recipe, RecipeInputs, resize_to

RECIPES = {module.NAME: module.RECIPE for module in (drift, spin, iter_dpo, logs, random_turns)}

__all__ = ["RECIPES", "Recipe", "RecipeInputs", "resize_to"]
