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

from pacos.data import SIDES, Example, LoadedData, Split, divide, ensure_split, load_examples, split_path
from pacos.errors import DataError
from pacos.prompts import Rendered, Renderer
from pacos.recipes import Recipe
from pacos.training.batches import num_targets, steps_per_epoch
from pacos.training.lengths import Row, check_lengths


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
    def watched(self) -> list[Rendered]:
        """The validation rows that are looked at while training."""
        return self.validation.rendered[: self.recipe.train.eval_rows]

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
        for row in [*self.train.rendered, *self.watched]:
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
    rows = {
        side: list(zip(examples, render(examples, renderer, recipe), strict=True)) for side, examples in sides.items()
    }
    long = check_lengths([row for side in rows.values() for row in side], recipe)
    train, validation, test = (fitting(rows[side]) for side in SIDES)
    notes = [*data.problems, *data.left_out, *split.notes, *long]
    return Prepared(recipe, data, split, split_file, renderer, train, validation, test.examples, notes)


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


def render(examples: Sequence[Example], renderer: Renderer, recipe: Recipe) -> list[Rendered]:
    return renderer.render_examples(examples, recipe.train.max_length)


def fitting(rows: Sequence[Row]) -> Rows:
    """The rows that have room for an answer."""
    kept = [(example, row) for example, row in rows if row.fits]
    return Rows([example for example, _ in kept], [row for _, row in kept])
