"""A recipe is a way to build pairs; everything else of the loop is the same for all of them."""

from drift.pairs.recipes import drift

RECIPES = {drift.NAME: drift}
