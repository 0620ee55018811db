"""Reads ``recipes/*.toml``: which data, signals, features and models, and the funnel they form.

The keys of a table are the arguments of the thing it names; an unknown key is an error that names the line, the key and the nearest
right one. A recipe is checked whole when it is read, before anything is trained.
"""

from palate.recipe.tables import DRAWN, Plan, Recipe, RecipeError, RoutePlan

__all__ = ["DRAWN", "Plan", "Recipe", "RecipeError", "RoutePlan"]
