"""Requests: they follow from their number, name the seeds they show, and say what is asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacos.data import Example, make_split
from pacos.errors import DataError, UsageError
from pacos.self_instruct import AnswerRequests, EvolveRequests, TaskRequests, read_instructions, read_seeds
from pacos.self_instruct.requests import as_task
from pacos.self_instruct.wording import PLACES, WAYS, Wording, packaged, read_wording

SEEDS = [Example(f"Seed instruction {n}", "", f"answer {n}", lineage=(f"seed_{n}",)) for n in range(23)]


def requests(**changes: object) -> TaskRequests:
    settings = {"num_tasks": 20, "num_examples": 3, "family": 5, "seed": 0, **changes}
    return TaskRequests(SEEDS, packaged("list"), **settings)  # type: ignore[arg-type]


def test_the_175_seeds_come_along_and_each_names_itself() -> None:
    seeds = read_seeds("seeds")
    assert len(seeds) == 175
    assert seeds[0].lineage == ("seed_task_0",)


def test_a_request_shows_its_seeds_and_asks_for_the_numbers_after_them() -> None:
    request = requests().request(7)
    shown = [seed for seed in SEEDS if seed.lineage[0] in request.lineage]
    assert len(shown) == len(request.lineage) == 3
    assert all(as_task(seed, n) in request.text for n, seed in zip(numbers_of(request.text, shown), shown, strict=True))
    assert "Go on with the tasks 4 to 23," in request.text
    assert "Write 20 new tasks" in request.text
    assert (request.first, request.num_tasks) == (4, 20)
    assert "{{" not in request.text


def numbers_of(text: str, shown: list[Example]) -> list[int]:
    return [next(n for n in (1, 2, 3) if f"{n}. Instruction: {seed.instruction}\n" in text) for seed in shown]


def test_a_request_follows_from_its_number_and_differs_from_the_others() -> None:
    one, other = [[r.request(n) for n in range(40)] for r in (requests(), requests())]
    assert one == other
    assert len({request.text for request in one}) > 35
    assert requests(seed=1).request(0) != one[0]


def test_families_share_no_seed_and_take_turns() -> None:
    source = requests()
    assert sorted(len(family) for family in source.families) == [5, 6, 6, 6]
    assert sorted(s.lineage for family in source.families for s in family) == sorted(s.lineage for s in SEEDS)
    turns = Counter(frozenset(_family_of(source, source.request(n).lineage)) for n in range(40))
    assert set(turns.values()) == {10}


def _family_of(source: TaskRequests, lineage: tuple[str, ...]) -> set[int]:
    return {n for n, family in enumerate(source.families) for seed in family if seed.lineage[0] in lineage}


def test_any_seeds_stand_together_where_families_are_off() -> None:
    assert [len(family) for family in requests(family=0).families] == [23]


def test_a_split_can_divide_the_rows_of_the_packaged_seeds() -> None:
    source = TaskRequests(read_seeds("seeds"), packaged("list"), num_tasks=20, num_examples=3, family=5)
    rows = [
        Example(f"{n} {m} unlike {n * m}", "", "x", lineage=source.request(n).lineage)
        for n in range(120)
        for m in range(8)
    ]
    split = make_split(rows, validation_share=0.03, test_share=0.05, seed=42, near_threshold=0.8)
    side, families = split.side_of(), source.families
    for family in families:
        names = {seed.lineage[0] for seed in family}
        assert len({side[row.id] for row in rows if names & set(row.lineage)}) == 1
    assert 0.01 < len(split.test) / len(rows) < 0.2
    assert 0.01 < len(split.validation) / len(rows) < 0.2


def test_a_row_and_the_seed_it_came_from_stay_on_one_side() -> None:
    parents = [Example(f"parent {n} about {n * 7919}", "", "x") for n in range(40)]
    children = [Example(f"child of number {n}: {n * 104729}", "", "y", lineage=(p.id,)) for n, p in enumerate(parents)]
    split = make_split([*parents, *children], validation_share=0.1, test_share=0.2, seed=1, near_threshold=0.8)
    side = split.side_of()
    assert all(side[child.id] == side[child.lineage[0]] for child in children)
    assert len(split.test) >= 4


def test_more_examples_than_a_family_has_are_refused() -> None:
    with pytest.raises(
        UsageError, match="--examples 6: a request takes its examples from a family of 5 of the 23 seeds"
    ):
        requests(num_examples=6)


def test_domains_take_turns_and_stand_in_the_request_and_the_rows() -> None:
    source = requests(domains=("cooking", "law"))
    assert [source.request(n).extra["domain"] for n in range(4)] == ["cooking", "law", "cooking", "law"]
    assert "every task is about this subject: law" in source.request(1).text
    assert "subject:" not in requests().request(1).text


def test_evolving_asks_for_every_row_in_every_way() -> None:
    rows = SEEDS[:4]
    source = EvolveRequests(rows, {way: packaged(way) for way in WAYS})
    assert source.total == 12
    made = [source.request(n) for n in range(12)]
    assert {(r.extra["parent"], r.extra["way"]) for r in made} == {(row.id, way) for row in rows for way in WAYS}
    assert made[1].extra == {"way": "deeper", "parent": rows[1].id}
    assert made[1].lineage == rows[1].lineage
    assert as_task(rows[1], 1) in made[1].text


def test_an_instruction_is_asked_as_it_is() -> None:
    source = AnswerRequests([Example("Add.", "2 and 3"), Example("Sing.")], packaged("answer"))
    assert [source.request(n).text for n in range(2)] == ["Add.\n\n2 and 3", "Sing."]
    assert source.request(0).lineage == (source.rows[0].id,)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 5), st.integers(1, 30))
def test_any_request_can_be_made_at_once(number: int, num_examples: int, num_tasks: int) -> None:
    request = requests(num_examples=num_examples, num_tasks=num_tasks).request(number)
    assert len(request.lineage) == max(1, num_examples)
    assert request.text.count("###\n") >= num_examples


def test_the_texts_that_come_along_have_all_their_places() -> None:
    for name, places in PLACES.items():
        assert packaged(name).has >= set(places) - {"tasks", "last"}


def test_a_text_with_an_unknown_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Write {{taks}} tasks.")
    with pytest.raises(
        UsageError, match=r"p.txt: unknown place \{\{taks\}\}; did you mean 'tasks'\?; known here: \{\{tasks\}\},"
    ):
        read_wording(tmp_path / "p.txt", "list")


def test_a_text_without_a_place_for_what_is_asked_is_refused() -> None:
    wording = Wording("Write {{tasks}} tasks.", PLACES["list"], "p.txt")
    with pytest.raises(UsageError, match=r"p.txt: has no place \{\{examples\}\}; add it, or run with --examples 0"):
        TaskRequests(SEEDS, wording, num_tasks=2, num_examples=3, family=5)
    with pytest.raises(UsageError, match=r"p.txt: has no place \{\{domain\}\}; add it, or run with no --domain"):
        TaskRequests(SEEDS, wording, num_tasks=2, num_examples=0, family=5, domains=("law",))


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert Wording("{{task}}", ("task", "first"), "x").fill(task="say {{first}}", first="9") == "say {{first}}"


def test_instructions_are_read_from_lines_and_rows_each_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Sing a song.\n\nName a river.\nSing a song.\n")
    rows = [{"prompt": "Sing."}, {"instruction": "Add.", "input": "2, 3", "output": "old", "lineage": ["s1"]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [e.instruction for e in read_instructions(str(tmp_path / "a.txt"))] == ["Sing a song.", "Name a river."]
    assert read_instructions(str(tmp_path / "a.jsonl")) == [Example("Sing."), Example("Add.", "2, 3", lineage=("s1",))]


def test_rows_without_an_instruction_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "Sing."}\n{"text": "x"}\n')
    with pytest.raises(
        DataError, match=r"1 of 2 rows have no instruction\n.*a\.jsonl:2: no text in instruction, prompt"
    ):
        read_instructions(str(tmp_path / "a.jsonl"))
