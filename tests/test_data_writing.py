"""What is written reads back as equal examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
