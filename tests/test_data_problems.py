"""What is wrong with a file is said whole: where, what, and what to do. Never a traceback."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pacos.data import load_examples
from pacos.errors import DataError, UsageError

GOOD = {"instruction": "Add.", "input": "", "output": "5"}


def write(folder: Path, content: Any, name: str = "a.jsonl") -> Path:
    path = folder / name
    if isinstance(content, list):
        content = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"input": "", "output": "5"}, "'instruction' is missing; give it text"),
        ({**GOOD, "instruction": " \n"}, "'instruction' is blank; give it text"),
        ({"instruction": "Add.", "input": ""}, "'output' is missing; give it text"),
        ({**GOOD, "output": None}, "'output' is empty (null); give it text"),
        ({**GOOD, "output": 5}, "'output' is a number (5); give it text"),
        ({**GOOD, "input": ["a"]}, "'input' is a list; give it text"),
        ({**GOOD, "input": True}, "'input' is true or false (true); give it text"),
        ({**GOOD, "system": {}}, "'system' is an object; give it text"),
        ({**GOOD, "instruction": "a\0b"}, "'instruction' has a NUL character at 2; remove it"),
        (
            {**GOOD, "output": "ab\ud83d"},
            "'output' has a lone surrogate \\ud83d at 3; it is half a character: remove it",
        ),
        ({**GOOD, "history": [["Hi"]]}, "'history' is not a list of [question, answer] pairs"),
        (
            {"instruction": "", "output": 1},
            "'instruction' is blank; give it text; 'output' is a number (1); give it text",
        ),
        ('{"instruction": "Add."', "not valid JSON at column 23: expecting ',' delimiter; give one JSON object a line"),
        ("[1]", "the row is a list; give an object with named columns"),
        ("[" * 100_000, "not valid JSON: nested too deeply; give one JSON object a line"),
    ],
)
def test_a_bad_row_is_named_with_line_and_remedy(tmp_path: Path, row: Any, problem: str) -> None:
    path = write(tmp_path, [GOOD, row, GOOD])
    with pytest.raises(DataError) as caught:
        load_examples(path)
    assert caught.value.problems == (f"{path}:2: {problem}",)
    skipped = load_examples(path, skip_bad=True)
    assert (len(skipped.examples), skipped.problems) == (2, [f"{path}:2: {problem}"])


def turns(*roles: str) -> dict:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            turns("user", "user", "assistant"),
            "has the turns user, user, assistant; give user and assistant in alternation",
        ),
        (turns("assistant", "user", "assistant"), "has the turns assistant, user, assistant; give user and assistant"),
        (
            turns("user", "assistant", "user"),
            "has the turns user, assistant, user; give user and assistant in alternation",
        ),
        (turns("user", "system", "assistant"), "has the turns user, system, assistant; give user and assistant"),
        (turns("user"), "has no assistant turn; add the answer"),
        (turns("system"), "has no assistant turn; add the answer"),
        (
            turns("user", "tool", "assistant"),
            "has turns by 'tool', a role that no template has (accepted: system, user,",
        ),
        ({"messages": []}, "'messages' is an empty list; give a list of turns"),
        ({"messages": "hi"}, "'messages' is text ('hi'); give a list of turns"),
        ({"messages": ["hi"]}, "turn 1 is text ('hi'); give an object with role and content"),
        ({"messages": [{"role": "user", "content": None}]}, "'turn 1' is empty (null); give it text"),
        (
            {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "x"}]},
            "has blank text in user turn 1; give it text",
        ),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
            "turn 1 calls a tool, which no template has; give the answer as text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]},
            "turn 1 has a part of type 'image_url'; only text can be trained on",
        ),
    ],
)
def test_a_bad_conversation_is_named_with_the_turn(tmp_path: Path, row: dict, problem: str) -> None:
    path = write(tmp_path, [turns("user", "assistant"), row])
    with pytest.raises(DataError) as caught:
        load_examples(path)
    (found,) = caught.value.problems
    assert found.startswith(f"{path}:2: {problem}")


def test_all_bad_rows_are_kept_and_the_first_twenty_shown(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD, *[{**GOOD, "output": n} for n in range(30)]])
    with pytest.raises(DataError) as caught:
        load_examples(path)
    assert len(caught.value.problems) == 30
    assert str(caught.value).splitlines()[0] == (
        f"{path}: 30 of the 31 rows read cannot be used; mend them, "
        "or leave them out (for training: --set data.skip_bad_rows=true)"
    )
    assert str(caught.value).splitlines()[-1] == "  and 10 more"
    assert len(str(caught.value).splitlines()) == 22


def test_a_blank_output_is_left_out_and_named_not_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD, {**GOOD, "output": " \n"}, GOOD])
    data = load_examples(path)
    assert data.left_out == [f"{path}:2: the output is blank, so there is nothing to learn"]
    assert (len(data.examples), data.problems, data.duplicates) == (2, [], 1)


def test_a_file_of_blank_outputs_alone_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, [{**GOOD, "output": ""}])
    with pytest.raises(DataError, match="no row can be used") as caught:
        load_examples(path)
    assert caught.value.problems == (f"{path}:1: the output is blank, so there is nothing to learn",)


def test_a_problem_within_the_limit_is_reported_and_one_beyond_is_not_looked_for(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD, GOOD, {**GOOD, "output": 1}, GOOD])
    assert len(load_examples(path, limit=2).examples) == 2
    with pytest.raises(DataError, match=r"1 of the 4 rows read"):
        load_examples(path, limit=3)


ARRAY = json.dumps([GOOD] * 3, indent=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            ARRAY[:-30],
            "(row 3): not valid JSON (unterminated string starting at), after 2 whole rows; the file",
        ),
        (
            "a.json",
            ARRAY[:-2],
            "(row 3): not valid JSON (expected ',' or ']' after the row), after 3 whole rows; the file",
        ),
        (
            "a.json",
            "[",
            "a.json:1 (row 1): not valid JSON (expecting value), after 0 whole rows; the file seems cut off",
        ),
        ("a.json", '[{"a": 1},]', "(row 2): not valid JSON (expecting value), after 1 whole rows"),
        ("a.json", "[]", "is an empty array; give a file with rows"),
        ("a.json", "[1, 2]\n[3]", "a.json:2: '[3]' follows the array; keep one array in a file"),
        ("a.json", "", "is empty; give a file with rows"),
        ("a.json", " \n", "is empty; give a file with rows"),
        ("a.json", "\ufeff", "is empty; give a file with rows"),
        ("a.json", "hello", "starts with 'hello'; give JSON, JSONL, CSV, TSV or Parquet"),
        (
            "a.json",
            b'[\n{"instruction": "caf\xe9"}]',
            "a.json:2: byte 0xe9 at offset 22 is not UTF-8; save the file as UTF-8",
        ),
        ("a.json", ARRAY.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.json", gzip.compress(ARRAY.encode(), mtime=0), "is gzip-compressed; unpack it first (gunzip)"),
        ("a.json", b"PK\x03\x04rest", "is a zip archive; unpack it first (unzip)"),
        ("a.json", b"\x7fELF\0\0\0", "is a binary file; give JSON, JSONL, CSV, TSV or Parquet"),
        ("a.json", "[" * 100_000, "not valid JSON (nested too deeply), after 0 whole rows"),
        (
            "a.json",
            json.dumps([{"instuction": "a", "ouput": "b"}]),
            "('instuction'; did you mean 'instruction'?, 'ouput'",
        ),
        ("a.json", "[1, 2]", "2 of the 2 rows read cannot be used"),
        ("a.csv", "question,answer,question\na,b,c\n", "a.csv:1: column 'question' appears twice in the header"),
        ("a.csv", 'question,answer\n"a,b\n', "a.csv:2: not valid CSV: unexpected end of data; mend the quotes"),
        ("a.csv", "question,answer\na,b,c\n", "a.csv:2: has 3 columns, the header 2; quote cells with commas"),
        ("a.csv", "question,answer\n", "no row can be used"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_examples(write(tmp_path, content, name))
    assert message in str(caught.value)


def test_a_parquet_file_cut_short_is_one_error(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    parquet.write_table(pa.Table.from_pylist([GOOD] * 3), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(DataError, match=r"not a whole Parquet file: .*; fetch or write it again"):
        load_examples(write(tmp_path, whole[:-20], "b.parquet"))
    with pytest.raises(DataError, match="not a whole Parquet file"):
        load_examples(write(tmp_path, whole[:30] + b"\xff" * 60 + whole[90:], "c.parquet"))
    parquet.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        load_examples(tmp_path / "d.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"reading Parquet needs pyarrow; run: pip install 'pacos\[hub\]'"):
        load_examples(write(tmp_path, b"PAR1....PAR1", "a.parquet"))
