"""The project's own data: the starter set is right, held out as it says, made again byte for byte; the seeds vary."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rapidfuzz.distance import LCSseq

from pacos.data import load_examples, make_split

REPO = Path(__file__).resolve().parents[1]
STARTER = REPO / "pacos" / "data" / "starter" / "starter.jsonl"
SEEDS = REPO / "pacos" / "data" / "seeds" / "seed_tasks.jsonl"
STANFORD = REPO.parent / "shared" / "data" / "alpaca" / "seed_tasks.jsonl"
SIMILAR = 0.7
"""Self-Instruct's limit: instructions with a larger ROUGE-L F are not new."""


def script(name: str) -> Any:
    """A module of scripts/, which is no package of the installation."""
    if str(REPO / "scripts") not in sys.path:
        sys.path.append(str(REPO / "scripts"))
    return importlib.import_module(name)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return read(STARTER)


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    return {family.name: family for family in script("starter.families").families()}


@pytest.fixture(scope="module")
def seeds() -> list[dict[str, Any]]:
    return read(SEEDS)


def of_split(rows: list[dict[str, Any]], *splits: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["split"] in splits]


def shingles(row: dict[str, Any]) -> set[tuple[str, str]]:
    words = re.findall(r"\w+", f"{row['instruction']} {row['input']}".casefold())
    return set(itertools.pairwise(words))


def test_the_script_makes_the_packaged_file_again_byte_for_byte():
    maker = script("make_starter")
    assert maker.to_jsonl(maker.make_rows()).encode() == STARTER.read_bytes()


def test_the_set_has_the_rows_and_families_that_it_promises(rows: list[dict[str, Any]]):
    held_out = Counter((row["split"], row["held_out"]) for row in rows)
    assert held_out == {
        ("train", ""): 1236,
        ("validation", ""): 93,
        ("test", "parameters"): 144,
        ("test", "wording"): 42,
        ("test", "family"): 30,
    }
    assert len({row["family"] for row in rows}) == 57
    assert {row["source"] for row in rows} == {"starter"}
    assert all(list(row) == ["instruction", "input", "output", "family", "split", "held_out", "source"] for row in rows)


def test_most_training_rows_copy_or_reshape(rows: list[dict[str, Any]], families: dict[str, Any]):
    train = of_split(rows, "train")
    assert sum(not families[row["family"]].hard for row in train) / len(train) == pytest.approx(0.883, abs=0.001)


def test_the_data_room_reads_the_set_and_takes_its_split_without_a_remark(rows: list[dict[str, Any]]):
    loaded = load_examples("starter")
    assert (len(loaded.examples), loaded.problems) == (len(rows), [])
    split = make_split(loaded.examples, validation_share=0.03, test_share=0.05, seed=42, near_threshold=0.8)
    assert (len(split.train), len(split.validation), len(split.test)) == (1236, 93, 216)
    assert split.notes == ()


def test_every_answer_is_the_one_worked_out_by_other_means(rows: list[dict[str, Any]]):
    solve = script("starter.checks").solve
    wrong = [row for row in rows if solve(row["family"], row["instruction"], row["input"]) != row["output"]]
    assert wrong == []


def test_a_wrong_answer_would_be_noticed():
    solve = script("starter.checks").solve
    assert solve("sort_numbers", "Sort from smallest to largest, with commas.", "30, 4, 12") == "4, 12, 30"
    assert solve("clock_24", "How does a 24-hour clock (HH:MM) show this: 12:07 am", "") == "00:07"
    assert solve("sql", "Turn the request into SQL.", "name of users with age over 7") == (
        "SELECT name FROM users WHERE age > 7;"
    )


def test_no_row_is_the_same_or_nearly_the_same_as_one_of_another_split(rows: list[dict[str, Any]]):
    near = 0.8
    trained = [(shingles(row), row) for row in of_split(rows, "train")]
    for row in of_split(rows, "test", "validation"):
        own = shingles(row)
        for other, trained_row in trained:
            assert len(own & other) < near * len(own | other), (row, trained_row)


def test_no_prompt_is_there_twice(rows: list[dict[str, Any]]):
    prompts = Counter((row["instruction"].casefold(), row["input"].casefold()) for row in rows)
    assert [prompt for prompt, count in prompts.items() if count > 1] == []


def test_held_out_wordings_are_seen_in_test_rows_alone(rows: list[dict[str, Any]], families: dict[str, Any]):
    for row in rows:
        family = families[row["family"]]
        held_out = any(matches(wording, row["instruction"]) for wording in family.held_out_wordings)
        if not family.test_only:
            assert held_out == (row["held_out"] == "wording"), row


def matches(wording: str, instruction: str) -> bool:
    literal = wording.replace("{{", "\0").replace("}}", "\1")
    pattern = ".+".join(re.escape(part) for part in re.split(r"\{\w+\}", literal))
    return re.fullmatch(pattern.replace("\0", r"\{").replace("\1", r"\}"), instruction) is not None


def test_every_family_is_worded_in_at_least_eight_ways_two_of_them_held_out(families: dict[str, Any]):
    assert len(families) == 57
    for family in families.values():
        assert len(set(family.wordings)) == len(family.wordings) >= 8, family.name
        assert len(family.held_out_wordings) == 2, family.name


def test_held_out_families_have_test_rows_alone(rows: list[dict[str, Any]], families: dict[str, Any]):
    only = {row["family"] for row in rows} - {row["family"] for row in of_split(rows, "train", "validation")}
    assert only == {name for name, family in families.items() if family.test_only}
    assert len(only) == 6
    assert only == {row["family"] for row in rows if row["held_out"] == "family"}


def test_held_out_names_and_places_are_in_no_training_row(rows: list[dict[str, Any]]):
    pools, draw = script("starter.pools"), script("starter.family").Draw
    names = {
        name for pool in (pools.FIRST_NAMES, pools.LAST_NAMES, pools.CITIES) for name in draw(None, True).side(pool)
    }
    seen = {
        side: {word for row in of_split(rows, *side) for word in re.findall(r"[A-Z][a-z]+", row["input"])}
        for side in (("train", "validation"), ("test",))
    }
    assert names & seen["train", "validation"] == set()
    assert len(names & seen[("test",)]) > 25


def test_the_two_sides_of_a_pool_share_nothing_and_leave_nothing_out():
    draw = script("starter.family").Draw
    seen, held_out = draw(None, False).side(range(10)), draw(None, True).side(range(10))
    assert (seen, held_out) == ([0, 1, 2, 4, 5, 6, 8, 9], [3, 7])


def test_rows_are_short_enough_for_a_run_of_minutes(rows: list[dict[str, Any]]):
    lengths = [len(row["instruction"] + row["input"] + row["output"]) for row in of_split(rows, "train")]
    assert max(lengths) < 250
    assert sum(lengths) / len(lengths) < 110


def test_there_are_175_seed_tasks_in_self_instructs_form(seeds: list[dict[str, Any]]):
    assert [seed["id"] for seed in seeds] == [f"seed_task_{number}" for number in range(175)]
    assert len({seed["name"] for seed in seeds}) == 175
    for seed in seeds:
        assert list(seed) == ["id", "name", "kind", "instruction", "instances", "is_classification"]
        assert [list(instance) for instance in seed["instances"]] == [["input", "output"]]
        assert seed["instruction"].strip()
        assert seed["instances"][0]["output"].strip()


def test_seed_tasks_vary_in_kind_and_in_what_they_are_given(seeds: list[dict[str, Any]]):
    assert len({seed["kind"] for seed in seeds}) == 34
    assert sum(not seed["instances"][0]["input"] for seed in seeds) == 104
    assert sum(seed["is_classification"] for seed in seeds) == 26
    assert max(Counter(seed["instruction"].split()[0] for seed in seeds).values()) <= 10


def test_classification_seeds_have_an_input_and_an_answer_of_a_word_or_two(seeds: list[dict[str, Any]]):
    for seed in (seed for seed in seeds if seed["is_classification"]):
        (instance,) = seed["instances"]
        assert instance["input"]
        assert len(instance["output"].split()) <= 2, seed["name"]


def rouge_l(left: str, right: str) -> float:
    """ROUGE-L F of the words: 2 LCS / (m + n)."""
    words = [re.findall(r"[a-z0-9]+", text.lower()) for text in (left, right)]
    return 2 * LCSseq.similarity(*words) / sum(map(len, words))


def test_rouge_l_is_what_self_instruct_means_by_it():
    assert rouge_l("Name the largest lake.", "Name the deepest lake of all") == pytest.approx(2 * 3 / (4 + 6))


def test_no_two_seed_tasks_are_alike(seeds: list[dict[str, Any]]):
    pairs = itertools.combinations((seed["instruction"] for seed in seeds), 2)
    assert max(rouge_l(*pair) for pair in pairs) < SIMILAR


@pytest.mark.skipif(not STANFORD.exists(), reason="needs ../shared/data/alpaca/seed_tasks.jsonl")
def test_no_seed_task_is_like_one_of_stanfords(seeds: list[dict[str, Any]]):
    theirs = read(STANFORD)
    assert len(theirs) == 175
    pairs = itertools.product(seeds, theirs)
    assert max(rouge_l(ours["instruction"], other["instruction"]) for ours, other in pairs) < SIMILAR
