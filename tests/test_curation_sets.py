"""Findings that need the whole set: duplicates, near-copies, leaks, unusual rows; and that one pass in processes is one pass."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pacos.data import Example, near_duplicate_groups, save_split
from pacos.data.curation import Options, choose_rules, curate
from pacos.data.curation.diversity import divide_lengths, verb_tree
from pacos.data.curation.ngrams import Passages, fitting_size
from pacos.data.curation.similar import clusters
from pacos.data.curation.stream import read_rows
from pacos.data.curation.verbs import verb_and_noun
from pacos.data.near import sketch
from pacos.data.split import Split
from pacos.errors import DataError

Fields = dict[str, Any]
WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "number",
    "music",
    "paper",
    "garden",
    "winter",
    "letter",
    "copper",
    "market",
    "signal",
    "forest",
    "engine",
]


def write(path: Path, rows: Sequence[Fields | str]) -> str:
    lines = (one if isinstance(one, str) else json.dumps(one) for one in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def row(instruction: str, output: str = "Fine.", **more: Any) -> Fields:
    return {"instruction": instruction, "input": "", "output": output, **more}


def text(seed: int, count: int = 20) -> str:
    """Words in an order of their own."""
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) + str(drawn.randrange(99)) for _ in range(count))


def found(name: str, rule: str, **options: Any) -> list[tuple[str, str]]:
    """(line, why) of what one rule finds."""
    survey = curate([name], Options(choose_rules([rule]), **options)).survey
    return [(finding.place.rpartition(":")[2], finding.why) for finding in survey.findings]


def test_of_equal_rows_the_first_without_faults_is_kept_and_named(tmp_path: Path) -> None:
    rows = [
        row("Name a fruit!", "An apple\u200b."),
        row("name  a fruit", "an apple."),
        row("Name a fruit!", "An apple."),
    ]
    name = write(tmp_path / "a.jsonl", [*rows, row("Name a river.")])
    result = curate([name], Options(choose_rules(["duplicate", "invisible"])))
    whys = {f.place[-1]: f.why for f in result.survey.findings if f.rule == "duplicate"}
    assert whys == {
        "3": f"the same as {name}:2, but for case, spaces or punctuation",
    }
    assert [(c.kind, c.kept, c.others) for c in result.clusters] == [("duplicate", f"{name}:2", (f"{name}:3",))]


def test_a_row_word_for_word_the_same_is_said_to_be(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [row("Name a river."), row("Name a fruit.")])
    second = write(tmp_path / "b.jsonl", [row("Name a fruit.")])
    survey = curate([first, second], Options(choose_rules(["duplicate"]))).survey
    assert [(f.place, f.number, f.why) for f in survey.findings] == [
        (f"{second}:1", 2, f"the same as {first}:2, word for word")
    ]


def test_one_prompt_with_two_answers_is_a_note_and_no_duplicate(tmp_path: Path) -> None:
    name = write(tmp_path / "a.jsonl", [row("Name a fruit.", "Apple"), row("Name a fruit.", "Pear"), row("Sing.")])
    assert found(name, "same-prompt") == [("2", f"asks the same as {name}:1, and is answered otherwise")]
    assert found(name, "duplicate") == []
    assert found(name, "near-duplicate") == []


def test_near_copies_are_found_and_how_near_is_said(tmp_path: Path) -> None:
    long = text(1, 40)
    other = " ".join([*long.split()[:-1], "else"])
    name = write(tmp_path / "a.jsonl", [row(text(2)), row(long), row(other)])
    # 38 shingles of three words each, 37 of them the same: 37 of 39
    assert found(name, "near-duplicate") == [("3", f"95% like {name}:2, which is kept")]
    assert found(name, "near-duplicate", threshold=0.96) == []


def test_rouge_l_finds_what_shingles_do_not(tmp_path: Path) -> None:
    name = write(
        tmp_path / "a.jsonl", [row("Convert 20 meters to feet please"), row("Convert 25 meters to feet please")]
    )
    assert found(name, "near-duplicate") == []
    assert found(name, "near-duplicate", rouge=True) == [("2", f"83% like {name}:1, which is kept")]


def test_clusters_of_sketches_are_the_groups_of_near_duplicate_groups() -> None:
    drawn = random.Random(3)
    texts = [text(n % 40, 30) for n in range(120)]
    texts = [" ".join(w if drawn.random() > 0.04 else "x" for w in one.split()) for one in texts]
    distinct = list(dict.fromkeys(texts))
    labels, other, alike = clusters(sketch(distinct), 0.6)
    assert labels.tolist() == near_duplicate_groups(distinct, 0.6)
    assert len(set(labels.tolist())) < len(distinct)
    assert all((other[n] >= 0) == (alike[n] >= 0.6) for n in range(len(distinct)))


def test_a_leak_is_the_same_prompt_or_nearly_or_a_passage(tmp_path: Path) -> None:
    passage = text(5, 13)
    near = text(6, 40)
    test = write(
        tmp_path / "test.jsonl", [row("Name a fruit."), row(near), row(f"Sum up: {passage} and more of it", "So.")]
    )
    train = write(
        tmp_path / "train.jsonl",
        [row("name a FRUIT", "pear"), row(" ".join([*near.split()[:-1], "x"])), row("Go on.", f"Once {passage} happened"),
         row("Go on.", " ".join(passage.split()[:12]))],
    )  # fmt: skip
    assert found(train, "leak", against=(test,), ngram=13) == [
        ("1", f"asks the same as {test}:1"),
        ("2", f"95% like {test}:2"),
        ("3", f"holds 13 words in a row of {test}:3: '{passage}'"),
    ]
    assert [line for line, _ in found(train, "leak", against=(test,), ngram=12)] == ["1", "2", "3", "4"]


def test_a_passage_in_more_than_ten_rows_is_a_set_phrase(tmp_path: Path) -> None:
    phrase = text(7, 13)
    test = write(tmp_path / "test.jsonl", [row(f"Answer: {phrase}")])
    train = write(tmp_path / "train.jsonl", [row(f"{text(20 + n)} {phrase}") for n in range(11)])
    assert found(train, "leak", against=(test,), ngram=13) == []
    assert len(found(write(tmp_path / "few.jsonl", [row(f"{text(20 + n)} {phrase}") for n in range(10)]), "leak",
                     against=(test,), ngram=13)) == 10  # fmt: skip


def test_the_test_rows_of_a_split_are_an_evaluation_set(tmp_path: Path) -> None:
    rows = [row("Name a fruit."), row("name a fruit", "pear"), row("Sing a song.")]
    name = write(tmp_path / "a.jsonl", rows)
    ids = [Example(**fields).id for fields in rows]
    train = tuple(sorted(ids[1:]))
    save_split(Split(train, (), (ids[0],), 0, 0.0, 0.3, 0.7, train_prompts=sketch(["x", "y"])), tmp_path / "split.json")
    assert found(name, "leak", split=str(tmp_path / "split.json")) == [("2", f"asks the same as {name}:1")]
    other = write(tmp_path / "b.jsonl", [row("Sing a song.")])
    with pytest.raises(DataError, match="none of its test rows is in"):
        found(other, "leak", split=str(tmp_path / "split.json"))


def test_the_size_of_a_passage_is_gpt3s() -> None:
    assert fitting_size([text(n, 3) for n in range(20)]) == 8
    assert fitting_size([text(n, 10) for n in range(20)]) == 10
    assert fitting_size([text(n, 40) for n in range(20)]) == 13


def test_a_passage_is_found_exactly_where_it_stands() -> None:
    held = text(8, 30).split()
    passages = Passages([text(9, 20), " ".join(held)], 8)
    found = passages.find(f"so {' '.join(held[5:14])} then")
    assert [(int(passages.rows[k]), int(passages.at[k])) for k in found] == [(1, 5), (1, 6)]
    assert len(passages.find(" ".join(held[:7]))) == 0
    assert len(Passages([], 8).find(text(1))) == 0


def test_lengths_and_languages_apart_from_the_set_are_notes(tmp_path: Path) -> None:
    rows = [row(f"Please name the fruit of the day, and say what it is: {n}", text(n, 12 + n % 5)) for n in range(40)]
    rows += [row("Bitte nenne die Frucht des Tages und sage auch, was das für eine ist", text(90, 12))]
    rows += [row("Please name the fruit of the day, and say what it is now", text(91, 3000))]
    name = write(tmp_path / "a.jsonl", rows)
    assert found(name, "length") == [("42", "the output has 3,000 words; the median is 14")]
    assert found(name, "language") == [("41", "the instruction is in 'de'; 41 of 42 are in 'en'")]


def test_malformed_rows_are_findings_and_reading_goes_on(tmp_path: Path) -> None:
    name = write(tmp_path / "a.jsonl", [row("One."), "{broken", row("Two."), {"instruction": 3, "output": "x"}, "[1]"])
    rows = list(read_rows([name]))
    assert [(r.number, r.place.rpartition(":")[2], r.example is not None) for r in rows] == [
        (0, "1", True), (1, "2", False), (2, "3", True), (3, "4", False), (4, "5", False),
    ]  # fmt: skip
    assert rows[1].raw == "{broken"
    assert found(name, "malformed") == [
        (
            "2",
            "not valid JSON at column 2: Expecting property name enclosed in double quotes; give one JSON object a line",
        ),
        ("4", "'instruction' is a number (3); give it text"),
        ("5", "the row is a list; give an object with named columns"),
    ]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_rows_are_those_of_load_examples(tmp_path: Path, suffix: str) -> None:
    from pacos.data import load_examples

    rows = [row(f"Say {n}.", split="train", n=n) for n in range(5)]
    path = tmp_path / f"a{suffix}"
    path.write_text(json.dumps(rows, indent=1) if suffix == ".json" else "\ufeff" + "\n\n".join(map(json.dumps, rows)))
    assert [r.example for r in read_rows([str(path)])] == load_examples(path).examples


def test_processes_change_nothing(tmp_path: Path) -> None:
    rows = [row(f"{text(n % 2500)} {n % 7}", "" if n % 100 == 0 else text(n)) for n in range(3100)]
    name = write(tmp_path / "a.jsonl", rows)
    one, two = (curate([name], Options(workers=workers)) for workers in (1, 2))
    assert list(one.survey.findings) == list(two.survey.findings)
    assert one.to_json() == two.to_json()
    assert one.survey.findings.counts["empty-output"] == 31
    assert np.array_equal(one.survey.sketches.values, two.survey.sketches.values)


@pytest.mark.parametrize(
    ("instruction", "pair"),
    [
        ("Write a short story about a cat.", ("write", "story")),
        ("Generate a list of ten verbs", ("generate", "list")),
        ("Identify the odd one out.", ("identify", "odd")),
        ("Could you please describe the following picture in detail?", ("describe", "picture")),
        ("Given a text, summarize the main points.", ("summarize", "point")),
        ("Explain how the moon moves.", ("explain", "")),
        ("What is the capital of France?", ("", "")),
        ("Name three countries", ("name", "country")),
        ("", ("", "")),
    ],
)  # fmt: skip
def test_the_root_verb_and_its_noun(instruction: str, pair: tuple[str, str]) -> None:
    assert verb_and_noun(instruction) == pair


def test_the_tree_holds_the_commonest_in_order() -> None:
    from collections import Counter

    pairs = Counter({("write", "story"): 3, ("write", "poem"): 3, ("name", "river"): 4, ("write", ""): 1})
    assert verb_tree(pairs) == (
        ("write", 7, (("poem", 3), ("story", 3))),
        ("name", 4, (("river", 4),)),
    )


def test_lengths_fall_into_bins_that_double() -> None:
    assert divide_lengths(np.array([0, 1, 2, 3, 4, 7, 8, 10**6]))[:5] == (1, 1, 2, 2, 1)
    assert sum(divide_lengths(np.array([0, 5, 10**6]))) == 3
