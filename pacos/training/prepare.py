"""Recipe -> rows ready to train on, before any weight is loaded.

    file -> examples -> split (made once, by hash) -> rendered rows -> what is too long, what carries no loss

Everything here is cheap, so `--dry-run` and `--show-rows` stop behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pacos.data import Example, LoadedData, Split, divide, ensure_split, load_examples, split_path
from pacos.errors import DataError
from pacos.prompts import Rendered, Renderer
from pacos.recipes import Recipe
from pacos.training.packing import num_targets, steps_per_epoch

NAMED = 5
"""Rows named in a message before it says how many more there are."""


@dataclass(frozen=True)
class Rows:
    """Examples of one side of the split, and how the model sees them."""

    examples: list[Example]
    rendered: list[Rendered]

    @property
    def num_tokens(self) -> int:
        return sum(len(row.ids) for row in self.rendered)

    @property
    def num_targets(self) -> int:
        return sum(num_targets(row) for row in self.rendered)

    @property
    def num_cut(self) -> int:
        return sum(row.cut > 0 for row in self.rendered)


@dataclass(frozen=True)
class Prepared:
    """All that a run knows before it loads the model."""

    recipe: Recipe
    data: LoadedData
    split: Split
    split_file: Path
    renderer: Renderer
    train: Rows
    validation: Rows
    test: list[Example]
    notes: list[str]

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        options = self.recipe.train
        whole = steps_per_epoch(len(self.train.rendered), options.batch_size)
        steps = max(1, round(whole * options.epochs))
        return min(steps, options.max_steps) if options.max_steps else steps

    @property
    def rows_sha256(self) -> str:
        """Names the exact ids that are trained on, in order: a run resumes on these or not at all."""
        digest = hashlib.sha256()
        for row in [*self.train.rendered, *self.validation.rendered]:
            digest.update(np.asarray(row.ids, dtype=np.int64).tobytes())
            digest.update(np.asarray(row.loss_mask, dtype=np.bool_).tobytes() + b"|")
        return digest.hexdigest()


def prepare_rows(recipe: Recipe, renderer: Renderer, workspace: Path, tell: Callable[[str], None]) -> Prepared:
    """Read, split and render. Raises DataError with every row that cannot be trained on."""
    options = recipe.data
    tell("reading the data")
    data = load_examples(options.path, limit=options.limit, skip_bad=options.skip_bad_rows)
    tell("splitting")
    split, split_file = find_split(recipe, data, workspace)
    sides = divide(split, data.examples)
    if not sides["train"]:
        raise DataError(f"{options.path}: no row is left to train on ({len(data.examples)} read)")
    tell("tokenizing")
    chosen = sides["validation"][: recipe.train.eval_rows]
    train = render(sides["train"], renderer, recipe)
    validation = render(chosen, renderer, recipe)
    notes = [*data.problems, *data.left_out, *split.notes, *check_cut(train, recipe)]
    return Prepared(recipe, data, split, split_file, renderer, train, validation, sides["test"], notes)


def find_split(recipe: Recipe, data: LoadedData, workspace: Path) -> tuple[Split, Path]:
    """The split of this data under these settings: made the first time, read ever after."""
    options = recipe.data
    settings = {
        "validation_share": options.validation_share,
        "test_share": options.test_share,
        "seed": options.split_seed,
        "near_threshold": options.near_duplicate,
    }
    path = (
        Path(options.split)
        if options.split
        else split_path(workspace, options.path, data.sha256, {**settings, "limit": options.limit})
    )
    return ensure_split(path, data.examples, **settings), path


def render(examples: Sequence[Example], renderer: Renderer, recipe: Recipe) -> Rows:
    """Raises DataError with every row that cannot be trained on: no room for an answer, or no token that carries loss."""
    rows = Rows(list(examples), renderer.render_examples(examples, recipe.train.max_length))
    wrong = [
        line
        for e, r in zip(rows.examples, rows.rendered, strict=True)
        if (line := unfit(e, r, recipe.train.max_length))
    ]
    if wrong:
        raise DataError(
            f"{recipe.data.path}: {len(wrong)} rows cannot be trained on; raise train.max_length, or leave them out",
            some(wrong),
        )
    return rows


def unfit(example: Example, row: Rendered, max_length: int) -> str:
    """Why a row cannot be trained on; empty where it can."""
    place = f"{example.source or 'row'} ({example.id})"
    if not row.fits:
        return f"{place}: the prompt alone leaves no room for an answer in {max_length} tokens ({len(row.ids)} in all)"
    return "" if num_targets(row) else f"{place}: no token of it carries loss"


def some(lines: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [*lines[:NAMED], *more]


def check_cut(rows: Rows, recipe: Recipe) -> list[str]:
    """A line on the rows whose answers were cut. Raises DataError where they are more than the recipe allows."""
    if not rows.num_cut:
        return []
    cut = [(e, r) for e, r in zip(rows.examples, rows.rendered, strict=True) if r.cut]
    share = len(cut) / len(rows.rendered)
    tokens = sum(r.cut for _, r in cut)
    message = (
        f"{len(cut)} of {len(rows.rendered)} rows ({share:.1%}) are longer than train.max_length={recipe.train.max_length}; "
        f"{tokens} response tokens are cut from their ends, the stop token kept"
    )
    named = [f"{e.source or e.id}: {r.cut} tokens cut" for e, r in cut]
    if share > recipe.data.max_cut_share:
        raise DataError(
            f"{message}.\n  More than data.max_cut_share={recipe.data.max_cut_share:.1%} allows: raise train.max_length, "
            f"or allow it with --set data.max_cut_share={share + 0.005:.2f}",
            some(named),
        )
    return [f"{message}: {', '.join(some([e.source or e.id for e, _ in cut]))}"]
