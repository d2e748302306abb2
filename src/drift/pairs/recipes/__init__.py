"""A recipe is a way to build pairs; everything else in the loop is the same for all of them.

pairs/recipes/NAME.py holds `pairs(inputs)`. config.RECIPE_RULES lists the names, with what each needs of a run.
"""

from collections.abc import Callable
from importlib import import_module

from drift.config import RECIPE_RULES
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs, resize_to

RECIPES: dict[str, Callable[[RecipeInputs], PairsOrDrops]] = {
    name: import_module(f"drift.pairs.recipes.{name}").pairs for name in RECIPE_RULES
}

__all__ = ["RECIPES", "RecipeInputs", "resize_to"]
