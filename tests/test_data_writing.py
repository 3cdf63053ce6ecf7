"""What is written reads back as equal examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacos.data import Example, Message, load_examples, write_examples
from pacos.errors import ResourceError, UsageError

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
said = text.filter(str.strip)
pairs = st.lists(st.tuples(said, said), max_size=2).map(
    lambda pairs: tuple(m for user, answer in pairs for m in (Message("user", user), Message("assistant", answer)))
)
examples = st.builds(
    Example,
    instruction=said,
    input=text,
    output=said,
    system=text,
    history=pairs,
    source=said,
    lineage=st.lists(said, max_size=2).map(tuple),
    extra=st.dictionaries(st.sampled_from(["category", "split", "n"]), st.one_of(text, st.integers(), st.none())),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(examples, min_size=1, max_size=5))
@pytest.mark.parametrize(("name", "layout"), [("a.json", "alpaca"), ("a.jsonl", "alpaca"), ("a.jsonl", "messages")])
def test_every_writer_and_reader_are_a_round_trip(
    tmp_path_factory, name: str, layout: str, rows: list[Example]
) -> None:
    path = tmp_path_factory.mktemp("round") / name
    write_examples(rows, path, layout=layout)
    assert load_examples(path).examples == rows


# Not the reader's own list: a name that a reader learns and the writer does not is to be noticed here.
NAMES = [
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "id",
    "source",
    "lineage",
    "extra",
    "instances",
    "prompt",
    "completion",
    "question",
    "query",
    "context",
    "answer",
    "response",
    "text",
    "messages",
    "conversations",
    "conversation",
    "Output",
    "Messages",
    "category",
    "split",
    "n",
]
any_text = st.one_of(st.text(max_size=8), st.just("### Human: Hi ### Assistant: No"))
any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), any_text),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)),
    max_leaves=4,
)
columns = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), any_json, max_size=6).map(
    lambda extra: json.loads(json.dumps(extra))
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.builds(replace, examples, extra=columns), min_size=1, max_size=3))
@pytest.mark.parametrize(("name", "layout"), [("a.json", "alpaca"), ("a.jsonl", "alpaca"), ("a.jsonl", "messages")])
def test_no_extra_column_changes_a_row_on_its_way_through_a_file(
    tmp_path_factory, name: str, layout: str, rows: list[Example]
) -> None:
    path = tmp_path_factory.mktemp("extra") / name
    write_examples(rows, path, layout=layout)
    read = load_examples(path).examples
    assert [(e.id, e.extra) for e in read] == [(e.id, e.extra) for e in rows]
    assert read == rows


@pytest.mark.parametrize("layout", ["alpaca", "messages"])
@pytest.mark.parametrize(
    "value",
    ["### Human: Hi ### Assistant: No", "", None, [{"role": "user", "content": "No"}], {"text": "No"}],
)
def test_each_known_name_alone_as_an_extra_column_changes_nothing(tmp_path: Path, layout: str, value: object) -> None:
    for name in NAMES:
        row = Example("Add.", "2 and 3", "5", source="s", lineage=("seed",), extra={name: value})
        write_examples([row], tmp_path / "a.jsonl", layout=layout)
        assert load_examples(tmp_path / "a.jsonl").examples == [row], name


ASKED = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}]


@pytest.mark.parametrize(
    ("row", "written"),
    [
        (
            {"messages": ASKED, "instruction": "a", "output": "b", "input": "c", "n": 1},
            {"output": "5", "n": 1, "extra": {"instruction": "a", "output": "b", "input": "c"}},
        ),
        ({"prompt": "2 + 3?", "completion": "5", "input": "c"}, {"output": "5", "extra": {"input": "c"}}),
        (
            {"question": "2 + 3?", "context": "", "answer": "5", "input": "c"},
            {"output": "5", "extra": {"input": "c"}},
        ),
        (
            {"messages": ASKED, "output": [1], "conversations": 7},
            {"output": "5", "extra": {"output": [1], "conversations": 7}},
        ),
        ({"prompt": "2 + 3?", "completion": "5", "source": 7}, {"output": "5", "extra": {"source": 7}}),
        ({"prompt": "2 + 3?", "completion": "5", "extra": {"n": 1}}, {"output": "5", "extra": {"extra": {"n": 1}}}),
    ],
)
def test_a_column_named_like_a_field_is_written_beside_the_fields(tmp_path: Path, row: dict, written: dict) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    read = load_examples(tmp_path / "a.jsonl").examples
    write_examples(read, tmp_path / "b.jsonl")
    fields = {"instruction": "2 + 3?", "input": "", "id": read[0].id, "source": "a.jsonl:1"}
    assert json.loads((tmp_path / "b.jsonl").read_text()) == {**fields, **written}
    assert load_examples(tmp_path / "b.jsonl").examples == read


def test_another_tools_extra_column_is_not_opened(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "output": "5", "text": "a", "extra": {"text": "b"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    read = load_examples(tmp_path / "a.jsonl").examples
    assert read[0].extra == {"text": "a", "extra": {"text": "b"}}
    write_examples(read, tmp_path / "b.jsonl")
    assert load_examples(tmp_path / "b.jsonl").examples == read


def test_an_extra_id_that_is_the_rows_own_survives(tmp_path: Path) -> None:
    row = Example("Add.", output="5", source="s")
    row = replace(row, extra={"id": row.id})
    write_examples([row], tmp_path / "a.jsonl")
    assert load_examples(tmp_path / "a.jsonl").examples == [row]


def test_a_column_without_a_name_survives(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",prompt,completion\n0,2 + 3?,5\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"": "### Human: Hi", "question": "2 + 3?", "answer": "5"}))
    assert load_examples(tmp_path / "a.csv").examples[0].extra == {"": "0"}
    assert load_examples(tmp_path / "b.jsonl").examples[0].extra == {"": "### Human: Hi"}


def test_alpaca_rows_look_as_other_tools_expect(tmp_path: Path) -> None:
    example = Example("Add.", "2 and 3", "5", "Be brief.", (Message("user", "Hi"), Message("assistant", "Hé")), "s:1")
    write_examples([example], tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [
        {
            "instruction": "Add.",
            "input": "2 and 3",
            "output": "5",
            "system": "Be brief.",
            "history": [["Hi", "Hé"]],
            "id": example.id,
            "source": "s:1",
        }
    ]
    write_examples([example], tmp_path / "a.jsonl", layout="messages")
    (line,) = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(m["role"], m["content"]) for m in json.loads(line)["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hé"),
        ("user", "Add.\n\n2 and 3"),
        ("assistant", "5"),
    ]


def test_an_id_of_the_files_own_survives_and_ours_is_made_anew(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "", "output": "5", "source": "s"}
    (tmp_path / "a.json").write_text(json.dumps([{**row, "id": "row_1"}, {**row, "id": Example("Add.", "", "5").id}]))
    rows = load_examples(tmp_path / "a.json").examples
    assert [e.extra for e in rows] == [{"id": "row_1"}, {}]
    write_examples(rows, tmp_path / "b.json")
    assert [row["id"] for row in json.loads((tmp_path / "b.json").read_text())] == ["row_1", rows[1].id]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv: datasets are written as \.json or \.jsonl"):
        write_examples([Example("a", output="b")], tmp_path / "a.csv")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples([Example("a", output="b")], tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"a\.json: cannot be written: No space left on device"):
        write_examples([Example("c", output="d")], tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_data_room_loads_without_torch_and_the_hub() -> None:
    heavy = "{'torch', 'transformers', 'huggingface_hub', 'pyarrow', 'datasets'}"
    code = f"import sys, pacos.data; loaded = {heavy} & set(sys.modules); sys.exit(', '.join(loaded) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
