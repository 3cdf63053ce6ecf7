"""What a run is: the options of a recipe, their checks, and the recipes that come with pacos."""

from pacos.recipes.load import (
    eval_options,
    load_recipe,
    names,
    recipe_from_tree,
    recipe_to_yaml,
    resolved_tree,
    walk_fields,
)
from pacos.recipes.schema import EvalOptions, Recipe

__all__ = [
    "EvalOptions",
    "Recipe",
    "eval_options",
    "load_recipe",
    "names",
    "recipe_from_tree",
    "recipe_to_yaml",
    "resolved_tree",
    "walk_fields",
]
