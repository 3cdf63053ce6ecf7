"""Recipe -> rows ready to train on, before any weight is loaded.

    file -> examples -> split (made once, by hash) -> rendered rows -> what is too long, what carries no loss

Everything here is cheap, so `--dry-run` and `--show-rows` stop behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from pacos.data import SIDES, Example, LoadedData, Split, ensure_split, load_examples, split_path
from pacos.errors import DataError
from pacos.prompts import Renderer, RowTable, largest_id, make_contract
from pacos.recipes import Recipe
from pacos.training.batches import Batches
from pacos.training.lengths import check_lengths
from pacos.training.token_cache import render_once


@dataclass(frozen=True)
class Rows:
    """Examples of one side of the split, and how the model sees them."""

    examples: list[Example]
    rendered: RowTable

    @property
    def num_tokens(self) -> int:
        return len(self.rendered.ids)

    @property
    def num_targets(self) -> int:
        return int(self.rendered.num_targets.sum())

    @property
    def num_cut(self) -> int:
        return int((self.rendered.cut > 0).sum())


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
    def watched(self) -> RowTable:
        """The validation rows that are looked at while training."""
        return self.validation.rendered[: self.recipe.train.eval_rows]

    @cached_property
    def batches(self) -> Batches:
        options = self.recipe.train
        return Batches(
            self.train.rendered.lengths.tolist(),
            batch_size=options.batch_size,
            batch_tokens=options.batch_tokens,
            pack_tokens=options.pack_tokens,
            seed=options.seed,
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        options = self.recipe.train
        steps = max(1, round(self.batches.steps_per_epoch * options.epochs))
        return min(steps, options.max_steps) if options.max_steps else steps

    @property
    def largest_id(self) -> int:
        """The largest token id among the rows that the model will read, and in the prompt contract."""
        read = (self.train.rendered.ids, self.watched.ids)
        return max(largest_id(make_contract(self.renderer)), *(int(ids.max(initial=0)) for ids in read))

    @property
    def rows_sha256(self) -> str:
        """Names the exact ids that are trained on, in order: a run resumes on these or not at all."""
        digest = hashlib.sha256()
        for table in (self.train.rendered, self.watched):
            ids, mask = table.ids.astype(np.int64).data, table.mask.data
            for start, end in pairwise(table.starts.tolist()):
                digest.update(ids[start:end])
                digest.update(mask[start:end])
                digest.update(b"|")
        return digest.hexdigest()


def prepare_rows(recipe: Recipe, renderer: Renderer, workspace: Path, tell: Callable[[str], None]) -> Prepared:
    """Read, split and render. Raises DataError with every row that cannot be trained on."""
    options = recipe.data
    tell("reading the data")
    data = load_examples(options.path, limit=options.limit, skip_bad=options.skip_bad_rows)
    tell("splitting")
    split, split_file = find_split(recipe, data, workspace)
    side_of = split.side_of()
    sides = np.array([side_of[example.id] for example in data.examples])
    if "train" not in sides:
        raise DataError(f"{options.path}: no row is left to train on ({len(data.examples)} read)")
    tell("tokenizing")
    rendered = render_once(data.examples, renderer, recipe.train.max_length, tell)
    long = check_lengths(data.examples, rendered, recipe)
    train, validation, test = (rows_at((sides == side) & rendered.fits, data.examples, rendered) for side in SIDES)
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


def rows_at(wanted: np.ndarray, examples: Sequence[Example], rendered: RowTable) -> Rows:
    """The rows that are `wanted`, a bool for each, in the order of the data."""
    places = np.flatnonzero(wanted)
    return Rows([examples[i] for i in places.tolist()], rendered.take(places))
