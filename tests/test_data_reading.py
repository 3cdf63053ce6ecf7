"""Files in every layout and kind become the same examples."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from pacos.data import Example, Message, load_examples
from pacos.errors import UsageError

shared_data = Path(__file__).resolve().parents[2] / "shared" / "data"
ALPACA = shared_data / "alpaca" / "alpaca_data.json"
needs_alpaca = pytest.mark.skipif(not ALPACA.exists(), reason="needs ../shared/data/alpaca/alpaca_data.json")
ROW = {"instruction": "Add.", "input": "2 and 3", "output": "5"}


def read_rows(folder: Path, rows: list, name: str = "a.json", **options):
    path = folder / name
    lines = json.dumps(rows) if name.endswith(".json") else "\n".join(json.dumps(row) for row in rows)
    path.write_text(lines, encoding="utf-8")
    return load_examples(path, **options)


@pytest.mark.parametrize(
    ("row", "layout", "expected"),
    [
        (ROW, "alpaca", Example("Add.", "2 and 3", "5")),
        ({"instruction": "Add.", "context": "2 and 3", "response": "5"}, "alpaca", Example("Add.", "2 and 3", "5")),
        ({"Instruction": "Add.", "Response": "5"}, "alpaca", Example("Add.", "", "5")),
        ({"instruction": "Add.", "input": None, "output": "5"}, "alpaca", Example("Add.", "", "5")),
        ({"prompt": "Add 2 and 3.", "completion": "5"}, "prompt/completion", Example("Add 2 and 3.", "", "5")),
        ({"question": "2 + 3?", "answer": "#### 5"}, "question/answer", Example("2 + 3?", "", "#### 5")),
        ({"input": "2 + 3?", "output": "5"}, "input/output", Example("2 + 3?", "", "5")),
        (
            {"text": "### Human: Hi ### Assistant: Hello ### Human: 2 + 3?### Assistant: 5"},
            "transcript",
            Example("2 + 3?", "", "5", history=(Message("user", "Hi"), Message("assistant", "Hello"))),
        ),
        (
            {"input": "### Human: 2 + 3? ### Assistant:", "output": "It is 5."},
            "transcript",
            Example("2 + 3?", "", "It is 5."),
        ),
        (
            {"instruction": "Add.", "output": "5", "system": "Be brief.", "history": [["Hi", "Hello"]]},
            "alpaca",
            Example("Add.", "", "5", "Be brief.", (Message("user", "Hi"), Message("assistant", "Hello"))),
        ),
    ],
)
def test_flat_layouts_are_told_from_their_columns(tmp_path: Path, row: dict, layout: str, expected: Example) -> None:
    data = read_rows(tmp_path, [row])
    assert data.format == f"{layout} JSON"
    assert [(e.id, e.extra, e.source) for e in data.examples] == [(expected.id, {}, "a.json:1")]
    assert data.examples[0].messages == expected.messages


TURNS = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 3?"), ("assistant", "5")]


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"messages": [{"role": role, "content": text} for role, text in TURNS]}, "messages"),
        ({"messages": [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in TURNS]}, "messages"),
        ({"messages": [{"role": r, "content": [{"type": "text", "value": t}]} for r, t in TURNS]}, "messages"),
        (
            {
                "conversations": [
                    {"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text}
                    for role, text in TURNS
                ]
            },
            "sharegpt",
        ),
        (
            {
                "prompt": [{"role": role, "content": text} for role, text in TURNS[:-1]],
                "completion": [{"role": "assistant", "content": "5"}],
            },
            "messages",
        ),
    ],
)
def test_conversations_become_history_question_and_answer(tmp_path: Path, row: dict, layout: str) -> None:
    data = read_rows(tmp_path, [row], "a.jsonl")
    assert data.format == f"{layout} JSONL"
    expected = Example(
        "2 + 3?", "", "5", "Be brief.", (Message("user", "Hi"), Message("assistant", "Hello")), "a.jsonl:1"
    )
    assert data.examples == [expected]


def test_seed_tasks_give_one_example_an_instance_with_the_task_as_lineage(tmp_path: Path) -> None:
    instances = [{"input": "2", "output": "4"}, {"input": "3", "output": "9"}]
    data = read_rows(tmp_path, [{"id": "seed_task_7", "instruction": "Square.", "instances": instances}], "a.jsonl")
    assert [(e.instruction, e.input, e.output, e.lineage) for e in data.examples] == [
        ("Square.", "2", "4", ("seed_task_7",)),
        ("Square.", "3", "9", ("seed_task_7",)),
    ]
    assert data.examples[0].extra == {"id": "seed_task_7"}


def test_unknown_columns_survive_and_source_and_lineage_are_taken(tmp_path: Path) -> None:
    row = {**ROW, "category": "sum", "split": "test", "source": "by hand", "lineage": ["s1", "s2"], "id": 7}
    (example,) = read_rows(tmp_path, [row]).examples
    assert example.extra == {"category": "sum", "split": "test", "id": 7}
    assert (example.source, example.lineage) == ("by hand", ("s1", "s2"))


def test_rows_of_an_array_are_named_by_the_line_they_start_on(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ROW, ROW, ROW], indent=2), encoding="utf-8")
    assert [e.source for e in load_examples(path).examples] == ["a.json:2", "a.json:7", "a.json:12"]


def test_jsonl_under_a_json_name_and_rows_under_a_key_are_read(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(f"{json.dumps(ROW)}\n{json.dumps(ROW)}\n", encoding="utf-8")
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": [ROW, ROW]}, indent=1), encoding="utf-8")
    (tmp_path / "single.json").write_text(json.dumps(ROW, indent=1), encoding="utf-8")
    lines, wrapped, single = (load_examples(tmp_path / f"{name}.json") for name in ("lines", "wrapped", "single"))
    assert (lines.format, len(lines.examples)) == ("alpaca JSONL", 2)
    assert (wrapped.format, len(wrapped.examples)) == ("alpaca JSON", 2)
    assert (single.format, len(single.examples)) == ("alpaca JSON", 1)


def test_a_byte_order_mark_and_a_line_separator_in_text_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + json.dumps({**ROW, "output": "one\u2028two"}, ensure_ascii=False), encoding="utf-8")
    assert load_examples(path).examples[0].output == "one\u2028two"


def test_csv_keeps_line_breaks_commas_and_long_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = "x" * 200_000
    path.write_text(f'Question,Answer,level\n"a, b\nc",{long},1\n2 + 3?,5,2\n', encoding="utf-8")
    data = load_examples(path)
    assert data.format == "question/answer CSV"
    assert [(e.instruction, e.output, e.source, e.extra) for e in data.examples] == [
        ("a, b\nc", long, "a.csv:2", {"level": "1"}),
        ("2 + 3?", "5", "a.csv:4", {"level": "2"}),
    ]


def test_tab_separated_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("prompt\tcompletion\nHi, you\tHello\n", encoding="utf-8")
    data = load_examples(tmp_path / "a.tsv")
    assert (data.format, data.examples[0].instruction) == ("prompt/completion TSV", "Hi, you")


def test_parquet_rows_equal_the_json_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    parquet.write_table(pa.Table.from_pylist([{"messages": messages, "n": 1}] * 3), tmp_path / "a.parquet")
    data = load_examples(tmp_path / "a.parquet")
    assert data.format == "messages Parquet"
    assert data.examples[2] == Example("Hi", "", "Hello", source="a.parquet:3", extra={"n": 1})


def test_a_folder_is_read_whole_and_files_named_after_sides_declare_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW), encoding="utf-8")
    (tmp_path / "deep" / "test.csv").write_text("question,answer\nq,a\n", encoding="utf-8")
    (tmp_path / ".hidden.jsonl").write_text("{", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no data", encoding="utf-8")
    data = load_examples(tmp_path)
    assert data.format == "question/answer CSV + alpaca JSONL"
    assert [(e.source, e.extra["split"]) for e in data.examples] == [
        ("deep/test.csv:2", "test"),
        ("train.jsonl:1", "train"),
    ]


def test_a_folder_of_other_names_declares_nothing(tmp_path: Path) -> None:
    for name in ("train", "more"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(ROW), encoding="utf-8")
    data = load_examples(tmp_path)
    assert ([e.extra for e in data.examples], data.duplicates) == ([{}, {}], 1)


def test_the_hash_is_of_the_bytes_and_a_limit_takes_the_first_sound_rows(tmp_path: Path) -> None:
    rows = [{**ROW, "output": "" if n == 1 else str(n)} for n in range(5)]
    data = read_rows(tmp_path, rows, limit=3)
    assert [e.output for e in data.examples] == ["0", "2", "3"]
    assert data.left_out == [f"{tmp_path}/a.json:1 (row 2): the output is blank, so there is nothing to learn"]
    assert data.sha256 == hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()


def test_the_starter_set_is_found_in_the_package() -> None:
    data = load_examples("starter")
    assert len(data.examples) >= 1200
    assert (data.problems, data.left_out, data.duplicates) == ([], [], 0)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "alpaca_data.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match=r"no such file; did you mean .*/alpaca_data\.json\?"):
        load_examples(tmp_path / "alpacadata.json")
    with pytest.raises(UsageError, match=r"the folder .*/nowhere does not exist"):
        load_examples(tmp_path / "nowhere" / "a.json")
    with pytest.raises(UsageError, match="no such file; the folder data does not exist"):
        load_examples("data/train.jsonl")


def test_a_folder_without_data_is_asked_wrongly(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder without data"):
        load_examples(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[]", encoding="utf-8")
    path.chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        load_examples(path)


@needs_alpaca
def test_alpaca_reads_whole_with_its_28_blank_outputs_named() -> None:
    started = time.process_time()
    data = load_examples(ALPACA)
    assert time.process_time() - started < 3
    assert (len(data.examples), len(data.left_out), data.problems) == (51_974, 28, [])
    assert data.left_out[0] == f"{ALPACA}:1422 (row 285): the output is blank, so there is nothing to learn"
    first = load_examples(ALPACA, limit=2000)
    assert (len(first.examples), len(first.left_out)) == (2000, 4)


@pytest.mark.skipif(not (shared_data / "formats").exists(), reason="needs ../shared/data/formats")
@pytest.mark.parametrize(
    ("name", "layout", "examples", "problems"),
    [
        ("formats/alpaca_en_demo.json", "alpaca JSON", 999, 0),
        ("formats/glaive_toolcall_en_demo.json", "sharegpt JSON", 147, 153),
        ("formats/sharegpt_conversations.json", "sharegpt JSON", 500, 0),
        ("formats/v1_sft_demo.jsonl", "messages JSONL", 500, 0),
        ("dolly/dolly_3k.json", "alpaca JSON", 2996, 0),
        ("gsm8k/train.jsonl", "question/answer JSONL", 7473, 0),
        ("oasst/oa_questions.jsonl", "transcript JSONL", 953, 0),
        ("self_instruct/user_oriented_instructions.jsonl", "seed tasks JSONL", 252, 0),
        ("alpaca/seed_tasks.jsonl", "seed tasks JSONL", 175, 0),
    ],
)
def test_real_files_are_read_sensibly(name: str, layout: str, examples: int, problems: int) -> None:
    data = load_examples(shared_data / name, skip_bad=True)
    assert (data.format, len(data.examples), len(data.problems)) == (layout, examples, problems)
