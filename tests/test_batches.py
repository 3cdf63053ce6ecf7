"""Batches: each epoch holds each row once, whatever a batch is counted in; a step's rows depend on seed and step alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pacos.errors import UsageError
from pacos.recipes import recipe_from_tree, recipe_to_yaml
from pacos.training.batches import Batches, epoch_order
from tests.conftest import Cli


def batches(lengths: list[int], **changes: int) -> Batches:
    return Batches(lengths, **({"batch_size": 4, "batch_tokens": 0, "pack_tokens": 100, "seed": 0} | changes))


def rows_of(batch: list[list[int]]) -> list[int]:
    return [i for group in batch for i in group]


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_covers_each_row_exactly_once(num_rows: int, batch_size: int, seed: int) -> None:
    run = batches([10] * num_rows, batch_size=batch_size, seed=seed)
    seen = [i for step in range(run.steps_per_epoch) for i in rows_of(run.of_step(step))]
    assert sorted(seen) == list(range(num_rows))
    assert run.of_step(run.steps_per_epoch) == [epoch_order(num_rows, seed, 1)[:batch_size]]


@given(st.lists(st.integers(1, 130), min_size=1, max_size=60), st.integers(100, 400), st.integers(0, 5))
def test_every_epoch_of_packs_covers_each_row_exactly_once(lengths: list[int], batch_tokens: int, seed: int) -> None:
    run = batches(lengths, batch_tokens=batch_tokens, seed=seed)
    for epoch in range(3):
        steps = [run.of_step(epoch * run.steps_per_epoch + step) for step in range(run.steps_per_epoch)]
        assert sorted(i for batch in steps for i in rows_of(batch)) == list(range(len(lengths)))
        assert [len(batch) for batch in steps[:-1]] == [batch_tokens // 100] * (len(steps) - 1)
        groups = [group for batch in steps for group in batch]
        assert all(sum(lengths[i] for i in group) <= 100 or len(group) == 1 for group in groups)


@pytest.mark.parametrize("batch_tokens", [0, 200])
def test_a_step_has_the_same_rows_whatever_was_asked_before(batch_tokens: int) -> None:
    lengths = [10 + i % 37 for i in range(90)]
    through = batches(lengths, batch_tokens=batch_tokens)
    seen = [through.of_step(step) for step in range(3 * through.steps_per_epoch)]
    assert len(seen) > 30
    for step in (len(seen) - 1, 0, len(seen) // 2):
        assert batches(lengths, batch_tokens=batch_tokens).of_step(step) == seen[step] == through.of_step(step)


def test_epochs_and_seeds_pack_other_rows_together() -> None:
    lengths = [20] * 60
    run = batches(lengths, batch_tokens=300)
    drawn = [run.of_step(0), run.of_step(run.steps_per_epoch), batches(lengths, batch_tokens=300, seed=1).of_step(0)]
    assert len({tuple(rows_of(batch)) for batch in drawn}) == 3


def test_a_batch_of_tokens_takes_the_packs_that_fit_in_it() -> None:
    run = batches([50] * 10, batch_tokens=250)
    assert run.steps_per_epoch == 3
    assert [[len(group) for group in run.of_step(step)] for step in range(3)] == [[2, 2], [2, 2], [2]]


@pytest.mark.parametrize("batch_tokens", [0, 200])
def test_the_longest_batch_is_the_one_with_the_longest_row_and_begins_with_it(batch_tokens: int) -> None:
    lengths = [10] * 40
    lengths[13] = 90
    run = batches(lengths, batch_tokens=batch_tokens)
    assert 13 in run.longest(run.steps_per_epoch)[0]


def test_packs_of_a_whole_epoch_are_fuller_than_those_of_a_few_rows() -> None:
    assert batches([60, 60, 40, 40, 30], batch_size=5).fill == pytest.approx(230 / 300)
    assert batches([30] * 6, batch_size=2).fill == pytest.approx(180 / 300)
    assert batches([30] * 6, batch_tokens=100).fill == pytest.approx(180 / 200)
    assert batches([250, 50], batch_tokens=100).fill == pytest.approx(300 / 350)


def tokens_a_step(tiny_run: list[str], batch_tokens: int) -> list[str]:
    others = [argument for argument in tiny_run if "batch_size" not in argument]
    return [*others, "--set=train.batch_size=null", f"--set=train.batch_tokens={batch_tokens}"]


def test_a_step_of_tokens_trains_on_whole_packs(cli: Cli, tiny_run: list[str], tmp_path: Path) -> None:
    arguments = tokens_a_step(tiny_run, 256)
    code, out, err = cli(*arguments, "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["pack_fill"] == pytest.approx(0.8975, abs=1e-4)
    assert "batch_size" not in plan["recipe"]["train"]
    code, _, err = cli(*arguments, "--json")
    assert code == 0, err
    metrics = [json.loads(line) for line in (tmp_path / "runs/quickstart/metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in metrics] == [1, 2, 3, 4, 5, 6]
    assert all(100 < step["tokens"] <= 256 for step in metrics)


def test_a_run_in_steps_of_tokens_says_how_full_its_packs_are(cli: Cli, tiny_run: list[str]) -> None:
    code, out, _ = cli(*tokens_a_step(tiny_run, 256), "--dry-run")
    assert code == 0
    assert "packs of 128 tokens, 89.8% full with steps of 256 tokens" in out.splitlines()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"batch_tokens": 1000},
            "a.yaml: train.batch_tokens=1000 holds no pack of train.pack_tokens=2048; "
            "give a multiple of it, or 0 for batch_size rows a step",
        ),
        (
            {"batch_tokens": 4096, "batch_size": 16},
            "a.yaml: 'train.batch_size' has no effect with 'train.batch_tokens'; "
            "take it out (--set train.batch_size=null), or set train.batch_tokens to 0",
        ),
    ],
)
def test_batch_tokens_that_contradict_another_option_are_refused(train: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from_tree({"train": train}, "a.yaml")
    assert str(caught.value) == message


def test_a_recipe_with_batch_tokens_written_whole_reads_back_equal() -> None:
    recipe = recipe_from_tree({"train": {"batch_tokens": 4096}}, "a.yaml")
    assert recipe_from_tree(yaml.safe_load(recipe_to_yaml(recipe)), "b.yaml") == recipe


def test_the_longest_batch_of_very_many_steps_is_found_among_ten_epochs() -> None:
    run = batches([10 + i % 37 for i in range(90)])
    drawn: list[int] = []
    run._draw = lambda epoch: drawn.append(epoch) or Batches._draw(run, epoch)  # type: ignore[method-assign,func-returns-value]
    assert run.longest(10**9 * run.steps_per_epoch) == run.longest(10 * run.steps_per_epoch)
    assert max(drawn) == 9


def test_seeds_and_figures_that_cannot_be_used_are_refused_together() -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from_tree(
            {"train": {"seed": 2**63, "epochs": 1e308, "learning_rate": math.inf, "batch_size": 0}}, "a.yaml"
        )
    assert str(caught.value).splitlines() == [
        "a.yaml: train.epochs: 1e+308 is not accepted: input should be less than or equal to 1000000000",
        "a.yaml: train.learning_rate: inf is not accepted: input should be a finite number",
        "a.yaml: train.batch_size: 0 is not accepted: input should be greater than or equal to 1",
        "a.yaml: train.seed: 9223372036854775808 is not accepted: input should be less than 4294967296",
    ]


def test_the_largest_seed_draws_an_order() -> None:
    assert sorted(epoch_order(5, 2**32 - 1, 10**9)) == [0, 1, 2, 3, 4]
