"""A row has one side, decided by its content, and copies never stand on two."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacos.data import (
    Example,
    Split,
    check_split,
    divide,
    ensure_split,
    find_trained,
    load_examples,
    load_split,
    make_split,
    near_matches,
    prompt_text,
    rows_of,
    save_split,
    split_path,
)
from pacos.errors import DataError, UsageError

SETTINGS = {"validation_share": 0.1, "test_share": 0.2, "seed": 42, "near_threshold": 0.8}


def rows(count: int, seed: int = 0) -> list[Example]:
    """Examples that have nothing in common."""
    draw = random.Random(seed)
    words = [[f"w{draw.randrange(10**9)}" for _ in range(8)] for _ in range(count)]
    return [Example(" ".join(ws[:6]), output=" ".join(ws[6:]), source=f"a.jsonl:{n}") for n, ws in enumerate(words, 1)]


def ids(examples: list[Example]) -> set[str]:
    return {example.id for example in examples}


few_words = st.lists(st.sampled_from(["sort", "list", "a", "b", "c", "sum", "of"]), min_size=1, max_size=8).map(
    " ".join
)
examples_with_copies = st.lists(
    st.builds(
        Example,
        instruction=few_words,
        input=st.sampled_from(["", "one two three four", "one two three four!"]),
        output=st.sampled_from(["x", "y"]),
        lineage=st.lists(st.sampled_from([f"s{n}" for n in range(30)]), max_size=1).map(tuple),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(examples_with_copies, st.integers(0, 5), st.randoms())
def test_sides_cover_all_rows_once_in_any_order_and_copies_stay_together(
    examples: list[Example], seed: int, shuffler: random.Random
) -> None:
    split = make_split(examples, **{**SETTINGS, "seed": seed})
    assert sorted([*split.train, *split.validation, *split.test]) == sorted(ids(examples))
    shuffled = list(examples)
    shuffler.shuffle(shuffled)
    assert make_split(shuffled, **{**SETTINGS, "seed": seed}) == split
    parts = divide(split, examples)
    held_out = [*parts["validation"], *parts["test"]]
    train = [prompt_text(example) for example in parts["train"]]
    assert near_matches([prompt_text(e) for e in held_out], train, 0.8) == [None] * len(held_out)
    assert not {a for e in held_out for a in e.lineage} & {a for e in parts["train"] for a in e.lineage}


def test_shares_are_met_and_the_seed_changes_the_rows() -> None:
    examples = rows(2000)
    split = make_split(examples, **SETTINGS)
    assert len(split.test) == pytest.approx(400, abs=60)
    assert len(split.validation) == pytest.approx(200, abs=45)
    other = make_split(examples, **{**SETTINGS, "seed": 43})
    assert set(split.test) != set(other.test)
    assert split.sha256 != other.sha256


def test_rows_added_later_move_no_old_row() -> None:
    old, new = rows(200), rows(300, seed=9)
    before, after = make_split(old, **SETTINGS).side_of(), make_split([*new, *old], **SETTINGS).side_of()
    assert {row: after[row] for row in before} == before
    assert len(after) == 500


def test_a_few_rows_still_give_each_side_one() -> None:
    split = make_split(rows(3), validation_share=0.01, test_share=0.01, seed=1, near_threshold=0.8)
    assert (len(split.train), len(split.validation), len(split.test)) == (1, 1, 1)
    assert len(make_split(rows(1), **SETTINGS).train) == 1
    assert make_split([], **SETTINGS).train == ()


def test_no_share_holds_nothing_out() -> None:
    split = make_split(rows(50), validation_share=0, test_share=0, seed=1, near_threshold=0.8)
    assert (len(split.train), split.validation, split.test) == (50, (), ())


def test_a_family_larger_than_a_held_out_side_is_trained_on() -> None:
    examples = [replace(row, lineage=("seed_1",)) if n < 60 else row for n, row in enumerate(rows(100))]
    for seed in range(10):
        split = make_split(examples, **{**SETTINGS, "seed": seed})
        assert ids(examples[:60]) <= set(split.train)


def declare(examples: list[Example], sides: list[str]) -> list[Example]:
    return [replace(e, extra={"split": side}) for e, side in zip(examples, sides, strict=True)]


def test_a_declared_split_is_taken_as_it_is() -> None:
    examples = declare(rows(9), ["train", "valid", "test"] * 3)
    split = make_split(examples, **SETTINGS)
    assert [rows_of(split, examples, side) for side in ("train", "validation", "test")] == [
        examples[0::3],
        examples[1::3],
        examples[2::3],
    ]
    assert split.notes == ()


def test_a_side_that_nobody_declared_is_drawn_from_the_training_rows() -> None:
    examples = declare(rows(60), ["train", "train", "test"] * 20)
    split = make_split(examples, **SETTINGS)
    assert set(split.test) == ids(examples[2::3])
    assert 1 <= len(split.validation) <= 12
    assert set(split.validation) <= ids(examples) - ids(examples[2::3])


def test_a_column_that_says_only_train_or_means_something_else_declares_nothing() -> None:
    for word in ("train", "english"):
        split = make_split(declare(rows(60), [word] * 60), **SETTINGS)
        assert split == make_split(rows(60), **SETTINGS)
        assert split.test


def test_a_split_column_with_gaps_is_an_error_that_names_the_rows() -> None:
    examples = [*declare(rows(2), ["train", "test"]), rows(3)[2], *declare(rows(4)[3:], ["held"])]
    with pytest.raises(DataError) as caught:
        make_split(examples, **SETTINGS)
    assert str(caught.value).splitlines() == [
        "2 rows have no side in the column 'split'; give train, validation or test",
        "  a.jsonl:3: 'split' is 'missing'",
        "  a.jsonl:4: 'split' is 'held'",
    ]


def test_a_prompt_declared_on_two_sides_is_an_error_that_names_both() -> None:
    one, other = rows(2)
    copy = replace(one, instruction=f"{one.instruction.upper()}!", output="another answer", source="a.jsonl:3")
    with pytest.raises(DataError) as caught:
        make_split(declare([one, other, copy], ["train", "train", "test"]), **SETTINGS)
    assert caught.value.problems == (f"a.jsonl:3 ({copy.id}, test) asks the same as a.jsonl:1 ({one.id}, train)",)


def test_near_copies_and_families_across_declared_sides_stay_and_are_noted() -> None:
    long = Example(" ".join(f"w{n}" for n in range(30)), output="x", lineage=("s1",))
    copy = replace(long, instruction=f"{long.instruction} more")
    split = make_split(
        declare([long, copy], ["train", "test"]), validation_share=0, test_share=0.1, seed=0, near_threshold=0.8
    )
    assert (split.train, split.test) == ((long.id,), (copy.id,))
    assert split.notes == (
        f"test row {copy.id} is 97% similar to training row {long.id}",
        "rows of lineage s1 are in test, train",
    )


def test_a_saved_split_reads_back_equal(tmp_path: Path) -> None:
    examples = rows(40)
    split = make_split(examples, **SETTINGS)
    save_split(split, tmp_path / "deep" / "split.json")
    again = load_split(tmp_path / "deep" / "split.json")
    assert again == split
    assert again.sha256 == split.sha256
    assert [again.train_prompts[n].tolist() for n in range(len(split.train))] == [
        split.train_prompts[n].tolist() for n in range(len(split.train))
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["split.json"]


def test_a_split_is_made_once_and_reused(tmp_path: Path) -> None:
    examples, path = rows(40), tmp_path / "split.json"
    first = ensure_split(path, examples, **SETTINGS)
    written = path.read_bytes()
    assert ensure_split(path, examples, **{**SETTINGS, "seed": 7}) == first
    assert path.read_bytes() == written


def test_rows_that_changed_since_are_named() -> None:
    examples = rows(40)
    split = make_split(examples, **SETTINGS)
    check_split(split, examples[:20])
    changed = [replace(examples[0], output="edited"), *examples[1:]]
    with pytest.raises(DataError) as caught:
        check_split(split, changed, place="s.json")
    assert str(caught.value).splitlines() == [
        "s.json: 1 of 40 rows are on no side: the data changed since the split was made; "
        "restore the data, or remove the split file and train anew, or evaluate them as a dataset of their own",
        f"  a.jsonl:1 ({changed[0].id})",
    ]
    with pytest.raises(DataError, match="1 of 40 rows are on no side"):
        rows_of(split, changed, "test")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tree: tree.pop("train"),
        lambda tree: tree.update(test=None),
        lambda tree: tree.update(test=["no id"]),
        lambda tree: tree.update(version=9),
        lambda tree: tree["test"].append(tree["train"][0]),
        lambda tree: tree["train"].pop(),
        lambda tree: tree["train_prompts"].update(values="AAAA"),
        lambda tree: tree["train_prompts"].update(sizes="?"),
    ],
)
def test_a_spoiled_split_file_is_refused(tmp_path: Path, spoil) -> None:
    path = tmp_path / "split.json"
    save_split(make_split(rows(40), **SETTINGS), path)
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"split\.json: .*(remove it|make a new one)"):
        load_split(path)


def test_a_split_that_is_missing_or_cut_off_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split can be read here: No such file or directory"):
        load_split(tmp_path / "split.json")
    (tmp_path / "split.json").write_text('{"version": 1, "train": [')
    with pytest.raises(DataError, match="not a whole split file"):
        load_split(tmp_path / "split.json")
    (tmp_path / "split.json").write_text("[1]")
    with pytest.raises(DataError, match="not a whole split file"):
        load_split(tmp_path / "split.json")


def test_what_was_trained_on_is_found_exactly_nearly_and_without_the_data(tmp_path: Path) -> None:
    examples = [Example(" ".join(f"{n}w{m}" for m in range(20)), output="x") for n in range(30)]
    save_split(make_split(examples, **SETTINGS), tmp_path / "split.json")
    split: Split = load_split(tmp_path / "split.json")
    parts = divide(split, examples)
    trained = parts["train"][0]
    near = replace(trained, instruction=f"{trained.instruction} please", output="y")
    asked = [trained, near, replace(trained, output="other answer"), parts["test"][0], rows(1)[0]]
    found = find_trained(split, asked)
    assert [(t.number, t.id, t.train_id) for t in found] == [(n, asked[n].id, trained.id) for n in range(3)]
    assert [t.similarity for t in found] == [1.0, 18 / 19, 1.0]
    assert [t.number for t in find_trained(split, asked, threshold=0.99)] == [0, 2]
    assert find_trained(split, [*parts["test"], *parts["validation"]]) == []


def test_the_default_place_of_a_split_is_named_after_data_and_settings(tmp_path: Path) -> None:
    one = split_path(tmp_path, "../shared/alpaca_data.json", "abc", SETTINGS)
    assert one.parent == tmp_path / "splits"
    assert one.name.startswith("alpaca_data-")
    assert len(one.stem) == len("alpaca_data-") + 8
    assert one == split_path(tmp_path, "elsewhere/alpaca_data.json", "abc", dict(reversed(SETTINGS.items())))
    assert one != split_path(tmp_path, "alpaca_data.json", "abd", SETTINGS)
    assert one != split_path(tmp_path, "alpaca_data.json", "abc", {**SETTINGS, "seed": 1})
    assert split_path(tmp_path, "yahma/alpaca-cleaned", "abc", {}).name.startswith("yahma-alpaca-cleaned-")


def test_the_starter_set_splits_as_it_declares() -> None:
    examples = load_examples("starter").examples
    split = make_split(examples, **SETTINGS)
    parts = divide(split, examples)
    for side, held in parts.items():
        assert held
        assert {e.extra["split"] for e in held} == {side}
